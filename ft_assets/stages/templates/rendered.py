"""What a template makes of a conversation: rows of text, in segments that are trained or not."""

from dataclasses import dataclass
from typing import Any

from ft_assets.records import Segment, prompt_of
from ft_assets.stages.templates.conversations import (
    CannotRenderError,
    Turns,
    require,
    require_tools,
)
from ft_assets.stages.templates.process import Answer

NO_LIMIT = 1 << 40


@dataclass(frozen=True)
class Rendered:
    """A row as text: what the model is given, and what it is to say, stop token included, in turn.

    `escaped` says that a message held text that marks a turn, which was escaped. `reasoning` says of each
    answer whether the reasoning that its record has is in it; None if the record has none.
    """

    segments: list[Segment]
    escaped: bool = False
    reasoning: tuple[bool | None, ...] = ()

    @property
    def prompt(self) -> str:
        """What the model is asked with for its first answer."""
        return prompt_of(self.segments)

    @property
    def completion(self) -> str:
        """Its first answer."""
        return next(each["text"] for each in self.segments if each["trained"])


@dataclass(frozen=True)
class RenderedRows:
    """The rows of a conversation; `beyond` counts the answers left out because they are asked with too
    many characters.
    """

    rows: list[Rendered]
    beyond: int = 0


def segment(text: str, *, trained: bool) -> list[Segment]:
    """One segment, or none for an empty text."""
    return [{"text": text, "trained": trained}] if text else []


def rows_of(turns: Turns, trained: list[int], answer: Answer) -> RenderedRows | CannotRenderError:
    """The rows of a conversation from what the template made of its turns, or what is wrong with them.

    `trained` are the places of its trained turns.
    """
    try:
        rows = said(answer, "rows")
        if rows is None:
            raise CannotRenderError(
                "the template begins an answer otherwise when it asks for one than when it has one, as "
                "those of reasoning models do"
            )
        return RenderedRows([_checked(turns, trained, row) for row in rows], answer["beyond"])
    except CannotRenderError as error:
        return error


def said(answer: Answer, name: str) -> Any:
    """A text of an answer. Raises CannotRenderError if the template failed before it."""
    if "harm" in answer:
        raise CannotRenderError(f"the template {answer['harm']} for it")
    if name not in answer:
        raise CannotRenderError(f"the template refuses it: {answer['error']}")
    return answer[name]


def _checked(turns: Turns, trained: list[int], row: dict[str, Any]) -> Rendered:
    """A row if it holds the words of all turns up to its last answer. Raises CannotRenderError if not.

    Answers that were trained in earlier rows may be written otherwise: templates of reasoning models
    leave out what was thought before them.
    """
    segments: list[Segment] = []
    start, passed = 0, {place for place in trained if place < row["places"][0]}
    asked, said = row["pieces"][::2], row["pieces"][1::2]
    require_tools(asked[0], turns.tools)
    for place, before, answer in zip(row["places"], asked, said, strict=True):
        require(before, turns.messages[start:place], passed)
        require(answer, turns.messages[place : place + 1])
        segments += [*segment(before, trained=False), *segment(answer, trained=True)]
        start, passed = place + 1, set()
    return Rendered(segments, turns.escaped, tuple(row["reasoning"]))
