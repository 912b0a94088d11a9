"""`status`: the state of every asset, and why."""

import json
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Column, Table

from ft_assets.cli.arguments import AsJson, Corpora, corpora_named
from ft_assets.cli.console import err, escape, out, shortened
from ft_assets.cli.verb import Verbs
from ft_assets.errors import in_words

if TYPE_CHECKING:
    from ft_assets.engine.freshness import AssetState
    from ft_assets.engine.project import Project
    from ft_assets.stages.training.estimate import Estimate

_COLOURS = {"fresh": "green", "stale": "yellow", "missing": "cyan", "blocked": "red"}

_BORDERS = 10
"""Columns that the borders of a table with three columns take."""
_SHORTEST = 16
"""A path is not shortened to fewer columns than this."""

verbs = Verbs()


@verbs.command()
def status(corpora: Corpora = None, as_json: AsJson = False) -> None:
    """Show which assets are fresh, stale, missing or blocked, and why.

    Compares the manifests with the current documents and settings; builds nothing. If question-answer
    pairs are to be generated, or an evaluation judged, it also estimates the cost; if an adapter is to be
    trained, the time and the memory.
    """
    from ft_assets.engine.project import Project

    project = Project.from_environment()
    states = {}
    errors = {}
    for corpus in corpora_named(project, corpora):
        try:
            states[corpus] = project.status(corpus)
        except Exception as error:  # whatever is wrong with one corpus does not hide the others
            errors[corpus] = in_words(error)
            err.print(f"[red]{corpus}:[/] {escape(errors[corpus])}", soft_wrap=True)
    if as_json:
        said: dict[str, Any] = {"corpora": {name: _state_json(of) for name, of in states.items()}}
        if expected := _estimates(project, states):
            said["estimates"] = {corpus: each.to_json() for corpus, each in expected.items()}
        print(json.dumps({**said, "errors": errors} if errors else said))
    else:
        _print_states(states)
        _print_blocked(states)
        _print_warnings(project, states)
        _print_costs(project, states)
        _print_estimates(_estimates(project, states))
    if errors:
        raise typer.Exit(1)


def _print_states(states: "dict[str, dict[str, AssetState]]") -> None:
    for corpus, of in states.items():
        room = max(_SHORTEST, out.width - max(map(len, of)) - max(map(len, _COLOURS)) - _BORDERS)
        table = Table(
            Column("asset", no_wrap=True),
            Column("state", no_wrap=True),
            "why",
            title=corpus,
            title_justify="left",
        )
        for asset, state in of.items():
            colour = _COLOURS[state.state]
            why = " ".join(shortened(word, room) for word in "; ".join(state.causes).split())
            table.add_row(asset, f"[{colour}]{state.state}[/]", escape(why))
        out.print(table)


def _print_blocked(states: "dict[str, dict[str, AssetState]]") -> None:
    """Says what can be done about a failed check; not of assets that wait for something else."""
    for corpus, of in states.items():
        causes = [
            cause for state in of.values() if state.state == "blocked" for cause in state.causes
        ]
        if any(": check " in cause for cause in causes):
            out.print(
                f"{corpus}: to unblock, repair the input or change the setting that is named; "
                "refresh --force ignores the check",
                soft_wrap=True,
            )


def _print_warnings(project: "Project", states: "dict[str, dict[str, AssetState]]") -> None:
    """Says what the last evaluation of each corpus warned of; what blocks is in the table."""
    from ft_assets.engine.verdicts import failures

    for corpus, of in states.items():
        if of["evaluation"].version is None:
            continue
        manifest = project.storage.current(corpus, "evaluation")
        for name, said in failures(manifest).items() if manifest else ():
            if manifest and not manifest.checks[name]["blocking"]:
                out.print(f"{corpus}: evaluation: {escape(said)}", soft_wrap=True)


def _print_costs(project: "Project", states: "dict[str, dict[str, AssetState]]") -> None:
    """Says of each corpus what refreshing its pairs, and judging its evaluation, would cost."""
    from ft_assets.engine.judging import judge_cost_line
    from ft_assets.engine.pairs import cost_line

    for corpus, of in states.items():
        for asset, line_of in (("qa_pairs", cost_line), ("evaluation", judge_cost_line)):
            if of[asset].state == "fresh":
                continue
            try:
                line = line_of(project, corpus)
            except Exception as error:
                line = in_words(error)
            if line:
                out.print(f"{corpus}: {escape(line)}", soft_wrap=True)


def _estimates(
    project: "Project", states: "dict[str, dict[str, AssetState]]"
) -> "dict[str, Estimate]":
    """What each training takes that refreshing would start, as far as that can be told."""
    from ft_assets.engine.estimates import next_training

    found = {}
    for corpus, of in states.items():
        if estimate := next_training(project, corpus, of):
            found[corpus] = estimate
    return found


def _print_estimates(estimates: "dict[str, Estimate]") -> None:
    for corpus, estimate in estimates.items():
        out.print(f"{corpus}: training: {escape(str(estimate))}", soft_wrap=True)
        if estimate.warning:
            out.print(f"[yellow]warning:[/] {corpus}: {escape(estimate.warning)}", soft_wrap=True)


def _state_json(states: "dict[str, AssetState]") -> dict[str, Any]:
    return {
        asset: {"state": state.state, "causes": state.causes, "version": state.version}
        for asset, state in states.items()
    }
