"""What `validate` prints of a corpus: what will be learned from it, what not, and why."""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from ft_assets.cli.console import err, escape, out
from ft_assets.stages.dataset.held_out import ENOUGH_ROWS
from ft_assets.stages.qa.money import dollars
from ft_assets.stages.questions import LINE
from ft_assets.stages.words import counted, files_read, listed, size_of

if TYPE_CHECKING:
    from ft_assets.engine.glance import Glance
    from ft_assets.engine.measure import Measured

_LEFT_OUT = 20
"""Lines on what is left out; `--json` has all of them."""
_UNUSED_FILES, _UNUSED_KEYS = 5, 8


def print_left_out(glance: "Glance") -> None:
    """Prints what is left out of the files, by reason; only the first lines if there are very many."""
    for each in islice(glance.left_out, _LEFT_OUT):
        err.print(f"[yellow]left out:[/] {escape(str(each))}", soft_wrap=True)
    if more := glance.left_out[_LEFT_OUT:]:
        files = counted(len({each.file for each in more}), "file")
        err.print(
            f"[yellow]left out:[/] {counted(len(more), 'more reason')} in {files}: "
            "ft-assets validate --json lists all",
            soft_wrap=True,
        )


def print_glance(corpus: str, glance: "Glance", base: str) -> None:
    """Prints the size of a corpus, then what will be learned from it."""
    size = size_of(sum(each.bytes for each in glance.formats.values()))
    files = files_read(glance.files, glance.files_in_part, glance.files_left_out)
    mark = "[red]stopped[/]" if glance.stops else "[green]ok[/]"
    out.print(f"{mark} {corpus}: {files}, {size}, base model {base}", soft_wrap=True)
    for line in lines(glance):
        out.print(f"  {escape(line)}", soft_wrap=True)
    if keys := [stop.key for stop in glance.stops]:
        settings = " and ".join(keys)
        out.print(
            f"  before training: repair or remove what is named above, or raise {settings}",
            soft_wrap=True,
        )


def lines(glance: "Glance") -> Iterator[str]:
    """What will be learned, in plain lines."""
    for name, each in glance.formats.items():
        yield f"{name}: {_measured(each, counted_tokens=glance.tokens_counted)}"
    yield from _pairs(glance)
    yield from _unused(glance)
    if refused := glance.refused_tools:
        yield f"left out: {counted(refused.records, 'record')} with tools: {refused.reason}"
    if glance.takes_reasoning is not None:
        yield _reasoning(glance)
    yield _held_out(glance)
    if glance.training:
        chosen = ", ".join(f"{key} {value}" for key, value in glance.training.items())
        yield f"chosen for training, from about this much data: {chosen}"
    if glance.questions:
        yield f"questions.jsonl: {counted(glance.questions, 'closed-book question')}"
    else:
        yield (
            "no questions.jsonl: with one, evaluation asks the base and the tuned model each question and "
            f"counts the key facts in their answers, before and after; a line is {LINE}"
        )


def _measured(found: "Measured", *, counted_tokens: bool) -> str:
    """What the files of one format hold; `about` marks what was not counted."""
    about = "" if counted_tokens and not found.projected else "about "
    parts = [
        counted(found.files, "file"),
        counted(found.characters, "character"),
        about + counted(found.tokens, "token"),
    ]
    if found.records:
        answers = counted(found.answers, "answer")
        parts.append(f"{counted(found.records, 'record')} with {answers} to learn")
    if found.chunks:
        chunks = counted(found.chunks, "chunk")
        parts.append(f"{'about ' if found.projected else ''}{chunks} of text")
    return ", ".join(parts)


def _pairs(glance: "Glance") -> Iterator[str]:
    """The question-answer pairs to be generated, or what there is without them."""
    pairs = glance.pairs
    cost = "" if pairs.usd is None else f"about {_rounded(pairs.usd)}"
    if pairs.enabled and pairs.expected:
        yield f"question-answer pairs: about {pairs.expected:,}" + (f" for {cost}" if cost else "")
    elif glance.chunks and not glance.records:
        would = f"; pairs would cost {cost} (qa.enabled: true)" if cost else ""
        yield f"no question-answer pairs: this teaches style, hardly facts{would}"


def _rounded(usd: float) -> str:
    """An estimate for people: to the cent, or to the hundredth of a cent if it is below one."""
    return f"${usd:,.2f}" if usd >= 0.01 else dollars(usd)


def _unused(glance: "Glance") -> Iterator[str]:
    """The keys of records that nothing is learned from."""
    for path, keys in islice(glance.unused_keys.items(), _UNUSED_FILES):
        shown = [f"{key} ({counted(count, 'record')})" for key, count in keys.items()]
        yield f"keys that are not used in {path}: {listed(shown, _UNUSED_KEYS)}"
    if (more := len(glance.unused_keys) - _UNUSED_FILES) > 0:
        yield f"keys that are not used in {counted(more, 'more file')}: see --json"


def _reasoning(glance: "Glance") -> str:
    """Whether the reasoning of answers is learned."""
    answers = counted(glance.reasoned, "answer")
    if glance.takes_reasoning:
        return f"reasoning: {answers} with it; the template has a place for it, so it is trained"
    return (
        f"reasoning of {answers} is not trained: the template has no place for it; set model.base to "
        "a reasoning model"
    )


def _held_out(glance: "Glance") -> str:
    """What is held out for evaluation."""
    held = glance.held_out
    if not held.of:
        return "held out: nothing (data.eval_fraction is 0), so there is no eval loss"
    rows = f"about {counted(held.rows, 'row')}"
    if held.rows < ENOUGH_ROWS:
        rows += ", too few for their loss to mean anything"
    return f"held out: {held.fraction:.0%} (data.eval_fraction) of {' and '.join(held.of)}: {rows}"
