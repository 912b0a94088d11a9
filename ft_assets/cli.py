"""The command line: every verb selects assets and runs them, or reads manifests.

Exit codes: 0 done, 1 the user's input is wrong, 2 usage, 3 a stage failed, 130 interrupted. Nothing heavy is
imported here: Dagster only where a verb runs something, llama.cpp only where it chats.
"""

import json
import os
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ft_assets import __version__
from ft_assets.config import QUESTIONS_FILE, SETTINGS_FILE, AssetName, FineTuneConfig, Problem
from ft_assets.errors import INTERRUPTED, StageError, UserError
from ft_assets.freshness import AssetState, Manifest, upstream
from ft_assets.resources.project import Made, Project
from ft_assets.stages.base_model import is_hub_id

app = typer.Typer(
    help="Make for fine-tuned models: a folder of documents in, a tuned model out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

DEMO_CORPUS = "lighthouse"
_COLOURS = {"fresh": "green", "stale": "yellow", "missing": "cyan", "blocked": "red"}

Corpus = Annotated[str, typer.Argument(help="A folder in the data folder.")]
Corpora = Annotated[
    list[str] | None, typer.Argument(help="Corpora; all of them where none is named.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Force = Annotated[bool, typer.Option("--force", help="Remake, past failed checks too.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"ft-assets {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option(help="Show tracebacks.")] = False,
) -> None:
    """Options that stand before the verb."""
    os.environ["FT_ASSETS_DEBUG"] = "1" if debug else ""


@app.command()
def init(corpus: Corpus) -> None:
    """Write a commented settings file for a corpus, and its folder where there is none."""
    from ft_assets.settings_file import commented_settings

    project = Project.from_environment()
    folder = project.data / corpus
    path = folder / SETTINGS_FILE
    if path.exists():
        raise UserError(f"{path} is there already; nothing was changed")
    if not project.is_corpus_name(corpus):
        raise UserError(f"{corpus!r} cannot name a corpus: use letters, digits, - and _")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(commented_settings(FineTuneConfig()), encoding="utf-8")
    out.print(f"wrote {path}", soft_wrap=True)
    out.print(f"put documents into {folder}, then: ft-assets refresh {corpus}", soft_wrap=True)


@app.command()
def validate(corpora: Corpora = None, as_json: AsJson = False) -> None:
    """Check settings, files and the base model; exit 1 with every error, not the first."""
    project = Project.from_environment()
    verdicts = {}
    for corpus in _named(project, corpora):
        problems = project.problems(corpus)
        left_out, anything = ([], True) if problems else project.rejects(corpus)
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
    project: Project, corpus: str, problems: list[Problem], left_out: list[Problem]
) -> None:
    """Prints every problem of a corpus; files that would be left out are warnings."""
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
        f"[green]ok[/] {corpus}: {len(files)} files{warning}, "
        f"{sum(file.size for file in files) / 1000:.0f} kB, base model {base}{looked_up}",
        soft_wrap=True,
    )


@app.command()
def status(corpora: Corpora = None, as_json: AsJson = False) -> None:
    """Show what is fresh, stale, missing or blocked, and why; from manifests alone."""
    project = Project.from_environment()
    states = {}
    errors = {}
    for corpus in _named(project, corpora):
        try:
            states[corpus] = project.status(corpus)
        except UserError as error:  # one corpus's mistake does not hide the others
            errors[corpus] = str(error)
            err.print(f"[red]{corpus}:[/] {escape(str(error))}", soft_wrap=True)
    if as_json:
        said = {"corpora": {name: _state_json(of) for name, of in states.items()}}
        print(json.dumps({**said, "errors": errors} if errors else said))
    else:
        _print_states(states)
    if errors:
        raise typer.Exit(1)


def _print_states(states: dict[str, dict[str, AssetState]]) -> None:
    for corpus, of in states.items():
        table = Table("asset", "state", "why", title=corpus, title_justify="left")
        for asset, state in of.items():
            colour = _COLOURS[state.state]
            table.add_row(asset, f"[{colour}]{state.state}[/]", escape("; ".join(state.causes)))
        out.print(table)


def _state_json(states: dict[str, AssetState]) -> dict[str, Any]:
    return {
        asset: {"state": state.state, "causes": state.causes, "version": state.version}
        for asset, state in states.items()
    }


@app.command()
def refresh(
    corpora: Corpora = None,
    until: Annotated[AssetName, typer.Option(help="Make what this asset needs.")] = "gguf",
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make what is stale, in one Dagster run for each corpus."""
    _refresh(_named(Project.from_environment(), corpora), until, force=force, as_json=as_json)


def _verb(name: str, asset: AssetName, does: str) -> None:
    """Adds a verb that refreshes one corpus up to `asset`."""

    @app.command(name, help=does)
    def verb(corpus: Corpus, force: Force = False, as_json: AsJson = False) -> None:
        if asset == "qa_pairs" and not _project_of(corpus).config(corpus).qa.enabled:
            path = Project.from_environment().data / corpus / SETTINGS_FILE
            raise UserError(f"{path}: qa.enabled is false, so there are no pairs to generate")
        _refresh([corpus], asset, force=force, as_json=as_json)


_verb("prepare-data", "formatted_dataset", "Make the dataset of a corpus.")
_verb("generate-qa", "qa_pairs", "Make the question-answer pairs of a corpus.")
_verb("train", "adapter", "Train the adapter of a corpus.")
_verb("evaluate", "evaluation", "Compare base and tuned.")
_verb("merge-adapter", "merged_model", "Merge the adapter into its base model.")
_verb("export", "gguf", "Make the GGUF files.")


@app.command()
def chat(
    corpus: Corpus,
    question: Annotated[str | None, typer.Option(help="Ask one question and end.")] = None,
    compare: Annotated[bool, typer.Option(help="Let the base model answer too.")] = False,
) -> None:
    """Talk to the GGUF file of a corpus."""
    from ft_assets.chat import Chat

    if question is not None and not question.strip():
        raise typer.BadParameter("it is empty", param_hint="--question")
    project = _project_of(corpus)
    with Chat(project, corpus, compare=compare) as talk:
        if question is not None:
            _print_answers(talk.answer(question))
            return
        out.print("An empty line ends the talk.")
        while line := _ask_person():
            _print_answers(talk.answer(line))


def _ask_person() -> str:
    with suppress(EOFError, KeyboardInterrupt):
        return input("> ").strip()
    return ""


def _print_answers(answers: dict[str, str]) -> None:
    for name, answer in answers.items():
        out.print(f"[bold]{name}:[/] {escape(answer)}", soft_wrap=True)


@app.command()
def ui(port: Annotated[int, typer.Option(help="Port on loopback.")] = 3000) -> None:
    """Serve the Dagster web UI and its daemon on loopback until interrupted."""
    from ft_assets.instance import dagster_home, run_group

    os.environ["DAGSTER_HOME"] = str(dagster_home())
    command = [sys.executable, "-W", "ignore", "-m", "dagster", "dev"]
    command += ["-m", "ft_assets.definitions", "-h", "127.0.0.1", "-p", str(port)]
    err.print(f"http://127.0.0.1:{port}  (Ctrl-C ends it, and the runs that it started)")
    raise typer.Exit(run_group(command))


@app.command()
def demo() -> None:
    """Take the sample corpus through the whole graph, and ask base and tuned one question."""
    project = Project.from_environment()
    if DEMO_CORPUS not in project.corpora():
        raise UserError(
            f"the sample corpus {DEMO_CORPUS!r} is not in {project.data}: run this in a checkout "
            "of the repository, or set FT_ASSETS_DATA to its data folder"
        )
    _refresh([DEMO_CORPUS], "gguf", force=False, as_json=False)
    _print_files(project)
    from ft_assets.chat import Chat
    from ft_assets.stages.evaluation import read_questions

    [first, *_] = read_questions(project.data / DEMO_CORPUS / QUESTIONS_FILE)
    out.print(f"\n[bold]question:[/] {escape(first.question)}", soft_wrap=True)
    with Chat(project, DEMO_CORPUS, compare=True) as talk:
        _print_answers(talk.answer(first.question))


def _print_files(project: Project) -> None:
    manifest = project.storage.current(DEMO_CORPUS, "gguf")
    evaluation = project.storage.current(DEMO_CORPUS, "evaluation")
    if manifest is None or evaluation is None:
        raise StageError("the demo's artifacts are gone: run the demo again")
    counts = evaluation.counts
    out.print(
        f"\nkey facts of {counts['questions']:.0f} closed-book questions: base "
        f"{counts['base_key_facts']:.0f}, tuned {counts['tuned_key_facts']:.0f}"
    )
    folder = project.storage.folder(DEMO_CORPUS, "gguf", manifest.version)
    for name in manifest.files:
        out.print(str(folder / name), soft_wrap=True)


def _named(project: Project, corpora: list[str] | None) -> list[str]:
    """The corpora that a verb is for. Raises UserError for one that is not there, or for none."""
    if not corpora:
        for name in project.misnamed():
            where = escape(str(project.data / name))
            err.print(f"[yellow]not a corpus:[/] {where}: name it in letters, digits, - and _")
        corpora = project.corpora()
        if not corpora:
            raise UserError(
                f"{project.data} holds no corpus: make a folder with documents there, or set "
                "FT_ASSETS_DATA"
            )
    for corpus in corpora:
        project.require(corpus)
    return corpora


def _project_of(corpus: str) -> Project:
    project = Project.from_environment()
    project.require(corpus)
    return project


def _refresh(corpora: list[str], until: str, *, force: bool, as_json: bool) -> None:
    """Refreshes each corpus in a run of its own; a failed one does not stop the others.

    Raises typer.Exit with the gravest code of any.
    """
    report = Console(stderr=True, highlight=False) if as_json else out
    materialized: list[tuple[str, str]] = []
    reused: list[tuple[str, str]] = []
    failed: list[tuple[str, str]] = []

    def on_made(made: Made) -> None:
        name = (made.manifest.corpus, made.manifest.asset)
        (reused if made.reused else materialized).append(name)
        if not made.reused:
            _print_made(report, made)

    project = Project.from_environment(on_made)
    code = 0
    for corpus in corpora:
        project.require(corpus)
        code = max(code, _refresh_one(project, corpus, until, force, report, failed, reused))
        if code == INTERRUPTED:
            break
    if as_json:
        lists = {"materialized": materialized, "reused": reused, "failed": failed}
        print(json.dumps(lists))
    if code:
        raise typer.Exit(code)


def _refresh_one(
    project: Project,
    corpus: str,
    until: str,
    force: bool,
    report: Console,
    failed: list[tuple[str, str]],
    reused: list[tuple[str, str]],
) -> int:
    """Refreshes one corpus and returns its exit code; what failed is added to `failed`."""
    from ft_assets.refresh import refresh_corpus

    wanted = [*upstream(until), until]
    try:
        states = project.status(corpus)
    except (UserError, StageError) as error:
        err.print(f"[red]{corpus}:[/] {escape(str(error))}", soft_wrap=True)
        return 1 if isinstance(error, UserError) else 3
    todo = [until] if force else []
    todo = [name for name in wanted if states[name].state != "fresh" or name in todo]
    reused += [(corpus, name) for name in wanted if name not in todo]
    if not todo:
        report.print(f"{corpus}: everything up to {until} is fresh")
        return 0
    report.print(f"[bold]{corpus}[/]: making {', '.join(todo)}")
    result = refresh_corpus(project, corpus, todo, force=force)
    for asset, message in result.failures.items():
        failed.append((corpus, asset))
        err.print(f"[red]{corpus}: {asset} failed:[/] {escape(message)}", soft_wrap=True)
    return result.exit_code


def _print_made(report: Console, made: Made) -> None:
    """One line for an artifact that was made, and one for each thing worth a warning."""
    manifest = made.manifest
    counts = ", ".join(f"{_number(value)} {name}" for name, value in manifest.counts.items())
    report.print(f"  [green]{manifest.asset}[/] {made.seconds:.1f} s  {counts}", soft_wrap=True)
    for line in _warnings(manifest):
        report.print(f"    [yellow]{escape(line)}[/]", soft_wrap=True)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}"


def _warnings(manifest: Manifest) -> Iterable[str]:
    if manifest.asset == "raw_documents":
        for line in manifest.sources:
            yield from (f"{line['path']}: {reason}" for reason in line["rejected"])
    for name, verdict in manifest.checks.items():
        if not verdict["passed"]:
            yield f"check {name} failed: {verdict['message']}"


def main() -> None:
    """Runs the command line; every error the project knows is one message and an exit code."""
    try:
        app()
    except (UserError, StageError) as error:
        if os.environ.get("FT_ASSETS_DEBUG"):
            traceback.print_exc()
        err.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1 if isinstance(error, UserError) else 3)
    except Exception as error:
        if os.environ.get("FT_ASSETS_DEBUG"):
            traceback.print_exc()
        what = escape(f"{type(error).__name__}: {error}")
        err.print(f"[red]internal error:[/] {what} (ft-assets --debug shows where)")
        sys.exit(3)


if __name__ == "__main__":
    main()
