"""What an assistant thought before its answer, where a record writes it into the answer itself."""

import re
from dataclasses import dataclass

_TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("[THINK]", "[/THINK]"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)
"""How models and datasets (OpenThoughts' last) begin and end what is thought."""
_HEAD = re.compile(
    r"\s*(?:" + "|".join(f"{re.escape(a)}(.*?){re.escape(b)}" for a, b in _TAGS) + ")", re.DOTALL
)
_SOLUTION = re.compile(r"\s*<\|begin_of_solution\|>(.*)<\|end_of_solution\|>\s*", re.DOTALL)


@dataclass(frozen=True)
class Thought:
    """The parts of an answer: what was thought, the answer after it, and the tag before both.

    Line breaks beside the tags belong to the tags.
    """

    reasoning: str
    answer: str
    tag: str


def thought_in(content: str) -> Thought | None:
    """The parts of an answer that begins with a closed block of thoughts; None for another."""
    found = _HEAD.match(content)
    if not found:
        return None
    place = found.lastindex or 1
    answer = content[found.end() :]
    if solution := _SOLUTION.fullmatch(answer):
        answer = solution[1].strip("\n")
    return Thought(found[place].strip("\n"), answer.lstrip("\n"), _TAGS[place - 1][0])
