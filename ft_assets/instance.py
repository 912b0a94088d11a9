"""The project's Dagster instance: a folder of its own, made on first use."""

import os
from pathlib import Path

_DAGSTER_YAML = """\
# The project's Dagster instance. See docs/architecture.md.
telemetry:
  enabled: false
run_monitoring:
  enabled: true
  free_slots_after_run_end_seconds: 10
"""


def dagster_home() -> Path:
    """The instance folder that `DAGSTER_HOME` names (`./.dagster`), made where it is not there.

    A `dagster.yaml` that is there is left as it is.
    """
    home = Path(os.environ.get("DAGSTER_HOME") or ".dagster").absolute()
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    if not settings.exists():
        settings.write_text(_DAGSTER_YAML)
    return home
