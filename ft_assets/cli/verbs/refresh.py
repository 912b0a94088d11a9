"""`refresh`, and the verbs that refresh one corpus up to one asset."""

import gc
import json
from typing import Annotated

import typer

from ft_assets.cli.arguments import AsJson, Corpora, Corpus, Force, corpora_named
from ft_assets.cli.console import err, out
from ft_assets.cli.verb import Verbs
from ft_assets.names import ASSET_NAMES, AssetName

verbs = Verbs()


@verbs.command()
def refresh(
    corpora: Corpora = None,
    until: Annotated[
        AssetName,
        typer.Option(metavar="ASSET", help=f"Build up to this asset: {', '.join(ASSET_NAMES)}."),
    ] = "gguf",
    jobs: Annotated[
        int,
        typer.Option("--jobs", "-j", min=1, metavar="NUMBER", help="Corpora to refresh at once."),
    ] = 1,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Rebuild what is stale, in one Dagster run per corpus.

    Trainings, and the stages after them, take turns even if several corpora are refreshed at once. If
    one corpus fails, the others are still refreshed.
    """
    from ft_assets.engine.project import Project

    named = corpora_named(Project.from_environment(), corpora)
    refresh_until(until, named, force=force, as_json=as_json, jobs=jobs)


def refresh_until(
    until: str, corpora: list[str], *, force: bool, as_json: bool, jobs: int = 1
) -> None:
    """Refreshes corpora up to an asset; raises typer.Exit with the gravest code of any."""
    from ft_assets.cli.progress import Progress
    from ft_assets.cli.refresh import refresh_corpora
    from ft_assets.engine.project import Project

    gc.freeze()  # the garbage collector need not go through all of Dagster, again and again
    progress = Progress(err if as_json else out, err)
    project = Project.from_environment(
        progress.made, on_line=progress.say, on_notice=progress.notice
    )
    code = refresh_corpora(project, corpora, until, progress, force=force, jobs=jobs)
    if as_json:
        print(json.dumps(progress.lists()))
    if code:
        raise typer.Exit(code)


def _add(name: str, asset: AssetName, does: str) -> None:
    """Adds a verb that refreshes one corpus up to `asset`."""

    @verbs.command(name, help=f"{does}\n\nThe same as `refresh --until {asset}`.")
    def verb(corpus: Corpus, force: Force = False, as_json: AsJson = False) -> None:
        refresh_until(asset, [corpus], force=force, as_json=as_json)


_add("prepare-data", "formatted_dataset", "Build the dataset of a corpus.")
_add("train", "adapter", "Train the LoRA adapter of a corpus.")
_add("evaluate", "evaluation", "Compare the tuned model with its base model.")
_add("merge-adapter", "merged_model", "Merge the adapter into its base model.")
_add("export", "gguf", "Build the GGUF files of a corpus.")
