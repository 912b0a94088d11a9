"""Small helpers for files on a POSIX disk: hashes, durable folders, atomic replacement, users' files."""

import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
import unicodedata
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
    """The sha256 of a file's bytes. Raises OSError for what is not a regular file, and never waits."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def portable_name(path: str) -> str:
    """A file's path as it is kept and shown: text whatever bytes are in it, and reversible.

    A byte that is not UTF-8 becomes `\\xNN`, a backslash is doubled; all else stays as it is.
    """
    doubled = path.replace("\\", "\\\\")
    return doubled.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def local_name(portable: str) -> str:
    """The path that `portable_name` was made from, as the operating system has it."""

    def byte(found: re.Match[str]) -> str:
        return "\\" if found[0] == "\\\\" else chr(0xDC00 + int(found[1], 16))

    return re.sub(r"\\\\|\\x([0-9a-f]{2})", byte, portable)


_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def visible(text: str) -> str:
    """A text as it may be shown: control, bidi and other invisible characters are escaped.

    Line feeds and tabs stay. Joiners (ZWJ, ZWNJ) stay too: scripts and emoji need them.
    """
    return (
        "".join(
            each
            if each in "\n\t\u200c\u200d" or unicodedata.category(each) not in _INVISIBLE
            else each.encode("unicode_escape", "surrogatepass").decode()
            for each in text
        )
        if not text.isprintable()
        else text
    )


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Gives a published file, which never changes, a second name; copies it if there are no links."""
    try:
        Path(target).hardlink_to(source)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


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
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"{path} is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise UserError(f"{path} is larger than {most // KB:,} kB, the limit")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")
