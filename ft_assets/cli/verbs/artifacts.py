"""`verify` and `prune`: checking and cleaning up the storage."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ft_assets.cli.arguments import AsJson, Corpora, corpora_stored
from ft_assets.cli.console import err, escape, out
from ft_assets.cli.verb import Verbs

if TYPE_CHECKING:
    from ft_assets.engine.verify import Examined

verbs = Verbs()


@verbs.command()
def verify(corpora: Corpora = None, as_json: AsJson = False) -> None:
    """Compare every artifact with its manifest.

    Reads and hashes every file. Exits with 3 if an artifact is damaged, and says how to repair it.
    """
    from ft_assets.engine.project import Project
    from ft_assets.engine.verify import verify as examined
    from ft_assets.stages.words import counted, size_of

    project = Project.from_environment()
    found = [
        item
        for corpus in corpora_stored(project, corpora)
        for item in examined(project.storage, corpus)
    ]
    checked = [item for item in found if not item.is_old]
    damaged = [item for item in checked if item.damage]
    size = sum(item.bytes for item in checked)
    if as_json:
        said = {"artifacts": len(checked), "bytes": size, "old": len(found) - len(checked)}
        print(json.dumps({**said, "damaged": [vars(item) for item in damaged]}))
    for item in damaged:
        _print_damage(item)
    if damaged:
        raise typer.Exit(3)
    if as_json:
        return
    out.print(
        f"[green]ok[/] {counted(len(checked), 'artifact')}, {size_of(size)}: all match their "
        "manifests"
    )
    if old := len(found) - len(checked):
        out.print(f"not checked: {counted(old, 'artifact')} of an earlier version of ft-assets")


def _print_damage(item: "Examined") -> None:
    from ft_assets.engine.verify import LEDGER

    for line in item.damage:
        err.print(f"[red]damaged:[/] {escape(line)}", soft_wrap=True)
    if item.version == LEDGER:  # its message says what to do: it cannot be rebuilt
        return
    what = f"ft-assets refresh {item.corpus} --until {item.asset} --force"
    err.print(f"  to repair: {what}; an old version: ft-assets prune", soft_wrap=True)


@verbs.command()
def prune(
    corpora: Corpora = None,
    keep: Annotated[
        int, typer.Option(min=1, metavar="NUMBER", help="How many versions of each asset to keep.")
    ] = 2,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed, but remove nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove old versions of artifacts, and checkpoints and training logs of no use.

    Keeps the newest versions of each asset, and every version that a kept artifact was made from.
    A checkpoint is kept if a refresh would resume from it, the log of a training with what it made.
    """
    from ft_assets.engine.project import Project
    from ft_assets.engine.prune import prune as prune_corpus
    from ft_assets.stages.words import counted, size_of

    project = Project.from_environment()
    gone: list[Any] = []
    for corpus in corpora_stored(project, corpora):
        found = prune_corpus(
            project.storage,
            corpus,
            keep,
            dry_run=dry_run,
            next_fingerprint=project.next_fingerprint,
        )
        if found is None:
            err.print(f"[yellow]skipping {corpus}:[/] one of its artifacts is being built")
        gone += found or []
    freed = sum(item.bytes for item in gone)
    if as_json:
        said = {"removed": [vars(item) for item in gone], "bytes": freed, "dry_run": dry_run}
        print(json.dumps(said))
        return
    for item in gone:
        out.print(f"  {item.corpus}/{item.asset}/{item.version}  {size_of(item.bytes)}")
    removed, and_freed = ("would remove", "free") if dry_run else ("removed", "freed")
    out.print(f"{removed} {counted(len(gone), 'version')} and {and_freed} {size_of(freed)}")
