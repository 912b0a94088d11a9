"""`lineage` and `impact`: from an artifact to its documents, and from a document to artifacts."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ft_assets.cli.arguments import AsJson, Corpus, project_with
from ft_assets.cli.console import escape, left_out, out, print_rows
from ft_assets.cli.verb import Verbs
from ft_assets.names import ASSET_NAMES

if TYPE_CHECKING:
    from ft_assets.engine.impact import Impact, Learned
    from ft_assets.engine.project import Project
    from ft_assets.engine.standing import Standing

verbs = Verbs()


@verbs.command()
def lineage(
    corpus: Corpus,
    asset: Annotated[
        str | None,
        typer.Argument(
            metavar="ASSET",
            help=f"One of {', '.join(ASSET_NAMES)} (default: the last that was built); or a file, or "
            "at least 6 digits of an id, to see where it stands.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the documents behind an artifact.

    Shows the path, id, pages, records, rows and tokens of each. For `raw_documents` it also lists what
    was left out, with the reason. Given a file or an id of the corpus, it shows what `impact` does.
    """
    from ft_assets.engine.lineage import COLUMNS, documents_behind, require_made, told

    project = project_with(corpus)
    if asset and asset not in ASSET_NAMES:
        _where_it_stands(project, corpus, asset, as_json)
        return
    manifest = require_made(project, corpus, asset)
    found = list(documents_behind(project.storage, manifest))
    documents = [told(row) for row in found]
    head = {"corpus": corpus, "asset": manifest.asset, "version": manifest.version}
    if as_json:
        print(json.dumps({**head, "inputs": manifest.inputs, "documents": documents}))
        return
    title = f"{manifest.asset} of {corpus}, version {manifest.version}, {manifest.ended}"
    rows = [
        {**line, "document_id": str(line["document_id"])[:12]}
        for line in documents
        if line["text_id"]
    ]
    columns = [name for name in COLUMNS if name != "text_id" and any(row.get(name) for row in rows)]
    print_rows(title, columns or ["path"], rows)
    for row in found:
        for line in left_out(row.path, row.rejected):
            out.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)


@verbs.command()
def impact(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A path (from here, from the data folder or from a corpus folder), or at least 6 "
            "digits of the id of a document, record, pair, chunk or row.",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """List the artifacts, current and old, that were made from a document.

    Shows the training rows and the eval rows that the document gave, and what of it was left out, with
    the reasons. Of a record, pair, chunk or row it says whether it is trained on or held out, or why it
    was left out.
    """
    from ft_assets.engine.impact import impact as impact_of
    from ft_assets.engine.project import Project

    _print_found(file, impact_of(Project.from_environment(), file), as_json)


def _where_it_stands(project: "Project", corpus: str, what: str, as_json: bool) -> None:
    """What `impact` says, of one corpus. Raises UserError if it is neither an asset nor known there."""
    from ft_assets.config import did_you_mean
    from ft_assets.engine.impact import impact as impact_of
    from ft_assets.errors import UserError

    inside = f"{corpus}/{what}"
    try:
        found = impact_of(project, inside if (project.data / inside).is_file() else what, [corpus])
    except UserError as error:
        meant = did_you_mean(what, ASSET_NAMES, "; ")
        raise UserError(
            f"{what} is not an asset ({', '.join(ASSET_NAMES)}){meant}; {error}"
        ) from error
    _print_found(what, found, as_json)


def _print_found(file: str, found: "Impact", as_json: bool) -> None:
    if as_json:
        said = {name: [vars(item) for item in items] for name, items in vars(found).items()}
        print(json.dumps({"file": file, **said}))
        return
    for item in found.left_out:
        where = f"{escape(item.path)}: it was left out of {item.corpus}: "
        out.print(where + escape("; ".join(item.reasons)), soft_wrap=True)
    for part in found.left_out_in_part:
        if part.records_rejected:
            of = part.records + part.records_rejected
            what = f"{part.records_rejected:,} of its {of:,} records were left out of {part.corpus}"
            out.print(f"{escape(part.path)}: {what}", soft_wrap=True)
        for line in left_out(part.path, part.reasons):
            out.print(escape(line), soft_wrap=True)
    for standing in found.standings:
        out.print(escape(_standing(standing)), soft_wrap=True)
    if found.artifacts:
        _print_impact(file, [_impact_row(item) for item in found.artifacts])
    elif not found.left_out and not found.standings:
        out.print(f"no artifact was made from {escape(file)}", soft_wrap=True)


def _standing(item: "Standing") -> str:
    """What became of a record, pair, chunk or row, in one line."""
    from ft_assets.stages.words import counted

    place = f", {item.place}" if item.place else ""
    origin = f"{item.kind} {item.id[:12]} of {item.corpus} ({item.path or 'a removed file'}{place})"
    if item.outcome == "dropped":
        kept = f"; kept instead: {item.kept}" if item.kept else ""
        return f"{origin}: left out of {item.asset}: {item.reason}{kept}"
    if item.outcome == "waiting":
        return f"{origin}: in {item.asset}; no dataset was built from it yet"
    row = "training row" if item.outcome == "train" else "eval row"
    return f"{origin}: {counted(item.rows, row)} in {item.asset}"


def _print_impact(file: str, rows: list[dict[str, Any]]) -> None:
    """Prints the artifacts; a corpus or an id that all have in common is in the title."""
    columns = ["corpus", "asset", "version", "current", "document_id", "rows"]
    title = [file]
    for name in ("corpus", "document_id"):
        if len({row[name] for row in rows}) == 1:
            columns.remove(name)
            title.append(f"{name.removesuffix('_id')} {rows[0][name]}")
    print_rows(", ".join(title), columns, rows)


def _impact_row(item: "Learned") -> dict[str, Any]:
    current = "current" if item.current else "old"
    short = {"version": item.version[:8], "document_id": item.document_id[:12]}
    return {**vars(item), **short, "current": current, "rows": _rows(item)}


def _rows(item: "Learned") -> str:
    """The rows of a document in an artifact; empty before the dataset, because there are no rows yet."""
    from ft_assets.stages.words import counted

    if item.train_rows is None:
        return ""
    said = [counted(item.train_rows, "training row")] if item.train_rows else []
    if item.eval_rows:
        said.append(counted(item.eval_rows, "eval row"))
    return ", ".join(said) or "none"
