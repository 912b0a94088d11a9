"""A corpus's closed-book questions: put to the base and the tuned model, and never trained on."""

import json
from dataclasses import dataclass
from pathlib import Path

from ft_assets.errors import UserError
from ft_assets.files import MB, read_users_file

MAX_BYTES = 16 * MB
"""The largest question file that is read."""


@dataclass(frozen=True)
class Question:
    """A closed-book question, and the words that a correct answer contains."""

    question: str
    key_fact: str | None


def read_questions(path: Path) -> list[Question]:
    """The questions in a corpus's `questions.jsonl`; [] if the file does not exist.

    Raises UserError naming file and line if a line is not a question with a key fact.
    """
    try:
        text = read_users_file(path, MAX_BYTES)
    except FileNotFoundError:
        return []
    questions = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            question, key_fact = value["question"], value["key_fact"]
            if not (isinstance(question, str) and question.strip()):
                raise TypeError
            if not (isinstance(key_fact, str) and key_fact.strip()):
                raise TypeError
        except (ValueError, RecursionError, KeyError, TypeError):
            raise UserError(
                f'{path}:{number}: a line must be {{"question": "…", "key_fact": "…"}}'
            ) from None
        questions.append(Question(question, key_fact))
    return questions
