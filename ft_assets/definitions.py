"""The graph put together: `build_definitions` for tests and other projects, `defs` for Dagster."""

import math
from typing import Any

import dagster as dg

from ft_assets.compute.local import LocalCompute
from ft_assets.defs.assets.adapter import adapter
from ft_assets.defs.assets.chunks import chunks
from ft_assets.defs.assets.corpus_files import corpus_files
from ft_assets.defs.assets.evaluation import evaluation
from ft_assets.defs.assets.formatted_dataset import formatted_dataset
from ft_assets.defs.assets.gguf import gguf
from ft_assets.defs.assets.merged_model import merged_model
from ft_assets.defs.assets.qa_pairs import qa_pairs
from ft_assets.defs.assets.raw_documents import raw_documents
from ft_assets.defs.assets.settings import settings
from ft_assets.defs.batch_sensor import build_batch_sensor
from ft_assets.defs.corpus_sensor import build_corpus_sensor
from ft_assets.defs.tags import REFRESH_JOB
from ft_assets.engine.graph import GRAPH
from ft_assets.engine.project import Project


def build_definitions(**overrides: Any) -> dg.Definitions:
    """The project's definitions.

    `overrides` replace resources by name: `project`, else the one that the environment names, and
    `compute`, where workers run, else this machine.
    """
    project = overrides.get("project") or Project.from_environment()
    return dg.Definitions(
        assets=[
            corpus_files,
            *settings,
            raw_documents,
            chunks,
            qa_pairs,
            formatted_dataset,
            adapter,
            evaluation,
            merged_model,
            gguf,
        ],
        jobs=[dg.define_asset_job(REFRESH_JOB, selection=dg.AssetSelection.assets(*GRAPH))],
        sensors=[build_corpus_sensor(math.ceil(project.settle_seconds)), build_batch_sensor()],
        resources={"compute": LocalCompute(), **overrides, "project": project},
        executor=dg.in_process_executor,
    )


defs = build_definitions()
