"""A corpus's closed-book questions: put to the base and the tuned model, and never trained on."""

import json
from dataclasses import dataclass
from pathlib import Path

from ft_assets.errors import UserError
from ft_assets.files import MB, read_users_file

MAX_BYTES = 16 * MB
"""The largest question file that is read."""
LINE = '{"question": "…", "key_fact": "…"}'
"""What a line of the file looks like."""
_SHOWN = 20
"""Mistakes that an error lists; `validate` lists all."""


@dataclass(frozen=True)
class Question:
    """A closed-book question, and the accepted spellings of the words that a correct answer contains.

    `key_facts` is empty for a question that is only shown with its answers.
    """

    question: str
    key_facts: tuple[str, ...] = ()


class QuestionsError(UserError):
    """The lines of a question file that cannot be used.

    `mistakes` has all of them, each with its line number; the message has the first ones.
    """

    def __init__(self, path: Path, mistakes: list[tuple[int, str]]) -> None:
        self.path, self.mistakes = path, mistakes
        lines = [f"{path}:{number}: {mistake}" for number, mistake in mistakes[:_SHOWN]]
        if more := len(mistakes) - _SHOWN:
            lines += [f"{path}: {more:,} more lines cannot be used"] if more > 0 else []
        super().__init__("\n".join(lines))


def read_questions(path: Path) -> list[Question]:
    """The questions in a corpus's `questions.jsonl`; [] if the file does not exist.

    Raises QuestionsError with every line that is not a question with a key fact, and UserError if the
    file cannot be read.
    """
    try:
        text = read_users_file(path, MAX_BYTES)
    except FileNotFoundError:
        return []
    questions, mistakes = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            questions.append(_question(line))
        except (ValueError, RecursionError) as error:
            mistakes.append((number, f"{_why(error)}; a line must be {LINE}"))
    if mistakes:
        raise QuestionsError(path, mistakes)
    return questions


class _MistakeError(ValueError):
    """A line is JSON, but not a question."""


def _question(line: str) -> Question:
    value = json.loads(line)
    if not isinstance(value, dict):
        raise _MistakeError("it is not an object in braces")
    for key in ("question", "key_fact"):
        if key not in value:
            raise _MistakeError(f"{key} is missing")
    _require_text("question", value["question"])
    spellings = value["key_fact"] if isinstance(value["key_fact"], list) else [value["key_fact"]]
    for spelling in spellings:
        _require_text("key_fact", spelling)
    if not spellings:
        raise _MistakeError("key_fact is empty")
    return Question(value["question"], tuple(spellings))


def _require_text(key: str, value: object) -> None:
    if not isinstance(value, str):
        raise _MistakeError(f"{key} is not a text")
    if not value.strip():
        raise _MistakeError(f"{key} is empty")


def _why(error: ValueError | RecursionError) -> str:
    if isinstance(error, _MistakeError):
        return str(error)
    if isinstance(error, json.JSONDecodeError):
        return f"it is not JSON ({error.msg}, column {error.colno})"
    return "it is not JSON that can be read"
