"""The rows of a corpus's tables as people read them, with the file and the page of each."""

from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from ft_assets.engine.lineage import require_made
from ft_assets.engine.masks import contains, either, every, has, not_empty
from ft_assets.engine.origins import Found, Origins, Place
from ft_assets.engine.project import Project
from ft_assets.engine.reasons import grouped
from ft_assets.engine.shown import PARTS, SEARCHED, TABLES, Part
from ft_assets.engine.storage import Storage
from ft_assets.engine.table_view import Mask, TableView, spread
from ft_assets.errors import UserError
from ft_assets.manifest import Manifest, sources_path
from ft_assets.stages.words import listed

What = Literal["documents", "records", "chunks", "pairs", "train", "eval", "dropped", "rejected"]
"""What can be shown."""


_NEAR = 3


@dataclass(frozen=True)
class Row:
    """One row: where it is from, what there is to say about it, its text in parts, and all its values.

    `place` is None if the documents behind the row are not known any more.
    """

    place: Place | None
    parts: list[Part]
    values: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    @property
    def heading(self) -> str:
        """Where the row is from, and what there is to say about it."""
        return " · ".join([str(self.place or "a file that is not known any more"), *self.notes])


@dataclass(frozen=True)
class Shown:
    """Some rows of a table that has `total`; `matches` is the number of those asked for.

    None if the search stopped at the last row that is shown.
    """

    corpus: str
    what: str
    asset: str
    version: str
    total: int
    matches: int | None
    rows: list[Row]


def show(
    project: Project,
    corpus: str,
    what: What,
    *,
    most: int,
    grep: str | None = None,
    source: str | None = None,
) -> Shown:
    """At most so many rows of the current version of a table.

    Without `grep` they are evenly spread over the table, with it they are the first that contain the
    text, whatever its case. `source` is the path of a file in the corpus. Raises UserError if the table
    was never built, or if no such file is behind it.
    """
    manifest = require_made(project, corpus, TABLES[what].asset)
    return show_version(project.storage, manifest, what, most=most, grep=grep, source=source)


def show_version(
    storage: Storage,
    manifest: Manifest,
    what: What,
    *,
    most: int,
    grep: str | None = None,
    source: str | None = None,
) -> Shown:
    """The same, of a version that need not be the current one."""
    folder = storage.folder(manifest.corpus, manifest.asset, manifest.version)
    origins = Origins(storage, manifest)
    mask: Mask | None
    if what == "rejected":
        view = TableView(sources_path(folder, manifest))
        columns, mask, texts = _rejected(source, grep, origins)
    else:
        view = TableView(folder / TABLES[what].file)
        columns, mask, texts = _wanted(what, source, grep, origins)
    places, matches = _places(view, columns, mask, texts, most, stops=grep is not None)
    rows = _rows(what, view.at(places), origins)
    total = view.rows if what != "rejected" else (matches or 0)
    return Shown(manifest.corpus, what, manifest.asset, manifest.version, total, matches, rows)


def _places(
    view: TableView,
    columns: list[str],
    mask: Mask | None,
    texts: set[str] | None,
    most: int,
    *,
    stops: bool,
) -> tuple[list[int], int | None]:
    """The places of the rows to show, and how many there are to choose from, if that is known.

    If it `stops`, the first ones are taken, and nothing is read beyond them.
    """
    if mask is None:
        return spread(view.rows, most), view.rows
    found = view.places(columns, mask, texts)
    if stops:
        first = list(islice(found, most + 1))
        return first[:most], len(first) if len(first) <= most else None
    all_of_them = list(found)
    return [all_of_them[at] for at in spread(len(all_of_them), most)], len(all_of_them)


def _wanted(
    what: str, source: str | None, grep: str | None, origins: Origins
) -> tuple[list[str], Mask | None, set[str] | None]:
    """The columns that are read to find the wanted rows, and the texts that these belong to."""
    texts = None if source is None else {_text_of(source, origins)}
    masks: list[Mask] = []
    columns: list[str] = []
    if texts is not None:
        columns.append("text_id")
        masks.append(has("text_id", texts))
    if grep is not None and what == "dropped":
        columns += ["reason", "origin_id"]
        masks.append(either(contains(["reason"], grep), origins.containing(grep, texts)))
    elif grep is not None:
        columns += SEARCHED[what]
        masks.append(contains(SEARCHED[what], grep))
    return columns, every(masks) if masks else None, texts


def _rejected(
    source: str | None, grep: str | None, origins: Origins
) -> tuple[list[str], Mask, set[str] | None]:
    """The same for files of which something was left out."""
    masks = [not_empty("rejected")]
    if source is not None:
        masks.append(has("path", {_found(source, origins).path}))
    if grep is not None:
        masks.append(contains(["path", "rejected"], grep))
    return ["path", "rejected"], every(masks), None


def _text_of(source: str, origins: Origins) -> str:
    """The id of the text that was read from a file. Raises UserError if there is none."""
    found = _found(source, origins)
    if found.text_id is None:
        raise UserError(f"{found.path} was left out: {listed(found.rejected, _NEAR)}")
    return found.text_id


def _found(source: str, origins: Origins) -> Found:
    """The file with this path. Raises UserError naming those whose path is near."""
    path = origins.spelled(source)
    if found := origins.file(path):
        return found
    near = _near(path, origins.paths())
    hint = f"; near are {', '.join(near)}" if near else ""
    raise UserError(
        f"there was no file {source!r} when this was built{hint}; give its path in the corpus folder"
    )


_COMPARED = 20_000
"""Paths that are compared letter by letter."""


def _near(path: str, known: list[str]) -> list[str]:
    name = Path(path).name.lower()
    same = [each for each in known if name and name in each.lower()]
    return same[:_NEAR] or get_close_matches(path, known[:_COMPARED], n=_NEAR)


def _rows(what: str, found: list[dict[str, Any]], origins: Origins) -> list[Row]:
    """Rows as they are shown, each with its place."""
    if what == "rejected":
        return [
            Row(Place(row["path"], None, None, 0), [Part("", _reasons(row["rejected"]))], row)
            for row in found
        ]
    behind = origins.behind(what, found)
    return [
        Row(at.place, PARTS[what]({**row, "origin": at.origin}), row, [*at.notes, _id(what, row)])
        for row, at in zip(found, behind, strict=True)
    ]


_SHORT = 8
_REASONS = 20


def _reasons(found: list[str]) -> str:
    """The reasons why something of a file was left out, a line each, if they are not too many."""
    lines = list(map(str, grouped(found)))
    more = len(lines) - _REASONS
    return "\n".join([*lines[:_REASONS], *([f"and {more:,} more"] if more > 0 else [])])


def _id(what: str, row: dict[str, Any]) -> str:
    return f"id {row[TABLES[what].ids][:_SHORT]}"
