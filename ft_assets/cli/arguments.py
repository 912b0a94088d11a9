"""The arguments that verbs share, and the corpora that they name."""

from typing import TYPE_CHECKING, Annotated

import typer

from ft_assets.cli.console import err, escape
from ft_assets.errors import UserError

if TYPE_CHECKING:
    from ft_assets.engine.project import Project

Corpus = Annotated[
    str,
    typer.Argument(metavar="CORPUS", help="The corpus: the name of a folder in the data folder."),
]
Corpora = Annotated[
    list[str] | None, typer.Argument(metavar="CORPUS", help="One or more corpora (default: all).")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON on standard output.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Rebuild even if fresh or an upstream check failed.")
]


def project_with(corpus: str) -> "Project":
    """The project of the environment. Raises UserError if it has no such corpus."""
    from ft_assets.engine.project import Project

    project = Project.from_environment()
    project.require(corpus)
    return project


def corpora_named(project: "Project", corpora: list[str] | None) -> list[str]:
    """The corpora that a verb is for. Raises UserError if one does not exist, or none does."""
    if not corpora:
        for name in project.misnamed():
            where = escape(str(project.data / name))
            err.print(
                f"[yellow]not a corpus:[/] {where}: rename it, using letters, digits, - and _"
            )
        corpora = project.corpora()
        if not corpora:
            raise UserError(
                f"{project.data} holds no corpus: make a folder with documents there, or set "
                "FT_ASSETS_DATA"
            )
    for corpus in corpora:
        project.require(corpus)
    return corpora


def corpora_stored(project: "Project", corpora: list[str] | None) -> list[str]:
    """The corpora that have artifacts, even if their documents are gone."""
    from ft_assets.config import did_you_mean

    stored = project.storage.corpora()
    for corpus in corpora or []:
        if corpus not in stored:
            hint = did_you_mean(corpus, stored, "; ")
            raise UserError(f"there are no artifacts of {corpus!r} in {project.storage.root}{hint}")
    return corpora or stored
