"""From an artifact to the documents that it was made from."""

from collections.abc import Iterator
from dataclasses import replace

from ft_assets.engine.graph import GRAPH
from ft_assets.engine.project import Project
from ft_assets.engine.storage import DamagedError, Storage
from ft_assets.errors import UserError
from ft_assets.manifest import Manifest
from ft_assets.records import SourceDocument

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
_OF_THE_ROWS = ("train_rows", "train_tokens", "eval_rows")


def documents_behind(storage: Storage, manifest: Manifest) -> Iterator[SourceDocument]:
    """The documents behind an artifact, and what each one gave.

    Path and document id are those that the raw documents have now that the artifact goes back to: a
    renamed file has its new name there.
    """
    rows = storage.sources(manifest)
    if manifest.asset == "raw_documents":
        yield from rows
        return
    files: dict[str | None, list[SourceDocument]] = {}
    for row in storage.sources(_raw_documents(storage, manifest)):
        files.setdefault(row.text_id, []).append(row)
    seen: set[str | None] = set()
    for row in rows:
        if row.text_id not in files:
            yield row
        elif row.text_id not in seen:
            seen.add(row.text_id)
            for file in files[row.text_id]:
                yield replace(
                    file,
                    train_rows=row.train_rows,
                    train_tokens=row.train_tokens,
                    eval_rows=row.eval_rows,
                    eval_tokens=row.eval_tokens,
                )


def told(row: SourceDocument) -> dict[str, object]:
    """A document as `lineage` shows it: its values in the order of COLUMNS, and what was left out.

    Row counts are left out before the formatted dataset, because there are no rows yet. `rejected` has
    the reasons why the document, or a part of it, could not be used.
    """
    found = {key: getattr(row, key) for key in COLUMNS}
    found = {k: value for k, value in found.items() if value is not None or k not in _OF_THE_ROWS}
    return {**found, "rejected": row.rejected} if row.rejected else found


def _raw_documents(storage: Storage, manifest: Manifest) -> Manifest:
    """The manifest of the raw documents that an artifact goes back to; its own if they are gone."""
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

    Raises UserError if it was never built.
    """
    for name in [asset] if asset else reversed(GRAPH):
        if manifest := project.storage.current(corpus, name):
            return manifest
    until = f" --until {asset}" if asset else ""
    raise UserError(f"{corpus} has no {asset or 'artifact'} yet: ft-assets refresh {corpus}{until}")
