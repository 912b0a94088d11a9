"""`evaluation`: base and tuned compared, their answers side by side."""

from itertools import islice
from pathlib import Path
from typing import Any

import dagster as dg

from ft_assets.assets import corpus_asset, materialize, table
from ft_assets.records import Answer, read_table
from ft_assets.resources.project import Project

_SHOWN = 100


@corpus_asset("evaluation")
def evaluation(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> dg.MaterializeResult:
    return materialize(context, project, answers)


def answers(folder: Path) -> dict[str, Any]:
    """The first answers of base and tuned as a table."""
    rows = [vars(row) for row in islice(read_table(folder / "answers.parquet", Answer), _SHOWN)]
    columns = ("question", "key_fact", "base_answer", "tuned_answer", "base_hit", "tuned_hit")
    return {"answers": table(rows, columns)}
