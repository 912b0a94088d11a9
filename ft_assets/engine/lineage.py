"""From an artifact to the documents that it was made from, and from a document to its artifacts."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft_assets.engine.graph import GRAPH
from ft_assets.engine.project import Project
from ft_assets.engine.storage import DamagedError, Storage
from ft_assets.errors import UserError
from ft_assets.files import hash_file
from ft_assets.manifest import Manifest

COLUMNS = (
    "path",
    "document_id",
    "text_id",
    "pages",
    "records",
    "train_rows",
    "train_tokens",
    "eval_rows",
)
_OF_THE_FILE = ("path", "document_id", "pages", "records")
_DOCUMENT_ID = re.compile(r"[0-9a-f]{8,64}")


def documents_behind(storage: Storage, manifest: Manifest) -> Iterator[dict[str, Any]]:
    """The documents behind an artifact: path, ids and what each one gave.

    `train_rows`, `train_tokens` and `eval_rows` are missing above the formatted dataset, where
    there are no rows yet. Path and document id are those in the manifest of the raw documents that
    the artifact goes back to: a renamed file has its new name there.
    """
    files: dict[str, list[dict[str, Any]]] = {}
    for line in _raw_documents(storage, manifest).sources:
        files.setdefault(line["text_id"], []).append(line)
    told: set[str] = set()
    for line in manifest.sources:
        if manifest.asset == "raw_documents" or line["text_id"] not in files:
            yield {key: line[key] for key in COLUMNS if key in line}
        elif line["text_id"] not in told:
            told.add(line["text_id"])
            for file in files[line["text_id"]]:
                now = {**line, **{key: file[key] for key in _OF_THE_FILE}}
                yield {key: now[key] for key in COLUMNS if key in now}


def _raw_documents(storage: Storage, manifest: Manifest) -> Manifest:
    """The manifest of the raw documents that an artifact goes back to; its own where it is gone."""
    found = manifest
    while found.asset != "raw_documents":
        name = next(name for name in found.inputs if name in GRAPH)
        try:
            found = storage.manifest(manifest.corpus, name, found.inputs[name])
        except DamagedError:
            return manifest
    return found


def require_made(project: Project, corpus: str, asset: str | None) -> Manifest:
    """The current manifest of an asset, by default of the last one there is.

    Raises UserError where it was never made.
    """
    for name in [asset] if asset else reversed(GRAPH):
        if manifest := project.storage.current(corpus, name):
            return manifest
    until = f" --until {asset}" if asset else ""
    raise UserError(f"{corpus} has no {asset or 'artifact'} yet: ft-assets refresh {corpus}{until}")


@dataclass(frozen=True)
class Learned:
    """An artifact that goes back to a document, and the id that the document had then."""

    corpus: str
    asset: str
    version: str
    current: bool
    document_id: str


def impact(project: Project, file: str) -> list[Learned]:
    """Every artifact, current or old, that learned from a document.

    `file` is a path, from here or from the data folder, of a file that is there or was, or a
    document id of at least 8 digits. A file that changed is found with what it held before, too, and
    a file that was saved anew with the same text under either id. Raises UserError for a file that
    no artifact and no folder knows.
    """
    place, path = _place(project, file)
    sha256 = hash_file(path) if path.is_file() else None
    known = [
        manifest
        for corpus in project.storage.corpora()
        for asset in GRAPH
        for manifest in project.storage.history(corpus, asset)
    ]

    def is_it(corpus: str, line: dict[str, Any]) -> bool:
        if place == (corpus, line["path"]) or sha256 == line["document_id"]:
            return True
        by_id = _DOCUMENT_ID.fullmatch(file) and not path.exists()
        return bool(by_id) and line["document_id"].startswith(file)

    lines = [(m.corpus, line) for m in known for line in m.sources if is_it(m.corpus, line)]
    if not lines and sha256 is None:
        raise UserError(f"{file} is neither a file nor in the manifest of any artifact")
    texts = {line["text_id"] for _, line in lines if line["text_id"]}
    found = []
    for manifest in known:
        ids = {line["document_id"] for line in manifest.sources if line["text_id"] in texts}
        now = project.storage.current_version(manifest.corpus, manifest.asset)
        found += [
            Learned(manifest.corpus, manifest.asset, manifest.version, manifest.version == now, id_)
            for id_ in sorted(ids)
        ]
    return found


def _place(project: Project, file: str) -> tuple[tuple[str, str] | None, Path]:
    """The corpus and the path in it that a user's word names, and the file."""
    for path in (Path(file).absolute(), project.data / file):
        if path.is_relative_to(project.data):
            corpus, *rest = path.relative_to(project.data).parts
            if rest and (
                path.exists() or path != Path(file).absolute() or Path(file).is_absolute()
            ):
                return (corpus, Path(*rest).as_posix()), path
        elif path.is_file():
            return None, path
    return None, Path(file)
