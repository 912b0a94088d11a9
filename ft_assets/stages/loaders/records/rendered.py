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


_BOS = "<\uff5cbegin\u2581of\u2581sentence\uff5c>"
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
    _Family(
        "Vicuna",
        re.compile(r"(?:(?<=\s)|(?<=</s>)|^)(SYSTEM|USER|ASSISTANT|FUNCTION RESPONSE):[ ]*"),
    ),
    _Family("OpenChatKit", re.compile(_LINE + r"<(system|human|user|bot|assistant)>:[ ]*")),
    _Family(
        "Human and Assistant", re.compile(_LINE + r"(System|Human|User|Assistant|AI|Bot):[ ]*")
    ),
)
_TOKEN = re.compile(r"<\|[^|<>\s]{2,40}\|?>|<[a-z]{2,20}:bos>|\[gMASK\]|<\uff5c")
_ASKED = re.compile(
    r"<[^<>\n]{0,40}(?:user|human|prompter)[^<>\n]{0,40}>|>\s?user\b", re.IGNORECASE
)
_ANSWERED = re.compile(
    r"<[^<>\n]{0,40}(?:assistant|chatbot|model)[^<>\n]{0,40}>|>\s?(?:assistant|model)\b",
    re.IGNORECASE,
)
"""A text that begins with such a token and has a user's and an assistant's is of an unknown family."""

_MAY_BE = re.compile(
    r"\s*(?:[<\[#]|(?:SYSTEM|USER|ASSISTANT|System|Human|User|Assistant):|Below is an |A chat )"
)
_BEGIN = re.compile(
    r"\s*(?:<s>|<bos>|<\|begin_of_text\|>|<\|endoftext\|>|<\uff5cbegin\u2581of\u2581sentence\uff5c>)?\s*"
)
_PREFACES = {
    "DeepSeek": re.compile(f"(?<={_BOS})[^<]+(?=<\uff5cUser\uff5c>)"),
    "Alpaca": re.compile(r"Below is an instruction that describes a task[^#]{0,200}(?=###)"),
    "Vicuna": re.compile(r"A chat between a curious [^\n]{0,300}?\.\s+(?=USER:)"),
}
"""What these families write before the first turn; it is a system prompt, but for Alpaca's."""
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
    for family in _FAMILIES:
        preface = _PREFACES[family.name].match(text, start) if family.name in _PREFACES else None
        first = preface.end() if preface else start
        marks = list(family.start.finditer(text, first)) if family.start.match(text, first) else []
        if marks and (family.stops or _ask_and_answer(marks)):
            chat = _chat(family, text, marks)
            if preface and family.name != "Alpaca":
                chat.turns.insert(0, Turn("system", preface[0].strip()))
            return chat
    if _TOKEN.match(text, start) and _ASKED.search(text) and _ANSWERED.search(text):
        raise _unclear("with special tokens")
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
            turns += _turn(role, content)
        else:
            raise _unclear(family.name)
    roles = [turn.role for turn in turns]
    asked = roles[1:] if roles[:1] == ["system"] else roles
    if not asked or asked != ["user", "assistant"] * (len(asked) // 2):
        raise _unclear(family.name)
    return Chat(turns, (given[0] or None) if given and len(marks) <= _ONE_WITH_INPUT else None)


_DATES = re.compile(r"(?:Cutting Knowledge Date: [^\n]*\n)?Today Date: [^\n]*\n\n")
_NO_THOUGHT = re.compile(r"<think>\s*</think>\n*")


def _turn(role: str, content: str) -> list[Turn]:
    """The turn, without what templates write of their own: dates, and a thought that is empty."""
    if role == "system":
        content = _DATES.sub("", content, count=1)
        return [Turn(role, content)] if content.strip() else []
    if role == "assistant" and (found := _NO_THOUGHT.match(content)):
        content = content[found.end() :]
    return [Turn(role, content)]


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
    ended = next((end for end in _END if is_last and bare.endswith(end)), "")
    inner = bare.removesuffix(ended)
    for stop in family.stops:
        if inner.rstrip().endswith(stop):
            return inner.rstrip().removesuffix(stop)
    if ended:
        return inner
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
