"""The project's Dagster instance: a folder of its own, and the processes that serve it."""

import os
import signal
import subprocess
import time
from contextlib import suppress
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


_GRACE_SECONDS = 30


def run_group(command: list[str]) -> int:
    """Runs a command in a process group of its own until it ends, and returns its exit code.

    An interrupt or a termination, to whichever process it was sent, is handed to the whole group:
    Dagster's server starts runs that would otherwise outlive it.
    """
    process = subprocess.Popen(command, process_group=0)

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        return process.wait()
    except KeyboardInterrupt:
        _end_group(process)
        return 0


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """Interrupts every process of the group, and kills what is left of it after a while."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        deadline = time.monotonic() + _GRACE_SECONDS
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)  # raises once nobody is left
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
