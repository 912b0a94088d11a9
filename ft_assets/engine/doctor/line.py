"""A line of the doctor's report."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "missing", "note", "optional"]


@dataclass(frozen=True)
class Line:
    """One thing of this machine: whether it is there, what was found, and what going without costs.

    `note` is for what works, but less well or differently, `optional` for what is not there and only some
    corpora or machines need. The project cannot work at all without an `essential` thing.
    """

    name: str
    state: State
    found: str
    cost: str = ""
    essential: bool = False
