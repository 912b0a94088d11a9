"""The spellings of keys and roles in the dialects that datasets use, and the keys of one record."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

CONVERSATIONS = (
    "messages",
    "conversations",
    "conversation",
    "turns",
    "dialog",
    "dialogue",
    "chat",
    "contents",
)
"""Keys of a list of turns."""
ASKS = (
    *("instruction", "prompt", "question", "query", "problem", "definition", "instructions"),
    *("user", "human", "input", "inputs_pretokenized", "inputs", "text_input", "input_text"),
)
"""Keys of a question, in the order in which they are looked for."""
ANSWERS = (
    *("output", "completion", "response", "answer", "solution", "assistant", "gpt", "generation"),
    *("answers", "target", "targets_pretokenized", "targets", "outputs", "output_text"),
)
"""Keys of its answer."""
CONTEXTS = (
    *("input", "context", "contexts", "ctx", "passage", "passages", "article", "articles"),
    *(
        "document",
        "documents",
        "paragraph",
        "paragraphs",
        "background",
        "story",
        "evidence",
        "knowledge",
    ),
    *("inputs_pretokenized", "inputs", "input_text"),
)
"""Keys of the text that a question is about."""
SYSTEMS = (
    *("system", "system_prompt", "system_message", "system_instruction", "systeminstruction"),
    *("developer", "preamble", "meta_instruction"),
)
OPTIONS = ("options", "choices")

ROLE_KEYS = ("role", "from", "speaker", "author", "sender")
CONTENT_KEYS = ("content", "value", "text", "message", "parts")

_ROLES = {
    "system": "system developer",
    "user": "user human prompter customer client instruction question prompt query input",
    "assistant": (
        "assistant gpt chatgpt gpt4 gpt-4 model bot chatbot ai agent llm output response answer "
        "completion"
    ),
    "tool": (
        "tool function observation ipython function_response tool_response tool_result "
        "function_result function_output tool_output"
    ),
    "call": "function_call tool_call tool_calls",
}
ROLES = {name: role for role, names in _ROLES.items() for name in names.split()}
"""The role behind each name; `call` is an assistant's turn that only calls functions."""


def spelled(key: str) -> str:
    """A key or role as it is looked for: in small letters, with underscores between words."""
    return _spelled(key) if len(key) <= _MAX_NAME else key


@lru_cache(4_096)
def _spelled(key: str) -> str:
    return key.strip().strip("\ufeff").lower().replace(" ", "_").replace("-", "_")


def role_named(name: Any) -> str | None:
    """The role that a name stands for; None for an unknown one."""
    if not isinstance(name, str) or len(name) > _MAX_NAME:
        return None
    return ROLES.get(spelled(name)) or ROLES.get(name.strip().lower())


_MAX_NAME = 100


def role_of(turn: dict[str, Any]) -> str | None:
    """The role of a turn; None if it names none that is known."""
    for key in ROLE_KEYS:
        if turn.get(key) is not None:
            return role_named(turn[key])
    return None


def has_format(value: dict[str, Any]) -> bool:
    """Whether an object has the keys of a record or a text."""
    return columns_have_format(key for key, item in value.items() if item is not None)


def columns_have_format(names: Iterable[str]) -> bool:
    """Whether columns or keys of these names can hold records or texts."""
    keys = {spelled(name) for name in names}
    if "text" in keys or not keys.isdisjoint(CONVERSATIONS):
        return True
    asks, answers = keys.intersection(ASKS), keys.intersection(ANSWERS)
    return bool(asks and answers) or _is_preference(keys)


def _is_preference(keys: set[str]) -> bool:
    """Whether these are a preference record's keys: it is turned away for a reason of its own."""
    return not keys.isdisjoint({"rejected", "chosen", "rejected_messages", "segments", "input_ids"})


class Fields:
    """The keys of one record, by their spelling. Those that a reader asks for are used.

    A key whose value is null is not there.
    """

    def __init__(self, value: dict[str, Any]) -> None:
        self._values: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        self._used: set[str] = set()
        self._doubled: list[str] = []
        for name, item in value.items():
            key = spelled(name)
            if item is None:
                continue
            if key in self._values:
                self._doubled.append(name)
            else:
                self._values[key], self._names[key] = item, name

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def among(self, keys: Iterable[str]) -> list[str]:
        """Those of the keys that are there, in the order of `keys`."""
        values = self._values
        return [key for key in keys if key in values]

    def peek(self, key: str) -> Any:
        """The value of a key, which is not used thereby; None if it is not there."""
        return self._values.get(key)

    def take(self, key: str) -> Any:
        """The value of a key, which is used."""
        self._used.add(key)
        return self._values.get(key)

    def name(self, key: str) -> str:
        """A key as the file spells it."""
        return self._names.get(key, key)

    def names(self) -> list[str]:
        """All keys as the file spells them."""
        return [*self._names.values(), *self._doubled]

    def unused(self) -> list[str]:
        """The keys with something in them that no reader asked for, as the file spells them."""
        unused = [
            self._names[key]
            for key, value in self._values.items()
            if key not in self._used and value not in ("", [], {})
        ]
        return unused + self._doubled if self._doubled else unused
