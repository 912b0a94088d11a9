"""`verify` and `prune`: what is in the storage, checked and cleaned up."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from ft_assets.cli.arguments import AsJson, Corpora, corpora_stored
from ft_assets.cli.console import err, out

if TYPE_CHECKING:
    from ft_assets.engine.verify import Examined

verbs = typer.Typer()


@verbs.command()
def verify(corpora: Corpora = None, as_json: AsJson = False) -> None:
    """Read every artifact and compare it with its manifest; exit 3 if one is damaged."""
    from ft_assets.engine.project import Project
    from ft_assets.engine.verify import verify as verdicts_on

    project = Project.from_environment()
    verdicts = [
        verdict
        for corpus in corpora_stored(project, corpora)
        for verdict in verdicts_on(project.storage, corpus)
    ]
    damaged = [verdict for verdict in verdicts if verdict.damage]
    size = sum(verdict.bytes for verdict in verdicts)
    if as_json:
        said = {"artifacts": len(verdicts), "bytes": size}
        print(json.dumps({**said, "damaged": [vars(item) for item in damaged]}))
    for verdict in damaged:
        _print_damage(verdict)
    if damaged:
        raise typer.Exit(3)
    if not as_json:
        out.print(
            f"[green]ok[/] {len(verdicts)} artifacts, {size / 1e6:.1f} MB, as their manifests say"
        )


def _print_damage(found: "Examined") -> None:
    from ft_assets.engine.verify import LEDGER

    for line in found.damage:
        err.print(f"[red]damaged:[/] {escape(line)}", soft_wrap=True)
    if found.version == LEDGER:  # its message says what to do: it cannot be rebuilt
        return
    what = f"ft-assets refresh {found.corpus} --until {found.asset} --force"
    err.print(f"  to repair: {what}; an old version: ft-assets prune", soft_wrap=True)


@verbs.command()
def prune(
    corpora: Corpora = None,
    keep: Annotated[int, typer.Option(min=1, help="Versions of each asset to keep.")] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove old versions that no kept artifact was made from."""
    from ft_assets.engine.project import Project
    from ft_assets.engine.prune import prune as prune_corpus

    project = Project.from_environment()
    gone: list[Any] = []
    for corpus in corpora_stored(project, corpora):
        found = prune_corpus(project.storage, corpus, keep, dry_run=dry_run)
        if found is None:
            err.print(f"[yellow]skipping {corpus}:[/] one of its artifacts is being built")
        gone += found or []
    freed = sum(item.bytes for item in gone)
    if as_json:
        said = {"removed": [vars(item) for item in gone], "bytes": freed, "dry_run": dry_run}
        print(json.dumps(said))
        return
    for item in gone:
        out.print(f"  {item.corpus}/{item.asset}/{item.version}  {item.bytes / 1e6:.1f} MB")
    what = "would be removed" if dry_run else "removed"
    out.print(f"{len(gone)} versions {what}, {freed / 1e6:.1f} MB freed")
