"""What trainings took on this machine, kept so that the next estimate is better.

One small file in the tool cache for each kind of training: a model's sizes on a machine, in one precision.
It is in no fingerprint and in no artifact. A file that is not what was written counts for none.
"""

import json
import math
import resource
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ft_assets.files import write_atomically
from ft_assets.manifest import digest
from ft_assets.stages.models.pinned_packages import cache_folder
from ft_assets.stages.training.machine import Machine
from ft_assets.stages.training.shape import Shape

ROOM = "trainings"
"""The part of the tool cache that measurements are kept in."""
_NAME = 16
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Kind:
    """What trainings have in common whose measurements hold for each other."""

    machine: Machine
    shape: Shape
    precision: str
    load_in_4bit: bool
    gradient_checkpointing: bool

    @property
    def path(self) -> Path:
        """The file of its measurements: its name begins with the machine's, then the precision."""
        shape = self.shape
        sizes = [shape.hidden, shape.vocabulary, shape.layers, shape.parameters, shape.active]
        own = digest([sizes, self.load_in_4bit, self.gradient_checkpointing])
        return cache_folder() / ROOM / f"{_beginning(self)}{own[:_NAME]}.json"


@dataclass(frozen=True)
class Measured:
    """What a training took.

    `seconds_per_token` counts padding as tokens; `startup_seconds` come before the first step.
    `operations` are those that a token was estimated to take, and `estimated_memory` the bytes that were
    estimated where `peak_memory` was used.
    """

    steps: int
    seconds_per_token: float
    startup_seconds: float
    operations: float
    peak_memory: int
    estimated_memory: int


def measured(kind: Kind) -> Measured | None:
    """What the last training of a kind took on this machine; None if there was none."""
    return _read(kind.path)


def operations_per_second(kind: Kind) -> float | None:
    """How much this machine computed in a second, in the longest training of any model in that precision."""
    paths = (cache_folder() / ROOM).glob(f"{_beginning(kind)}*.json")
    known = [found for path in sorted(paths) if (found := _read(path))]
    longest = max(known, key=lambda each: each.steps, default=None)
    return longest.operations / longest.seconds_per_token if longest else None


def keep(kind: Kind, found: Measured) -> None:
    """Keeps what a training took; if the cache cannot be written, nothing is."""
    with suppress(OSError):
        kind.path.parent.mkdir(parents=True, exist_ok=True)
        named = {"machine": kind.machine.name, "precision": kind.precision}
        write_atomically(kind.path, json.dumps({**named, **asdict(found)}, indent=1) + "\n")


def _beginning(kind: Kind) -> str:
    return f"{digest(kind.machine.name)[:_NAME]}-{kind.precision}-"


def _read(path: Path) -> Measured | None:
    """The measurements in a file; None unless each is a number above zero."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        values = {name: said[name] for name in Measured.__dataclass_fields__}
        is_sound = all(0 < value < math.inf for value in values.values())
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return Measured(**values) if is_sound else None


def begin_peak() -> None:
    """Forgets the peak of this process's memory so far, where the system can."""
    with suppress(OSError):
        _RESET.write_text("5")


def peak_memory() -> int:
    """The most bytes that this process had on the device that trains, so far."""
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved())
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
