"""The files of an evaluation."""

import json
from collections.abc import Mapping
from pathlib import Path

METRICS = "metrics.json"
ANSWERS = "answers.parquet"
"""Answers to the questions of the corpus; to held-out rows if it has none."""
HELD_OUT_ANSWERS = "held_out.parquet"
GENERAL_ANSWERS = "general.parquet"
JUDGED = "judged.parquet"
"""The judge's verdicts, if there is a judge."""


def read_metrics(evaluation: Path) -> dict[str, float]:
    """The numbers of an evaluation, by its folder."""
    found: dict[str, float] = json.loads((evaluation / METRICS).read_text())
    return found


def write_metrics(evaluation: Path, metrics: Mapping[str, float]) -> None:
    """Writes what `read_metrics` reads."""
    text = json.dumps(metrics, indent=1, sort_keys=True)
    (evaluation / METRICS).write_text(text + "\n")
