"""Helpers for files on a POSIX disk: hashes, durable folders, atomic replacement, users' files."""

import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ft_assets.errors import UserError


def write_atomically(path: Path, text: str) -> None:
    """Replaces a small file in one step: a reader sees the old or the new text, never a part of it."""
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
    """The sha256 of a file's bytes. Raises OSError if it is not a regular file; it never blocks, even on
    a FIFO.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(folder: Path, paths: Iterable[Path]) -> str:
    """The sha256 over the names and bytes of files in `folder`, in whatever order they are given."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.relative_to(folder)}\0{hash_file(path)}\n".encode())
    return digest.hexdigest()


def portable_name(path: str) -> str:
    """A file's path as stored and shown: valid text for any bytes, and reversible.

    A byte that is not UTF-8 becomes `\\xNN`, and a backslash is doubled; the rest is unchanged.
    """
    doubled = path.replace("\\", "\\\\")
    return doubled.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def local_name(portable: str) -> str:
    """The operating system's path for a `portable_name`."""

    def byte(found: re.Match[str]) -> str:
        return "\\" if found[0] == "\\\\" else chr(0xDC00 + int(found[1], 16))

    return re.sub(r"\\\\|\\x([0-9a-f]{2})", byte, portable)


_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def visible(text: str) -> str:
    """A text that is safe to show: control, bidi and other invisible characters are escaped.

    Line feeds and tabs are kept, and so are joiners (ZWJ, ZWNJ), because scripts and emoji need them.
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


_LOGIN = re.compile(r"//[^/\s@]+@")


def without_logins(text: str) -> str:
    """A text without the user and password of the addresses in it."""
    return _LOGIN.sub("//…@", text)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Hard-links a published file, which never changes; copies it if the file system has no links."""
    try:
        Path(target).hardlink_to(source)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def sync_folder(folder: Path) -> None:
    """Makes files created, renamed or removed inside `folder` survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


KB = 1_024
MB = 1_024 * KB


def read_users_file(path: Path, most: int) -> str:
    """The text of a user's small file: settings, questions, reviews, templates, prompts.

    Only a regular file of at most `most` bytes is read. A link at the end of the path is not followed,
    and the call never blocks (a FIFO would block forever). Raises FileNotFoundError if there is no
    file, and UserError naming the file for anything else, including text that is not UTF-8.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        what = "it is a link" if path.is_symlink() else getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {what}") from error
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
