"""`validate`: every mistake in the user's input, before anything is built."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ft_assets.cli.arguments import AsJson, Corpora, corpora_named
from ft_assets.cli.console import err, escape, out
from ft_assets.cli.verb import Verbs
from ft_assets.errors import in_words

if TYPE_CHECKING:
    from ft_assets.engine.project import Project
    from ft_assets.engine.settings_files import Problem

verbs = Verbs()


@verbs.command()
def validate(corpora: Corpora = None, as_json: AsJson = False) -> None:
    """Check settings, documents and the base model before anything is built.

    Reports every error, not only the first, with its file, line and key, and exits with 1 if there is
    one. Reads every document and names those that would be left out. A model on the Hugging Face hub is
    not looked up.
    """
    from ft_assets.engine.project import Project
    from ft_assets.engine.settings_files import Problem
    from ft_assets.engine.validation import problems as problems_of
    from ft_assets.engine.validation import unusable_files

    project = Project.from_environment()
    verdicts = {}
    for corpus in corpora_named(project, corpora):
        left_out: list[Problem] = []
        anything = True
        try:
            problems = problems_of(project, corpus)
            if not problems:
                left_out, anything = unusable_files(project, corpus)
        except Exception as error:  # whatever is wrong with one corpus does not hide the others
            problems = [Problem(project.data / corpus, None, None, in_words(error))]
        if not anything:
            problems.append(Problem(project.data / corpus, None, None, "no file can be used"))
        verdicts[corpus] = {"problems": problems, "left_out": left_out}
        if not as_json:
            _print_verdict(project, corpus, problems, left_out)
    if as_json:
        print(json.dumps({"corpora": verdicts}, default=_plain))
    if any(verdict["problems"] for verdict in verdicts.values()):
        raise typer.Exit(1)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else vars(value)


def _print_verdict(
    project: "Project", corpus: str, problems: "list[Problem]", left_out: "list[Problem]"
) -> None:
    """Prints every problem of a corpus; files that would be left out are warnings."""
    from ft_assets.engine.words import counted, size_of
    from ft_assets.stages.models.base_model import is_hub_id

    for problem in problems:
        err.print(escape(str(problem)), soft_wrap=True)
    for reject in left_out:
        err.print(f"[yellow]left out:[/] {escape(str(reject))}", soft_wrap=True)
    if problems:
        return
    files = project.files(corpus)
    damaged = len({reject.file for reject in left_out})
    warning = f" ({damaged} with something left out)" if damaged else ""
    base = project.config(corpus).model.base
    looked_up = " (on the model hub; not looked up)" if is_hub_id(base) else ""
    out.print(
        f"[green]ok[/] {corpus}: {counted(len(files), 'file')}{warning}, "
        f"{size_of(sum(file.size for file in files))}, base model {base}{looked_up}",
        soft_wrap=True,
    )
