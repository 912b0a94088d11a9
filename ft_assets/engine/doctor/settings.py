"""What the environment names: the Dagster instance, and keys by name alone."""

import os
import re
from pathlib import Path

from ft_assets.engine.doctor.line import Line
from ft_assets.engine.doctor.places import existing

_KEY = re.compile(r"[A-Z0-9_]*_API_KEY|HF_TOKEN|HUGGING_FACE_HUB_TOKEN")


def dagster_folder() -> Line:
    """The Dagster instance; it is neither opened nor made."""
    name = "DAGSTER_HOME"
    home = Path(os.environ.get(name) or ".dagster").absolute()
    if not os.access(existing(home), os.W_OK):
        cost = "no run can be started: set DAGSTER_HOME to a folder of your own"
        return Line(name, "missing", f"{home} is not writable", cost, essential=True)
    if not (home / "dagster.yaml").is_file():
        return Line(name, "note", f"{home} has no dagster.yaml", "it is created on first use")
    return Line(name, "ok", str(home))


def keys() -> Line:
    """The names of the keys that are set; never a value."""
    names = sorted(name for name in os.environ if _KEY.fullmatch(name) and os.environ[name].strip())
    if names:
        return Line("keys", "ok", ", ".join(names))
    cost = "no pairs from Claude (ANTHROPIC_API_KEY), no private or gated models (HF_TOKEN)"
    return Line("keys", "note", "none in the environment", cost)
