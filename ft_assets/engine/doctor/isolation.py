"""What the kernel offers to shut in the processes that read documents and render templates."""

import json
import subprocess
import sys
from pathlib import Path

from ft_assets import children
from ft_assets.engine.doctor.line import Line

_SECONDS = 20
_COSTS = {
    "no_new_privs": "parsers and templates could gain privileges by set-user-id programs",
    "seccomp": "parsers and templates are not kept from the network by a system call filter",
}


def offered() -> dict[str, bool]:
    """Each kind of isolation and whether a process of ours gets it; tried in children."""
    probe = Path(__file__).with_name("namespaces_probe.py")
    command = [sys.executable, "-I", str(probe)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    namespaces: dict[str, bool] = json.loads(done.stdout)
    shut = children.isolation()
    return {
        "no_new_privs": shut.get("no_new_privileges", False),
        "seccomp": shut.get("no_network", False),
        **namespaces,
    }


def isolation() -> Line:
    """no_new_privs, seccomp, user and network namespaces; the namespaces are a second layer."""
    if sys.platform != "linux":
        return Line("isolation", "missing", "available on Linux only", "; ".join(_COSTS.values()))
    kinds = offered()
    said = ", ".join(f"{'' if there else 'no '}{kind}" for kind, there in kinds.items())
    costs = [cost for kind, cost in _COSTS.items() if not kinds[kind]]
    if costs:
        return Line("isolation", "missing", said, "; ".join(costs))
    if not all(kinds.values()):
        return Line("isolation", "note", said, "namespaces, a second layer, are not available")
    return Line("isolation", "ok", said)
