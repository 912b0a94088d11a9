"""`lineage` and `impact`: from an artifact to its documents, and from a document to artifacts."""

import json
from typing import Annotated

import typer

from ft_assets.cli.arguments import AsJson, Corpus, project_with
from ft_assets.cli.console import escape, left_out, out, print_rows
from ft_assets.cli.verb import Verbs
from ft_assets.names import ASSET_NAMES, AssetName

verbs = Verbs()


@verbs.command()
def lineage(
    corpus: Corpus,
    asset: Annotated[
        AssetName | None,
        typer.Argument(
            metavar="ASSET",
            show_choices=False,
            help=f"One of {', '.join(ASSET_NAMES)} (default: the last that was built).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the documents behind an artifact.

    Shows the path, id, pages, records, rows and tokens of each. For `raw_documents` it also lists what
    was left out, with the reason.
    """
    from ft_assets.engine.lineage import COLUMNS, documents_behind, require_made, told

    project = project_with(corpus)
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
    print_rows(title, [name for name in COLUMNS if name != "text_id"], rows)
    for row in found:
        for line in left_out(row.path, row.rejected):
            out.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)


@verbs.command()
def impact(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A path or a document id.")],
    as_json: AsJson = False,
) -> None:
    """List the artifacts, current and old, that learned from a document."""
    from ft_assets.engine.lineage import impact as impact_of
    from ft_assets.engine.project import Project

    found = impact_of(Project.from_environment(), file)
    if as_json:
        print(json.dumps({"file": file, "artifacts": [vars(item) for item in found]}))
        return
    if not found:
        out.print(f"no artifact learned from {escape(file)}", soft_wrap=True)
        return
    rows = [{**vars(item), "current": "current" if item.current else "old"} for item in found]
    for row in rows:
        row["document_id"] = row["document_id"][:12]
    print_rows(file, ["corpus", "asset", "version", "current", "document_id"], rows)
