"""`init`: a settings file to start from."""

from typing import Annotated

import typer

from ft_assets.cli.arguments import Corpus
from ft_assets.cli.console import out
from ft_assets.cli.verb import Verbs
from ft_assets.errors import UserError
from ft_assets.names import SETTINGS_FILE

verbs = Verbs()


@verbs.command()
def init(
    corpus: Corpus,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Set what a family of models needs; a name that does not exist lists all recipes.",
        ),
    ] = None,
) -> None:
    """Write a commented settings file for a corpus, and create its folder if needed.

    The file lists every setting with its default and its allowed values, all commented out but for what
    the recipe sets. An existing file is not changed.
    """
    from ft_assets.cli import recipes
    from ft_assets.cli.settings_file import commented_settings, recipe_settings
    from ft_assets.config import FineTuneConfig
    from ft_assets.engine.project import Project

    project = Project.from_environment()
    folder = project.data / corpus
    path = folder / SETTINGS_FILE
    if path.exists():
        raise UserError(f"{path} exists already; nothing was changed")
    if not project.is_corpus_name(corpus):
        raise UserError(f"{corpus!r} cannot name a corpus: use letters, digits, - and _")
    config = FineTuneConfig()
    if recipe is None:
        text = commented_settings(config)
    else:
        text = recipe_settings(config, recipe, recipes.recipe(recipe))
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    out.print(f"wrote {path}", soft_wrap=True)
    out.print(f"put documents into {folder}, then: ft-assets refresh {corpus}", soft_wrap=True)
