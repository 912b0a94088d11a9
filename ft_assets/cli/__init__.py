"""The command line: every verb selects assets and runs them, or reads manifests.

Exit codes: 0 done, 1 the user's input is wrong, 2 usage, 3 a stage failed, 4 a batch is
waited for, 130 interrupted. Nothing heavy is
imported here: Dagster only where a verb runs something, llama.cpp only where it chats.
"""

import json
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ft_assets import __version__
from ft_assets.config import FineTuneConfig
from ft_assets.engine.freshness import AssetState
from ft_assets.engine.project import Project
from ft_assets.engine.settings_files import Problem
from ft_assets.errors import StageError, UserError, exit_code
from ft_assets.names import QUESTIONS_FILE, SETTINGS_FILE, AssetName
from ft_assets.stages.models.base_model import is_hub_id

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
    from ft_assets.cli.settings_file import commented_settings

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
    from ft_assets.engine.validation import problems as problems_of
    from ft_assets.engine.validation import unusable_files

    project = Project.from_environment()
    verdicts = {}
    for corpus in _named(project, corpora):
        problems = problems_of(project, corpus)
        left_out, anything = ([], True) if problems else unusable_files(project, corpus)
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
        _print_costs(project, states)
    if errors:
        raise typer.Exit(1)


def _print_states(states: dict[str, dict[str, AssetState]]) -> None:
    for corpus, of in states.items():
        table = Table("asset", "state", "why", title=corpus, title_justify="left")
        for asset, state in of.items():
            colour = _COLOURS[state.state]
            table.add_row(asset, f"[{colour}]{state.state}[/]", escape("; ".join(state.causes)))
        out.print(table)


def _print_costs(project: Project, states: dict[str, dict[str, AssetState]]) -> None:
    """Says of each corpus what refreshing its pairs would cost."""
    from ft_assets.engine.pairs import cost_line

    for corpus, of in states.items():
        if of["qa_pairs"].state == "fresh":
            continue
        try:
            line = cost_line(project, corpus)
        except (UserError, StageError) as error:
            line = str(error)
        if line:
            out.print(f"{corpus}: {escape(line)}", soft_wrap=True)


def _state_json(states: dict[str, AssetState]) -> dict[str, Any]:
    return {
        asset: {"state": state.state, "causes": state.causes, "version": state.version}
        for asset, state in states.items()
    }


@app.command()
def refresh(
    corpora: Corpora = None,
    until: Annotated[AssetName, typer.Option(help="Make what this asset needs.")] = "gguf",
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Corpora at once.")] = 1,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make what is stale, in one Dagster run for each corpus."""
    named = _named(Project.from_environment(), corpora)
    _refresh(named, until, force=force, as_json=as_json, jobs=jobs)


def _verb(name: str, asset: AssetName, does: str) -> None:
    """Adds a verb that refreshes one corpus up to `asset`."""

    @app.command(name, help=does)
    def verb(corpus: Corpus, force: Force = False, as_json: AsJson = False) -> None:
        _refresh([corpus], asset, force=force, as_json=as_json)


_verb("prepare-data", "formatted_dataset", "Make the dataset of a corpus.")
_verb("train", "adapter", "Train the adapter of a corpus.")
_verb("evaluate", "evaluation", "Compare base and tuned.")
_verb("merge-adapter", "merged_model", "Merge the adapter into its base model.")
_verb("export", "gguf", "Make the GGUF files.")


@app.command("generate-qa")
def generate_qa(
    corpus: Corpus,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count and price the requests; send none.")
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make the question-answer pairs of a corpus."""
    project = _project_of(corpus)
    if dry_run:
        _print_estimate(corpus, as_json=as_json)
        return
    if not project.config(corpus).qa.enabled:
        path = project.data / corpus / SETTINGS_FILE
        raise UserError(f"{path}: qa.enabled is false, so there are no pairs to generate")
    _refresh([corpus], "qa_pairs", force=force, as_json=as_json)


def _print_estimate(corpus: str, *, as_json: bool) -> None:
    """Says what the pairs would cost; the chunks, which cost nothing, are made first."""
    from ft_assets.cli.progress import Progress
    from ft_assets.cli.refresh import refresh_corpora
    from ft_assets.engine.pairs import estimate_pairs
    from ft_assets.stages.qa.money import cap_warning

    project = _project_of(corpus)
    if project.status(corpus)["chunks"].state != "fresh":
        progress = Progress(err, err)
        code = refresh_corpora(project, [corpus], "chunks", progress, force=False, jobs=1)
        if code:
            raise typer.Exit(code)
    found, ledger = estimate_pairs(project, corpus)
    qa, waiting = project.config(corpus).qa, len(ledger.in_batches)
    said = {
        "requests": found.requests,
        "input_tokens": found.input_tokens,
        "output_tokens": found.output_tokens,
        "usd_messages": found.usd,
        "usd_batches": found.usd_in_batches,
        "max_usd": qa.max_usd,
        "under_way": waiting,
        "spent_usd": ledger.usd,
    }
    if as_json:
        print(json.dumps({"corpus": corpus, **said}))
        return
    rows = [
        {"sent as": way, "requests": f"{found.requests:,}", "tokens in": f"{found.input_tokens:,}"}
        | {"tokens out": f"{found.output_tokens:,}", "about": f"${usd:,.4f}"}
        for way, usd in found.ways.items()
    ]
    _print_rows(f"pairs of {corpus} still to be paid for", list(rows[0]), rows)
    lines = [f"spent on this corpus so far: ${ledger.usd:,.4f}; qa.max_usd ${qa.max_usd:,.4f}"]
    if waiting:
        lines.append(f"{waiting:,} more requests are under way in batches")
    lines.append(cap_warning(found, qa.send, ledger.making.usd, qa.max_usd))
    out.print("\n".join(filter(None, lines)), soft_wrap=True)


review = typer.Typer(
    help="Look at question-answer pairs, edit and reject them.", no_args_is_help=True
)
app.add_typer(review, name="qa")


@review.command("export")
def qa_export(corpus: Corpus, file: Annotated[Path, typer.Argument(help="To be written.")]) -> None:
    """Write the pairs of a corpus to a JSON Lines file, to be edited or rejected there."""
    from ft_assets.engine.pairs import export_pairs

    count = export_pairs(_project_of(corpus), corpus, file)
    out.print(f"{count} pairs in {file}", soft_wrap=True)
    out.print(
        'edit question and answer, or set "verdict" to "reject" (to "restore" to take a review back); '
        "then: "
        f"ft-assets qa import {corpus} {file}",
        soft_wrap=True,
        markup=False,
    )


@review.command("import")
def qa_import(
    corpus: Corpus, file: Annotated[Path, typer.Argument(help="An edited export.")]
) -> None:
    """Take edits and rejections into the corpus; they hold when pairs are made anew."""
    from ft_assets.engine.pairs import import_reviews

    new, target = import_reviews(_project_of(corpus), corpus, file)
    out.print(f"{new} new or changed reviews in {target}", soft_wrap=True)
    if new:
        out.print(f"ft-assets refresh {corpus} takes them up; nothing is sent for it")


@review.command("prompt")
def qa_prompt(
    judge: Annotated[bool, typer.Option("--judge", help="Those of the judge.")] = False,
) -> None:
    """Print the default instructions, to begin a prompt file of your own with."""
    from ft_assets.stages.qa.judge import DEFAULT_JUDGE_PROMPT
    from ft_assets.stages.qa.prompt import DEFAULT_PROMPT

    print(DEFAULT_JUDGE_PROMPT if judge else DEFAULT_PROMPT, end="")


@app.command()
def lineage(
    corpus: Corpus,
    asset: Annotated[
        AssetName | None, typer.Argument(help="The last one made where none is named.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the documents behind an artifact."""
    from ft_assets.engine.lineage import COLUMNS, documents_behind, require_made, told

    project = _project_of(corpus)
    manifest = require_made(project, corpus, asset)
    documents = [told(row) for row in documents_behind(project.storage, manifest)]
    head = {"corpus": corpus, "asset": manifest.asset, "version": manifest.version}
    if as_json:
        print(json.dumps({**head, "inputs": manifest.inputs, "documents": documents}))
        return
    title = f"{manifest.asset} of {corpus}, version {manifest.version}, {manifest.ended}"
    rows = [{**line, "document_id": str(line["document_id"])[:12]} for line in documents]
    _print_rows(title, [name for name in COLUMNS if name != "text_id"], rows)


@app.command()
def impact(
    file: Annotated[str, typer.Argument(help="A path or a document id.")], as_json: AsJson = False
) -> None:
    """List the artifacts, current and old, that learned from a document."""
    from ft_assets.engine.lineage import impact as impact_of

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
    _print_rows(file, ["corpus", "asset", "version", "current", "document_id"], rows)


def _print_rows(title: str, columns: list[str], rows: list[dict[str, Any]]) -> None:
    table = Table(
        *(Column(name.replace("_", " "), overflow="fold") for name in columns),
        title=escape(title),
        title_justify="left",
    )
    for row in rows:
        table.add_row(*(escape(str(row.get(name, ""))) for name in columns))
    out.print(table)


@app.command()
def verify(corpora: Corpora = None, as_json: AsJson = False) -> None:
    """Read every artifact and compare it with its manifest; exit 3 where one is damaged."""
    from ft_assets.engine.verify import LEDGER
    from ft_assets.engine.verify import verify as verdicts_on

    project = Project.from_environment()
    verdicts = [
        verdict
        for corpus in _stored(project, corpora)
        for verdict in verdicts_on(project.storage, corpus)
    ]
    damaged = [verdict for verdict in verdicts if verdict.damage]
    size = sum(verdict.bytes for verdict in verdicts)
    if as_json:
        print(
            json.dumps(
                {
                    "artifacts": len(verdicts),
                    "bytes": size,
                    "damaged": [vars(item) for item in damaged],
                }
            )
        )
    for verdict in damaged:
        for line in verdict.damage:
            err.print(f"[red]damaged:[/] {escape(line)}", soft_wrap=True)
        if verdict.version == LEDGER:  # it says itself what to do: it cannot be made again
            continue
        what = f"ft-assets refresh {verdict.corpus} --until {verdict.asset} --force"
        err.print(f"  to mend it: {what}; an old version: ft-assets prune", soft_wrap=True)
    if damaged:
        raise typer.Exit(3)
    if not as_json:
        out.print(
            f"[green]ok[/] {len(verdicts)} artifacts, {size / 1e6:.1f} MB, as their manifests say"
        )


@app.command()
def prune(
    corpora: Corpora = None,
    keep: Annotated[int, typer.Option(min=1, help="Versions of each asset to keep.")] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove old versions that no kept artifact was made from."""
    from ft_assets.engine.prune import prune as prune_corpus

    project = Project.from_environment()
    gone: list[Any] = []
    for corpus in _stored(project, corpora):
        found = prune_corpus(project.storage, corpus, keep, dry_run=dry_run)
        if found is None:
            err.print(f"[yellow]{corpus} is left alone:[/] an artifact of it is being made")
        gone += found or []
    freed = sum(item.bytes for item in gone)
    if as_json:
        print(
            json.dumps(
                {"removed": [vars(item) for item in gone], "bytes": freed, "dry_run": dry_run}
            )
        )
        return
    for item in gone:
        out.print(f"  {item.corpus}/{item.asset}/{item.version}  {item.bytes / 1e6:.1f} MB")
    what = "would be removed" if dry_run else "removed"
    out.print(f"{len(gone)} versions {what}, {freed / 1e6:.1f} MB freed")


@app.command()
def chat(
    corpus: Corpus,
    question: Annotated[str | None, typer.Option(help="Ask one question and end.")] = None,
    compare: Annotated[bool, typer.Option(help="Let the base model answer too.")] = False,
) -> None:
    """Talk to the GGUF file of a corpus."""
    from ft_assets.cli.chat import Chat

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
    import dagster as dg

    from ft_assets.defs.instance import dagster_home, run_group
    from ft_assets.defs.runs import close_dead_runs

    dagster_home()
    with dg.DagsterInstance.get() as instance:
        close_dead_runs(instance)
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
    from ft_assets.cli.chat import Chat
    from ft_assets.stages.questions import read_questions

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


def _stored(project: Project, corpora: list[str] | None) -> list[str]:
    """The corpora that have artifacts, whether their documents are there still or not."""
    stored = project.storage.corpora()
    for corpus in corpora or []:
        if corpus not in stored:
            raise UserError(f"there are no artifacts of {corpus!r} in {project.storage.root}")
    return corpora or stored


def _project_of(corpus: str) -> Project:
    project = Project.from_environment()
    project.require(corpus)
    return project


def _refresh(corpora: list[str], until: str, *, force: bool, as_json: bool, jobs: int = 1) -> None:
    """Refreshes corpora; raises typer.Exit with the gravest code of any."""
    from ft_assets.cli.progress import Progress
    from ft_assets.cli.refresh import refresh_corpora

    progress = Progress(err if as_json else out, err)
    project = Project.from_environment(progress.made, on_line=progress.say)
    code = refresh_corpora(project, corpora, until, progress, force=force, jobs=jobs)
    if as_json:
        print(json.dumps(progress.lists()))
    if code:
        raise typer.Exit(code)


def main() -> None:
    """Runs the command line; every error the project knows is one message and an exit code."""
    try:
        app()
    except (UserError, StageError) as error:
        if os.environ.get("FT_ASSETS_DEBUG"):
            traceback.print_exc()
        err.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(exit_code(error))
    except Exception as error:
        if os.environ.get("FT_ASSETS_DEBUG"):
            traceback.print_exc()
        what = escape(f"{type(error).__name__}: {error}")
        err.print(f"[red]internal error:[/] {what} (ft-assets --debug shows where)")
        sys.exit(3)
