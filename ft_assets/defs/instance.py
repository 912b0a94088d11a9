"""The project's Dagster instance: a folder of its own."""

import os
from pathlib import Path

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
