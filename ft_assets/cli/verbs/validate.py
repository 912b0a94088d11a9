"""`validate`: every mistake in the user's input, before anything is built."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

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

    project = Project.from_environment()
    verdicts = {}
    for corpus in corpora_named(project, corpora):
        verdicts[corpus] = _verdict_on(project, corpus)
        if not as_json:
            _print_verdict(project, corpus, verdicts[corpus])
    if as_json:
        print(json.dumps({"corpora": verdicts}, default=_plain))
    if any(verdict["problems"] for verdict in verdicts.values()):
        raise typer.Exit(1)


class _Verdict(TypedDict):
    problems: "list[Problem]"
    left_out: "list[Problem]"
    warnings: list[str]


def _verdict_on(project: "Project", corpus: str) -> _Verdict:
    """What is wrong with a corpus; whatever it is, the others are looked at too."""
    from ft_assets.engine.settings_files import Problem
    from ft_assets.engine.validation import problems, read_all

    found = _Verdict(problems=[], left_out=[], warnings=[])
    try:
        found["problems"] = problems(project, corpus)
        if not found["problems"]:
            reading = read_all(project, corpus)
            found["left_out"], found["warnings"] = reading.left_out, reading.warnings
            if not reading.read:
                place = project.data / corpus
                found["problems"] = [Problem(place, None, None, "no file can be used")]
    except Exception as error:
        found["problems"] = [Problem(project.data / corpus, None, None, in_words(error))]
    return found


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else vars(value)


def _print_verdict(project: "Project", corpus: str, verdict: _Verdict) -> None:
    """Prints every problem of a corpus; files that would be left out are warnings."""
    from ft_assets.engine.words import counted, size_of
    from ft_assets.stages.models.base_model import is_hub_id

    for problem in verdict["problems"]:
        err.print(escape(str(problem)), soft_wrap=True)
    for reject in verdict["left_out"]:
        err.print(f"[yellow]left out:[/] {escape(str(reject))}", soft_wrap=True)
    if verdict["problems"]:
        return
    for warning in verdict["warnings"]:
        err.print(f"[yellow]warning:[/] {corpus}: {escape(warning)}", soft_wrap=True)
    files = project.files(corpus)
    damaged = len({reject.file for reject in verdict["left_out"]})
    warning = f" ({damaged} with something left out)" if damaged else ""
    base = project.config(corpus).model.base
    looked_up = " (on the model hub; not looked up)" if is_hub_id(base) else ""
    out.print(
        f"[green]ok[/] {corpus}: {counted(len(files), 'file')}{warning}, "
        f"{size_of(sum(file.size for file in files))}, base model {base}{looked_up}",
        soft_wrap=True,
    )
