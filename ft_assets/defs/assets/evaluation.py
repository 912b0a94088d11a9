"""`evaluation`: base and tuned compared, their answers side by side."""

from itertools import islice
from pathlib import Path

import dagster as dg

from ft_assets.compute import Compute
from ft_assets.defs.materialize import corpus_asset, materialize
from ft_assets.defs.metadata import Metadata, table
from ft_assets.defs.pictures import bars
from ft_assets.engine.project import Project
from ft_assets.records import ComparedAnswer, JudgedAnswer
from ft_assets.stages.scoring.files import ANSWERS, JUDGED, read_metrics
from ft_assets.tables import read_table

_SHOWN = 100
_BOTH = ("base", "tuned")
_PICTURES = {
    "losses": ("eval_loss", "loss on held-out rows: less is better"),
    "right_answers": ("key_facts", "questions answered with the key fact"),
    "judged_right": ("judged_right", "answers that the judge calls right"),
}
"""The pictures by their names: the metric, and what is said below it."""
_COLUMNS = ("question", "key_fact", *_BOTH)
_JUDGE = ("judge on base", "judge on tuned")
Verdicts = dict[tuple[str, str, str, str], str]
"""The judge's words by question, reference, model and answer."""


@corpus_asset("evaluation")
def evaluation(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    compute: dg.ResourceParam[Compute],
) -> dg.MaterializeResult:
    return materialize(context, project, compute, comparison)


def comparison(folder: Path) -> Metadata:
    """Base beside tuned: the losses and the key facts as pictures, the first answers as a table."""
    metrics = read_metrics(folder)
    answers = islice(read_table(folder / ANSWERS, ComparedAnswer), _SHOWN)
    pictures = {
        name: bars(name, label, {who: metrics[f"{who}_{key}"] for who in _BOTH})
        for name, (key, label) in _PICTURES.items()
        if all(f"{who}_{key}" in metrics for who in _BOTH)
    }
    verdicts = _verdicts(folder)
    columns = (*_COLUMNS, *_JUDGE) if verdicts else _COLUMNS
    return {**pictures, "answers": table([_side_by_side(r, verdicts) for r in answers], columns)}


def _verdicts(folder: Path) -> Verdicts:
    """The judge's words on each answer; none without a judge."""
    if not (folder / JUDGED).exists():
        return {}
    return {
        (row.question, row.reference, row.model, row.answer): f"{row.verdict}: {row.remark}"
        for row in read_table(folder / JUDGED, JudgedAnswer)
    }


def _side_by_side(row: ComparedAnswer, verdicts: Verdicts) -> dict[str, object]:
    """An answer of each model, marked as right or wrong if the question has a key fact, with the judge's
    words on both.
    """
    said = {"base": row.base_answer, "tuned": row.tuned_answer}
    return {
        **{
            column: verdicts.get((row.question, row.key_fact or "", who, said[who]))
            for column, who in zip(_JUDGE, _BOTH, strict=True)
        },
        "question": row.question,
        "key_fact": row.key_fact,
        "base": f"{_mark(row.base_hit)}{row.base_answer}",
        "tuned": f"{_mark(row.tuned_hit)}{row.tuned_answer}",
    }


def _mark(hit: bool | None) -> str:
    return "" if hit is None else "✓ " if hit else "✗ "
