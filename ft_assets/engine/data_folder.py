"""The data folder: which corpora there are, and their files.

Importable without Dagster.
"""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from ft_assets.config import FineTuneConfig
from ft_assets.engine.digest_cache import DigestCache
from ft_assets.engine.settings_files import load_config
from ft_assets.errors import StageError, UserError
from ft_assets.manifest import digest
from ft_assets.names import QUESTIONS_FILE, REVIEW_FILE, SETTINGS_FILE, TEMPLATE_SUFFIX
from ft_assets.stages.job import CorpusFile

_CORPUS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_IGNORED_NAMES = re.compile(r"\..*|~\$.*|.*\.(part|tmp|crdownload|swp)|.*~")
_OWN_FILES = {SETTINGS_FILE, QUESTIONS_FILE, REVIEW_FILE}
SETTLE_SECONDS = 30
_SETTLE_TRIES = 20


def files_version(files: list[CorpusFile]) -> str:
    """The version of `corpus_files`: which bytes stand under which path."""
    return digest(sorted([file.path, file.sha256, file.problem or ""] for file in files))[:20]


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

    def digests_of(self, corpus: str) -> DigestCache:
        """The digests of files that are known for a corpus."""
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
        digests = self.digests_of(corpus)
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

    def digest_of(self, corpus: str, name: str) -> str | None:
        """The digest of a file of the corpus's own; None where there is none."""
        path = self.data / corpus / name
        if not path.exists():
            return None
        try:
            return self.digests_of(corpus).digest(path)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror})") from error

    def text_of(self, corpus: str, name: str) -> str:
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
