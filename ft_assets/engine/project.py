"""A project: the data folder, the storage, and the one way an artifact is made.

Importable without Dagster, so that the build loop can be run and tested alone.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path

from ft_assets.children import here
from ft_assets.config import FineTuneConfig
from ft_assets.engine.asset_settings import (
    means_of,
    reads_any,
    settings_read,
    settings_version,
    shaping,
)
from ft_assets.engine.data_folder import SETTLE_SECONDS, ChangedError, DataFolder, files_version
from ft_assets.engine.freshness import AssetState, fingerprint, own_causes, plan
from ft_assets.engine.graph import CORPUS_FILES, GRAPH, finish_stage, prepare_stage, run_stage
from ft_assets.engine.lease import IsOver, Lease
from ft_assets.engine.storage import DamagedError, Storage
from ft_assets.engine.verdicts import naming_files
from ft_assets.errors import StageError
from ft_assets.manifest import FileDigest, Manifest
from ft_assets.stages.job import Job, Outcome, Previous, Report
from ft_assets.tables import values

RunStage = Callable[[Job], Outcome]
"""Runs a job to its end, wherever that is."""
OnLine = Callable[[str, str], None]
"""Takes an asset and a line of progress of its stage, if that runs in this process."""
Describe = Callable[[str], str]
"""Gives a run in words, by its id."""

_REASONS = 5
_LOOK_BACK = 16
"""Earlier versions that are looked at for something to reuse."""


@dataclass(frozen=True)
class Made:
    """What became of an asset: its current manifest and its folder, and whether it was there before."""

    manifest: Manifest
    folder: Path
    reused: bool
    seconds: float


class Project(DataFolder):
    """The corpora in `data` and their artifacts in `storage`."""

    def __init__(
        self,
        data: Path,
        storage: Path,
        on_made: Callable[[Made], None] | None = None,
        settle_seconds: float = SETTLE_SECONDS,
        on_line: OnLine | None = None,
        on_notice: OnLine | None = None,
    ):
        super().__init__(data, storage / ".cache", settle_seconds)
        self.storage = Storage(storage)
        self._on_made = on_made or (lambda made: None)
        self._on_line = on_line or (lambda asset, line: None)
        self.notice = on_notice or (lambda asset, line: None)
        """Takes what is worth knowing of an asset before it is made, as that it is waited for."""

    @classmethod
    def from_environment(
        cls,
        on_made: Callable[[Made], None] | None = None,
        settle_seconds: float = SETTLE_SECONDS,
        on_line: OnLine | None = None,
        on_notice: OnLine | None = None,
    ) -> "Project":
        """The project that `FT_ASSETS_DATA` and `FT_ASSETS_STORAGE` name (`./data`, `./storage`)."""
        data = here() / os.environ.get("FT_ASSETS_DATA", "data")
        storage = here() / os.environ.get("FT_ASSETS_STORAGE", "storage")
        return cls(data, storage, on_made, settle_seconds, on_line, on_notice)

    def status(self, corpus: str) -> dict[str, AssetState]:
        """The state of each asset of a corpus. Raises UserError for settings that are wrong."""
        self.require(corpus)
        config = self.config(corpus)
        manifests: dict[str, Manifest | None] = {}
        damaged: dict[str, str] = {}
        for asset in GRAPH:
            try:
                manifest = self.storage.current(corpus, asset)
                manifests[asset] = manifest and naming_files(self.storage, manifest)
            except DamagedError as error:
                manifests[asset], damaged[asset] = None, str(error)
        settings = {asset: settings_read(self, corpus, asset, config) for asset in GRAPH}
        return plan(manifests, self.files(corpus), settings, self._paths_of, damaged)

    def _paths_of(self, manifest: Manifest) -> dict[str, str] | None:
        try:
            table = self.storage.sources_table(manifest, ["path", "document_id"])
            paths, ids = (values(table, name) for name in ("path", "document_id"))
            return dict(zip(paths, ids, strict=True))
        except DamagedError:
            return None

    def settings_version(self, corpus: str, asset: str, config: FineTuneConfig) -> str:
        """The version of the observed source `settings/<asset>`."""
        return settings_version(settings_read(self, corpus, asset, config))

    def observed(self, corpus: str, seconds: float | None = None) -> dict[str, str]:
        """The version of each observed source: `corpus_files` and the settings of each asset.

        Raises SlowError as `files` does.
        """
        config = self.config(corpus)
        versions = {CORPUS_FILES: files_version(self.files(corpus, seconds))}
        for asset in filter(reads_any, GRAPH):
            versions[f"settings/{asset}"] = self.settings_version(corpus, asset, config)
        return versions

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
        describe: Describe = lambda run_id: f"run {run_id or '(none)'}",
        may_spend: bool = True,
    ) -> Made:
        """Makes one asset, unless its fingerprint is unchanged, and publishes it.

        `run` runs the job, by default in this process; what the stage prepares and finishes is always done
        in this one. With `reuse_only` nothing is made:
        StageError if something would have to be. `settled` is the version of `corpus_files` that
        is asked for: if the files have changed since, it waits until they settle.
        Without `may_spend` no request that costs money is sent: WaitingError if one would be.
        `is_over` tells runs that came to their end: a process of one that lives on is passed by;
        `describe` puts the run that is waited for in words.
        Raises UserError and StageError; whatever happens, what was current before stays so until a
        whole artifact replaces it.
        """
        self.require(corpus)
        began = time.monotonic()

        def say(line: str) -> None:
            report(line)
            self._on_line(asset, line)

        def notice(line: str) -> None:
            report(line)
            self.notice(asset, line)

        run = run or partial(run_stage, report=say)
        request = _Request(
            corpus,
            asset,
            run,
            say,
            notice,
            run_id,
            is_over,
            describe,
            force,
            reuse_only,
            settled,
            may_spend,
        )
        manifest, reused = self._make_settled(request)
        folder = self.storage.folder(corpus, asset, manifest.version)
        made = Made(manifest, folder, reused, time.monotonic() - began)
        self._on_made(replace(made, manifest=naming_files(self.storage, manifest)))
        return made

    def _make_settled(self, request: "_Request") -> tuple[Manifest, bool]:
        while True:
            corpus, asset = request.corpus, request.asset
            with self.storage.hold(
                corpus, asset, request.run_id, request.is_over, request.say_waiting
            ) as held:
                try:
                    made = self._make(request, held)
                    self.storage.remove_checkpoints(corpus, asset)
                    return made
                except ChangedError:
                    if request.settled is None:
                        raise
            settled = self.settle(corpus, request.settled)
            request = replace(request, settled=settled)

    def _make(self, request: "_Request", held: Lease) -> tuple[Manifest, bool]:
        corpus, asset = request.corpus, request.asset
        above = self._above(corpus, asset)
        job = replace(self._job(corpus, asset, above), may_spend=request.may_spend)
        inputs = _input_versions(job)
        if request.settled not in (None, inputs.get(CORPUS_FILES, request.settled)):
            raise ChangedError(f"the files of {corpus} changed since they were asked for")
        key = fingerprint(asset, inputs, job.settings)
        current = self._current_or_none(corpus, asset)
        if current and current.fingerprint == key and not request.force:
            self.storage.settle(current)
            return current, True
        if request.reuse_only:
            raise ChangedError(f"{asset} of {corpus} changed since this run began: refresh again")
        if not request.force:
            inputs_now = [naming_files(self.storage, above[name]) for name in job.inputs]
            _hold_at_gates(corpus, asset, inputs_now)
            if same := self._made_before(corpus, asset, key):
                self.storage.use_again(held, same)
                return same, True
            job = replace(job, previous=self._previous(job))
        for name in job.inputs:
            self.storage.require_whole(above[name])
        started = _utc_now()
        prepare_stage(job, request.say)
        if self.storage.remove_checkpoints(corpus, asset, but=key):
            request.notice("a checkpoint of other data or settings is not used; it is removed")
        job = replace(
            job,
            checkpoints=self.storage.checkpoints(corpus, asset, key),
            runs=self.storage.runs(corpus, asset, key),
        )
        with self.storage.staging(held) as folder:
            job = replace(job, output=folder)
            outcome = finish_stage(job, request.run(job), request.say)
            manifest = Manifest(
                asset=asset,
                corpus=corpus,
                fingerprint=key,
                version="",
                inputs=inputs,
                settings=job.settings,
                code_version=GRAPH[asset].code_version,
                files={},
                sources=FileDigest(sha256="", bytes=0),
                counts=outcome.counts,
                checks=outcome.checks,
                cost=outcome.cost,
                forced=request.force,
                reason=self._reason(current, request.force, inputs, job),
                run_id=request.run_id,
                started=started,
                ended=_utc_now(),
                tools=outcome.tools,
                chosen=outcome.chosen,
            )
            nearest = above.get(GRAPH[asset].inputs[0])
            return self.storage.publish(held, folder, manifest, nearest), False

    def _reason(
        self, previous: Manifest | None, force: bool, inputs: dict[str, str], job: Job
    ) -> str:
        """Why an artifact is made, in words; of many causes the first few."""
        if force:
            return "forced"
        if previous is None:
            return "never built before"
        causes = own_causes(previous, inputs, job.files, job.settings, self._paths_of)
        more = f"; and {len(causes) - _REASONS} more" if len(causes) > _REASONS else ""
        return "; ".join(causes[:_REASONS]) + more

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
        """The newest whole version made by the same code with settings that shape rows the same."""
        node = GRAPH[job.asset]
        if node.heavy:
            return None
        for manifest in islice(self.storage.history(job.corpus, job.asset), _LOOK_BACK):
            same_code = manifest.code_version == node.code_version
            same = same_code and shaping(manifest.settings) == shaping(job.settings)
            if same and not self.storage.damage(manifest):
                folder = self.storage.folder(job.corpus, job.asset, manifest.version)
                return Previous(folder, manifest)
        return None

    def next_fingerprint(self, corpus: str, asset: str) -> str | None:
        """The fingerprint that an asset made now would have; None if it cannot be made.

        It tells whether a checkpoint would be used. Raises UserError for settings that are wrong.
        """
        try:
            job = self.job(corpus, asset)
        except StageError:
            return None
        return fingerprint(asset, _input_versions(job), job.settings)

    def job(self, corpus: str, asset: str, config: FineTuneConfig | None = None) -> Job:
        """What the stage of an asset would be given now, or with other settings.

        Raises StageError if an input is missing.
        """
        return self._job(corpus, asset, self._above(corpus, asset), config)

    def _job(
        self,
        corpus: str,
        asset: str,
        above: dict[str, Manifest],
        config: FineTuneConfig | None = None,
    ) -> Job:
        """What the asset's stage is given; where it is to write is filled in later."""
        reads_files = CORPUS_FILES in GRAPH[asset].inputs
        config = config or self.config(corpus)
        return Job(
            asset=asset,
            corpus=corpus,
            source=self.data / corpus,
            output=Path(),
            settings=settings_read(self, corpus, asset, config),
            inputs={
                name: self.storage.folder(corpus, name, above[name].version)
                for name in GRAPH[asset].inputs
                if name in above
            },
            manifests={name: naming_files(self.storage, each) for name, each in above.items()},
            files=self.files(corpus) if reads_files else [],
            means=means_of(asset, config),
            keep=self.storage.keep(corpus, asset),
        )

    def _above(self, corpus: str, asset: str) -> dict[str, Manifest]:
        """The manifests of everything that `asset` depends on: its inputs as they are now, and what
        those were made from, which need not be what is current.

        Raises StageError if one is missing, or if two inputs were made from different
        versions of one asset: an artifact made from both could not say what is behind it.
        """
        found: dict[str, Manifest] = {}

        def collect(manifest: Manifest) -> None:
            known = found.setdefault(manifest.asset, manifest)
            if known.version != manifest.version:
                raise StageError(
                    f"the inputs of {asset} of {corpus} were built from different versions of "
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
                    f"{asset} of {corpus} needs {name}, which has not been built: "
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
    say: Report
    notice: Report
    run_id: str
    is_over: IsOver
    describe: Describe
    force: bool
    reuse_only: bool
    settled: str | None
    may_spend: bool

    def say_waiting(self, run_id: str) -> None:
        """Says which run is making the artifact now."""
        what = f"{self.asset} of {self.corpus}"
        self.notice(f"waiting for {self.describe(run_id)}, which is making {what}")


def _input_versions(job: Job) -> dict[str, str]:
    versions = {name: job.manifests[name].version for name in job.inputs}
    if CORPUS_FILES in GRAPH[job.asset].inputs:
        versions[CORPUS_FILES] = files_version(job.files)
    return versions


def _hold_at_gates(corpus: str, asset: str, inputs: list[Manifest]) -> None:
    """Raises StageError if a blocking check of an input failed."""
    gates = [gate for manifest in inputs for gate in manifest.failed_gates()]
    if gates:
        raise StageError(f"{asset} of {corpus} is blocked: {'; '.join(gates)} (--force overrides)")


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
