"""Where a template writes the reasoning of an answer: found by trying it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ft_assets.records import Message
from ft_assets.stages.reasoning import thought_in
from ft_assets.stages.templates.markers import ANSWER_MARK, QUESTION_MARK, REASONING_MARK
from ft_assets.stages.templates.thinking import after, open_block

KEYS = ("reasoning_content", "reasoning", "thinking")
"""The keys under which templates look for it: Qwen's, Solar's and gpt-oss'. A template reads one."""
Way = Literal["keys", "parts", "inline"]
"""How it is given: under KEYS, as a part of the content (Ministral), or in it (SmolLM3)."""

_Render = Callable[[Sequence[Any], bool], str | None]
_ASK = {"role": "user", "content": QUESTION_MARK}
_PLAIN = {"role": "assistant", "content": ANSWER_MARK}


@dataclass(frozen=True)
class Place:
    """The place that a template has for reasoning, if `is_there`.

    `written` is what the template writes of a conversation of marks with reasoning.
    """

    way: Way = "keys"
    is_there: bool = False
    written: str = ""

    def turn(self, plain: dict[str, Any], reasoning: str) -> dict[str, Any]:
        """A turn with its reasoning, as the template takes it."""
        content = plain["content"]
        if self.way == "parts":
            said = [{"type": "text", "text": content}] if content else []
            return {**plain, "content": [{"type": "thinking", "thinking": reasoning}, *said]}
        if self.way == "inline":
            return {**plain, "content": f"<think>\n{reasoning}\n</think>\n\n{content}"}
        return {**plain, **dict.fromkeys(KEYS, reasoning)}

    def parted(self, message: Message, escape: Callable[[str], str]) -> tuple[str, str | None]:
        """The content of a message without reasoning, and the reasoning of an assistant's.

        A block of thoughts in the content stays there if the template has neither a place for it nor
        its tag: then it is text like any other.
        """
        content, reasoning = message["content"], message.get("reasoning")
        if message["role"] != "assistant":
            return content, None
        thought = thought_in(content)
        if not thought:
            return content, reasoning
        is_same = reasoning and thought.reasoning.strip() in ("", reasoning.strip())
        is_text = not self.is_there and escape(thought.tag) == thought.tag
        if is_same or not (reasoning or is_text):
            return thought.answer, reasoning or thought.reasoning
        return content, reasoning


def place_for_reasoning(render: _Render, chat_template: str) -> Place:
    """The place for reasoning in a template; `render` gives None for what it refuses."""
    prompt, plain = render([_ASK], True), render([_ASK, _PLAIN], False)
    if prompt is None or plain is None:
        return Place()
    for way in get_args(Way):
        whole = render([_ASK, Place(way).turn(_PLAIN, REASONING_MARK)], False) or ""
        if whole.startswith(prompt) and _is_written(way, whole, plain, chat_template):
            return Place(way, True, whole)
    block, said = open_block(prompt), after(prompt, plain) or ""
    return Place(is_there=bool(block and said.lstrip().startswith(block)))


def _is_written(way: Way, whole: str, plain: str, chat_template: str) -> bool:
    """Whether the reasoning is in a conversation as a reader of the template would have it."""
    if way == "parts":  # not the list itself, as text
        return REASONING_MARK in whole and not any(f"{mark}type{mark}" in whole for mark in "'\"")
    if way == "inline":
        content = Place(way).turn(_PLAIN, REASONING_MARK)["content"]
        is_known = "<think>" in chat_template
        has_own = "think>" in plain.rpartition(QUESTION_MARK)[2]
        return is_known and not has_own and whole == plain.replace(ANSWER_MARK, content)
    return REASONING_MARK in whole
