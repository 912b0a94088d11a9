"""Small helpers for files on a POSIX disk: hashes, durable folders, atomic replacement, users' files."""

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from ft_assets.errors import UserError


def write_atomically(path: Path, text: str) -> None:
    """Replaces a small file in one step: a reader sees the old text or the new, never a part."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
    sync_folder(path.parent)


def hash_file(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Makes what was made, renamed or removed inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


KB = 1_024
MB = 1_024 * KB


def read_users_file(path: Path, most: int) -> str:
    """The text of a small file of the user's: settings, questions, reviews, templates, prompts.

    Only regular files are opened, without following a link at the end of the path, without waiting (a
    FIFO would block for ever), and `most` bytes at most are read. Raises UserError naming the file for
    anything else, also if it is not UTF-8, and FileNotFoundError if there is none.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        what = "it is a link" if path.is_symlink() else getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read: {what}") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path} is not a regular file")
        content = file.read(most + 1)
    if len(content) > most:
        raise UserError(f"{path} is larger than {most // KB:,} kB, the most that is read of it")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8") from error
