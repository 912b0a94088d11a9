"""The Hugging Face cache: a model's files, compared with the hashes that the cache names them by.

A snapshot is a folder of links to blobs, and a blob's name is its hash as the hub gave it: the sha256
of a large (LFS) file, the git hash of a small one. So a blob with other bytes is noticed without a
network. Not noticed is a link that leads to another whole blob: which blob belongs to a commit is
known to the hub alone. A cache without links, as file systems without them have it, names no hashes
and is not checked. Hashing reads 270 MB in 0.2 seconds; what needs only the tokenizer skips the weights.
"""

import hashlib
from pathlib import Path

from ft_assets.errors import StageError
from ft_assets.files import hash_file

_SHA256, _SHA1 = 64, 40


def check_snapshot(folder: Path, *, weights: bool = True) -> None:
    """Compares the files of a snapshot with the names of their blobs.

    Raises StageError naming the first that differs, and what to remove so that it is fetched again.
    """
    blobs = (folder.parents[1] / "blobs").resolve()
    paths = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file()]
    if not any(path.is_symlink() for path in paths):
        return
    for path in paths:
        blob = path.resolve()
        if blob.parent != blobs:
            raise StageError(
                f"{path} is not a link into {blobs}: something else was put in its place. "
                f"To repair it, run: rm '{path}'; the next run fetches it again"
            )
        if (weights or path.suffix != ".safetensors") and not _is_named_by_hash(blob):
            raise StageError(
                f"{path}: its content was changed in the cache. To repair it, run: rm '{blob}'; the "
                "next run fetches it again"
            )


def _is_named_by_hash(blob: Path) -> bool:
    """Whether a blob has the hash that is its name; true if the name is not a hash."""
    name = blob.name
    if not all(character in "0123456789abcdef" for character in name):
        return True
    if len(name) == _SHA256:
        return hash_file(blob) == name
    if len(name) == _SHA1:
        content = blob.read_bytes()
        as_git = b"blob %d\0" % len(content) + content
        return name in (
            _sha1(as_git),
            _sha1(content),
        )  # some mirrors name files by their plain hash
    return True


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
