"""Texts that are chats already rendered: read back into turns, or refused.

A text is a rendered chat if it begins with a marker of a family. It is read back if markers and
contents alternate to its end; a text that only mentions markers is left alone.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ft_assets.stages.loaders.records.entries import BadRecordError
from ft_assets.stages.loaders.records.spelling import role_named
from ft_assets.stages.loaders.records.turns import Turn


@dataclass
class Chat:
    """What a rendered text says: its turns, and the input of a single Alpaca instruction."""

    turns: list[Turn]
    input: str | None = None


@dataclass(frozen=True)
class _Family:
    """A way to render chats. `start` matches the marker that opens a turn and names its role.

    `stops` close a turn. If there are none, the markers are words, not tokens: they count only if both
    a question's and an answer's are there. `open` names the roles whose turns need no stop.
    """

    name: str
    start: re.Pattern[str]
    stops: tuple[str, ...] = ()
    open: tuple[str, ...] = ()


_EOS = "<\uff5cend\u2581of\u2581sentence\uff5c>"
_ROLE = "([A-Za-z_]{2,20})"
_LINE = r"(?:(?<=\n)|^)"
_FAMILIES = (
    _Family(
        "ChatML", re.compile(rf"<\|im_start\|> ?{_ROLE}(?:\n|<\|im_sep\|>\n?)"), ("<|im_end|>",)
    ),
    _Family(
        "Llama 3",
        re.compile(
            rf"<\|(?:start_header_id|header_start)\|>{_ROLE}<\|(?:end_header_id|header_end)\|>\n\n?"
        ),
        ("<|eot_id|>", "<|eot|>", "<|eom_id|>"),
    ),
    _Family("Gemma", re.compile(rf"<start_of_turn>{_ROLE}\n"), ("<end_of_turn>",)),
    _Family(
        "Granite",
        re.compile(rf"<\|start_of_role\|>{_ROLE}<\|end_of_role\|>"),
        ("<|end_of_text|>",),
    ),
    _Family(
        "Phi or Zephyr",
        re.compile(r"<\|(system|user|assistant)\|>[ ]?\n?"),
        ("<|end|>", "</s>", "<|endoftext|>"),
        open=("system", "user", "assistant"),
    ),
    _Family("DeepSeek", re.compile("<\uff5c(User|Assistant)\uff5c>"), (_EOS,), open=("user",)),
    _Family(
        "Alpaca", re.compile(_LINE + r"### ?(System|Instruction|Input|Response|Output):[ ]*\n?")
    ),
    _Family("Guanaco", re.compile(r"### ?(System|Human|User|Assistant|Response):[ ]*\n?")),
    _Family("Vicuna", re.compile(r"(?:(?<=\s)|(?<=</s>)|^)(USER|ASSISTANT):[ ]*")),
    _Family("Human and Assistant", re.compile(_LINE + r"(Human|User|Assistant):[ ]*")),
)
_UNREAD = re.compile(
    r"<\|start\|>(?:system|developer|user|assistant)\b|<\|START_OF_TURN_TOKEN\|>|<\|turn>"
)
"""The first marker of families that are not read back."""

_MAY_BE = re.compile(r"\s*(?:[<\[#]|(?:USER|ASSISTANT|Human|User|Assistant):|Below is an |A chat )")
_BEGIN = re.compile(
    r"\s*(?:<s>|<bos>|<\|begin_of_text\|>|<\|endoftext\|>|<\uff5cbegin\u2581of\u2581sentence\uff5c>)?\s*"
)
_PREFACES = {
    "Alpaca": re.compile(r"Below is an instruction that describes a task[^#]{0,200}(?=###)"),
    "Vicuna": re.compile(r"A chat between a curious [^\n]{0,300}?\.\s+(?=USER:)"),
}
"""What these families write before the first turn; Vicuna's is a system prompt."""
_END = ("</s>", "<eos>", "<|endoftext|>", "<|end_of_text|>", _EOS)
_MARKERS = re.compile(
    r"<\|(?:im_start|im_end|im_sep|start_header_id|end_header_id|eot_id|header_start|header_end|eot"
    r"|start_of_role|end_of_role|user|assistant|system)\|>|<(?:start|end)_of_turn>"
    r"|\[/?INST\]|<</?SYS>>|\[/?SYSTEM_PROMPT\]|<\uff5c(?:User|Assistant)\uff5c>"
)


def rendered_chat(text: str) -> Chat | None:
    """The turns of a rendered chat; None for a text that is none.

    Raises BadRecordError for a rendered chat that cannot be read back for certain.
    """
    if not _MAY_BE.match(text):
        return None
    found = _BEGIN.match(text)
    start = found.end() if found else 0
    if text.startswith(("[INST]", "[SYSTEM_PROMPT]"), start):
        return Chat(list(_instructions(text, start)))
    if _UNREAD.match(text, start):
        raise _unclear("with special tokens")
    for family in _FAMILIES:
        preface = _PREFACES[family.name].match(text, start) if family.name in _PREFACES else None
        first = preface.end() if preface else start
        marks = list(family.start.finditer(text, first)) if family.start.match(text, first) else []
        if marks and (family.stops or _ask_and_answer(marks)):
            chat = _chat(family, text, marks)
            if preface and family.name == "Vicuna":
                chat.turns.insert(0, Turn("system", preface[0].strip()))
            return chat
    return None


def _ask_and_answer(marks: list["re.Match[str]"]) -> bool:
    """Whether words are markers: a question's comes first, and an answer's is there."""
    roles = [_role(mark[1]) for mark in marks]
    return roles[0] in ("user", "system") and "assistant" in roles


def _role(name: str) -> str | None:
    return "input" if name == "Input" else role_named(name)


def _chat(family: _Family, text: str, marks: list["re.Match[str]"]) -> Chat:
    turns: list[Turn] = []
    given: list[str] = []
    for role, content in _contents(family, text, marks):
        if role == "input" and turns and turns[-1].role == "user":
            given.append(content)
            if len(marks) > _ONE_WITH_INPUT:
                turns[-1].content += f"\n\n{content}"
        elif role in ("system", "user", "assistant") and not (
            family.stops and _MARKERS.search(content)
        ):
            turns.append(Turn(role, content))
        else:
            raise _unclear(family.name)
    roles = [turn.role for turn in turns]
    asked = roles[1:] if roles[:1] == ["system"] else roles
    if not asked or asked != ["user", "assistant"] * (len(asked) // 2):
        raise _unclear(family.name)
    return Chat(turns, (given[0] or None) if given and len(marks) <= _ONE_WITH_INPUT else None)


_ONE_WITH_INPUT = 3
"""The markers of an Alpaca text with one instruction and its input."""


def _contents(
    family: _Family, text: str, marks: list["re.Match[str]"]
) -> Iterator[tuple[str, str]]:
    """The role of each marker, and the text up to the next without what closes the turn."""
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    for mark, end in zip(marks, ends, strict=True):
        role = _role(mark[1]) or ""
        yield role, _closed(family, role, text[mark.end() : end], is_last=end == len(text))


def _closed(family: _Family, role: str, content: str, *, is_last: bool) -> str:
    """The content without what closes its turn, nor the token that ends a text."""
    bare = content.rstrip()
    if not family.stops:
        ended = next((end for end in _END if bare.endswith(end)), "")
        return bare.removesuffix(ended).rstrip().lstrip("\n")
    for stop in family.stops:
        if bare.endswith(stop):
            return bare.removesuffix(stop)
    ended = next((end for end in _END if is_last and bare.endswith(end)), "")
    if ended:
        return _closed(family, role, bare.removesuffix(ended), is_last=True)
    if is_last or role in family.open:
        return content.rstrip("\n")
    raise _unclear(family.name)


_EXCHANGE = re.compile(
    r"\s*\[INST\](.*?)\[/INST\](.*?)(?:</s>\s*(?:<s>)?\s*|(?=\[INST\])|\Z)", re.DOTALL
)
_SYSTEM = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>", re.DOTALL)
_SYSTEM_PROMPT = re.compile(r"\[SYSTEM_PROMPT\](.*?)\[/SYSTEM_PROMPT\]", re.DOTALL)


def _instructions(text: str, at: int) -> Iterator[Turn]:
    """The turns of a text rendered for Llama 2 or Mistral, whose questions are between two markers."""
    is_first = True
    if found := _SYSTEM_PROMPT.match(text, at):
        yield Turn("system", found[1].strip())
        at = found.end()
    while at < len(text):
        found = _EXCHANGE.match(text, at)
        if not found:
            raise _unclear("Llama 2 or Mistral")
        question, answer = found[1], found[2].strip()
        if is_first and (system := _SYSTEM.match(question)):
            yield Turn("system", system[1].strip())
            question = question[system.end() :]
        if not answer or _MARKERS.search(question) or _MARKERS.search(answer):
            raise _unclear("Llama 2 or Mistral")
        yield Turn("user", question.strip())
        yield Turn("assistant", answer)
        at, is_first = found.end(), False


def _unclear(name: str) -> BadRecordError:
    return BadRecordError(
        f"it looks like a chat already rendered ({name}) that cannot be read back for certain: "
        "write a list of 'messages' with 'role' and 'content' instead"
    )
