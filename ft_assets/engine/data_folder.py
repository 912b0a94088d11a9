"""The data folder: which corpora there are, and their files.

Importable without Dagster.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ft_assets.config import FineTuneConfig, did_you_mean
from ft_assets.engine.digest_cache import DigestCache
from ft_assets.engine.settings_files import load_config
from ft_assets.errors import StageError, UserError
from ft_assets.files import MB, portable_name, read_users_file
from ft_assets.manifest import digest
from ft_assets.names import QUESTIONS_FILE, REVIEW_FILE, SETTINGS_FILE, TEMPLATE_SUFFIX
from ft_assets.stages.job import CorpusFile

_CORPUS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_IGNORED_NAMES = re.compile(r"\..*|~\$.*|.*\.(part|tmp|crdownload|swp)|.*~")
_OWN_FILES = {SETTINGS_FILE, QUESTIONS_FILE, REVIEW_FILE}
SETTLE_SECONDS = 30
_SETTLE_TRIES = 20


def files_version(files: list[CorpusFile]) -> str:
    """The version of `corpus_files`: which bytes are under which path."""
    return digest(sorted([file.path, file.sha256, file.problem or ""] for file in files))[:20]


MAX_DEPTH = 40
"""Folders below a corpus's own that are entered."""
MAX_TEMPLATE_BYTES = MB
"""The largest template or prompt that is read."""


class SlowError(UserError):
    """A corpus takes more time than it may now; the next look continues from there."""


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
        with os.scandir(self.data) as found:
            folders = [entry.name for entry in found if _is_folder(entry)]
        return sorted(name for name in folders if not name.startswith("."))

    def require(self, corpus: str) -> None:
        """Raises UserError if there is no such corpus."""
        if corpus not in self.corpora():
            known = ", ".join(self.corpora()) or "none"
            hint = did_you_mean(corpus, self.corpora())
            raise UserError(
                f"there is no corpus {corpus!r} in {self.data} (there: {known}); "
                + (hint or "a corpus is a folder there, named in letters, digits, - and _")
            )

    def config(self, corpus: str) -> FineTuneConfig:
        """The settings of a corpus. Raises SettingsError with everything that is wrong."""
        return load_config(self.data, corpus)

    def files(self, corpus: str, seconds: float | None = None) -> list[CorpusFile]:
        """The documents of a corpus, by path; hidden, temporary and own files are none of them.

        Links are followed only if they stay inside the corpus folder, and lead to a regular file. Raises
        SlowError after so many `seconds`: what was hashed until then is known the next time.
        """
        root = self.data / corpus
        digests = self.digests_of(corpus)
        until = time.monotonic() + seconds if seconds is not None else float("inf")
        files = []
        try:
            for name, entry in _walk(root):
                if time.monotonic() > until:
                    raise SlowError(
                        f"reading the files of {corpus} takes more than {seconds:.0f} s"
                    )
                files.append(_looked_at(root, name, entry, digests))
        except OSError as error:
            raise UserError(f"{root} cannot be read ({error.strerror})") from error
        finally:
            digests.save()
        return files

    def digest_of(self, corpus: str, name: str) -> str | None:
        """The digest of a file of the corpus's own; None if there is none."""
        path = self.data / corpus / name
        if not path.exists() and not path.is_symlink():
            return None
        if path.is_symlink():
            raise UserError(f"{path} is a link: put the file itself there")
        try:
            return self.digests_of(corpus).digest(path)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror})") from error

    def text_of(self, corpus: str, name: str) -> str:
        """The text of a template or prompt in the corpus folder, or in the data folder."""
        for folder in (self.data / corpus, self.data):
            path = folder / name
            if not path.parent.resolve().is_relative_to(self.data.resolve()):
                raise UserError(f"{path} is outside {self.data}")
            with suppress(FileNotFoundError):
                return read_users_file(path, MAX_TEMPLATE_BYTES)
        raise UserError(f"there is no file {name} in {self.data / corpus}")

    def settle(self, corpus: str, expected: str) -> str:
        """Waits while the files are neither the `expected` ones nor settled.

        Returns their version. Raises ChangedError if they keep changing.
        """
        last = ""
        for _ in range(_SETTLE_TRIES):
            now = files_version(self.files(corpus))
            if now in (expected, last):
                return now
            last = now
            time.sleep(self.settle_seconds)
        raise ChangedError(f"the files of {corpus} keep changing: refresh once they are all there")


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _looked_at(
    root: Path, name: str, entry: "os.DirEntry[str] | None", digests: DigestCache
) -> CorpusFile:
    """One file of a corpus, or why it cannot be read. `name` is its path inside the corpus."""
    shown = portable_name(name)
    if entry is None:
        return CorpusFile(shown, 0, "", f"it is nested more than {MAX_DEPTH} folders deep")
    try:
        path = Path(entry)
        if entry.is_symlink() and not path.resolve(strict=True).is_relative_to(root.resolve()):
            return CorpusFile(shown, 0, "", "it is a link out of the corpus folder")
        return CorpusFile(shown, entry.stat().st_size, digests.digest(path))
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself
        reason = getattr(error, "strerror", None) or error
        return CorpusFile(shown, 0, "", f"it cannot be read ({reason})")


def _walk(
    folder: Path, inside: str = "", depth: int = 0
) -> "Iterator[tuple[str, os.DirEntry[str] | None]]":
    """The files below a corpus folder in order, by their POSIX paths inside it.

    But for hidden and temporary ones and the corpus's own; folders behind links are not entered. A folder
    that is nested too deep comes without an entry.
    """
    if depth > MAX_DEPTH:
        yield inside, None
        return
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        name = f"{inside}{entry.name}"
        if _IGNORED_NAMES.fullmatch(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry), f"{name}/", depth + 1)
            continue
        is_own = entry.name.endswith(TEMPLATE_SUFFIX) or name in _OWN_FILES
        if not is_own and (entry.is_symlink() or entry.is_file()):
            yield name, entry
