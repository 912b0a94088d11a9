"""The project's Dagster instance: a folder of its own."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

_DAGSTER_YAML = """\
# The project's Dagster instance. See docs/architecture.md.
telemetry:
  enabled: false
nux:
  enabled: false  # the box that asks for a newsletter
run_monitoring:
  enabled: true
  free_slots_after_run_end_seconds: 10
python_logs:
  python_log_level: INFO
concurrency:
  pools:
    granularity: op
    default_limit: 1  # of trainings, evaluations, merges and exports at once
compute_logs:  # a run's events have the training log; capturing would start four processes a run
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""


def dagster_home() -> Path:
    """The instance folder that `DAGSTER_HOME` names (`./.dagster`), made if it is not there.

    A `dagster.yaml` that is there is left as it is. The environment names the folder from then on,
    in full, for Dagster and for the processes that it starts.
    """
    home = Path(os.environ.get("DAGSTER_HOME") or ".dagster").absolute()
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    if not settings.exists():
        settings.write_text(_DAGSTER_YAML)
    os.environ["DAGSTER_HOME"] = str(home)
    return home


def referenced_variables(home: Path) -> dict[str, str]:
    """The environment variables that the `dagster.yaml` of an instance folder takes values from.

    They stand there as `{env: NAME}`, for example the password of a database.
    """
    named = _referenced(yaml.safe_load((home / "dagster.yaml").read_text()))
    return {name: os.environ[name] for name in named if name in os.environ}


def _referenced(settings: Any) -> Iterator[str]:
    if isinstance(settings, list):
        for each in settings:
            yield from _referenced(each)
    elif isinstance(settings, dict):
        if list(settings) == ["env"] and isinstance(settings["env"], str):
            yield settings["env"]
        for each in settings.values():
            yield from _referenced(each)
