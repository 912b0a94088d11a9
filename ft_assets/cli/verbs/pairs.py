"""`generate-qa` and `qa`: question-answer pairs generated, priced and reviewed."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ft_assets.cli.arguments import AsJson, Corpus, Force, project_with
from ft_assets.cli.console import err, out, print_rows
from ft_assets.cli.verb import Verbs
from ft_assets.cli.verbs.refresh import refresh_until
from ft_assets.errors import UserError
from ft_assets.names import SETTINGS_FILE

if TYPE_CHECKING:
    from ft_assets.engine.project import Project

verbs = Verbs()
_review = Verbs(
    help="Review question-answer pairs: export, edit or reject, import.", no_args_is_help=True
)
verbs.add_typer(_review, name="qa")


@verbs.command("generate-qa")
def generate_qa(
    corpus: Corpus,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count and price the requests, but send none.")
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Generate the question-answer pairs of a corpus.

    The same as `refresh --until qa_pairs`, but exits with 1 while `qa.enabled` is false. Exits with 4
    while a batch is pending: run it again later. `--dry-run` needs no key and works while `qa.enabled`
    is false; it builds the chunks if they are stale.
    """
    project = project_with(corpus)
    if dry_run:
        _print_estimate(project, corpus, as_json=as_json)
        return
    if not project.config(corpus).qa.enabled:
        path = project.data / corpus / SETTINGS_FILE
        raise UserError(f"{path}: qa.enabled is false: set it to true to generate pairs")
    refresh_until("qa_pairs", [corpus], force=force, as_json=as_json)


def _print_estimate(project: "Project", corpus: str, *, as_json: bool) -> None:
    """Says what the pairs would cost; the chunks, which cost nothing, are made first."""
    from ft_assets.engine.pairs import estimate_pairs
    from ft_assets.stages.qa.money import cap_warning
    from ft_assets.stages.words import counted

    _make_chunks(project, corpus)
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
    print_rows(f"pairs of {corpus} still to be paid for", list(rows[0]), rows)
    lines = [f"spent on this corpus so far: ${ledger.usd:,.4f}; qa.max_usd ${qa.max_usd:,.4f}"]
    if waiting:
        lines.append(f"under way in batches: {counted(waiting, 'more request')}")
    lines.append(cap_warning(found, qa.send, ledger.making.usd, qa.max_usd))
    out.print("\n".join(filter(None, lines)), soft_wrap=True)


def _make_chunks(project: "Project", corpus: str) -> None:
    """Makes the chunks if they are not fresh; raises typer.Exit if that fails."""
    from ft_assets.cli.progress import Progress
    from ft_assets.cli.refresh import refresh_corpora

    if project.status(corpus)["chunks"].state == "fresh":
        return
    code = refresh_corpora(project, [corpus], "chunks", Progress(err, err), force=False, jobs=1)
    if code:
        raise typer.Exit(code)


@_review.command("export")
def qa_export(
    corpus: Corpus, file: Annotated[Path, typer.Argument(help="The file to write.")]
) -> None:
    """Write the pairs of a corpus to a JSON Lines file for review."""
    from ft_assets.engine.pairs import export_pairs
    from ft_assets.stages.words import counted

    count = export_pairs(project_with(corpus), corpus, file)
    out.print(f"{counted(count, 'pair')} in {file}", soft_wrap=True)
    out.print(
        'edit question and answer, or set "verdict" to "reject" (to "restore" to take a review '
        f"back); then: ft-assets qa import {corpus} {file}",
        soft_wrap=True,
        markup=False,
    )


@_review.command("import")
def qa_import(
    corpus: Corpus, file: Annotated[Path, typer.Argument(help="The edited export.")]
) -> None:
    """Import the edits and rejections of a review.

    They also apply to pairs that are generated later.
    """
    from ft_assets.engine.pairs import import_reviews
    from ft_assets.stages.words import counted

    new, target = import_reviews(project_with(corpus), corpus, file)
    out.print(f"{counted(new, 'new or changed review')} in {target}", soft_wrap=True)
    if new:
        out.print(f"to apply them (sends no request): ft-assets refresh {corpus}")


@_review.command("prompt")
def qa_prompt(
    judge: Annotated[bool, typer.Option("--judge", help="Print the judge's instructions.")] = False,
) -> None:
    """Print the default instructions, as a starting point for a prompt file of your own."""
    from ft_assets.stages.qa.judge import DEFAULT_JUDGE_PROMPT
    from ft_assets.stages.qa.prompt import DEFAULT_PROMPT

    print(DEFAULT_JUDGE_PROMPT if judge else DEFAULT_PROMPT, end="")
