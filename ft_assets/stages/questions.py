"""The closed-book questions of a corpus: asked of base and tuned, and never trained on."""

import json
from dataclasses import dataclass
from pathlib import Path

from ft_assets.errors import UserError
from ft_assets.files import MB, read_users_file

MAX_BYTES = 16 * MB
"""The largest file of questions that is read."""


@dataclass(frozen=True)
class Question:
    """A closed-book question, and the words that a right answer has in it."""

    question: str
    key_fact: str | None


def read_questions(path: Path) -> list[Question]:
    """The questions of a corpus's `questions.jsonl`; none where there is no such file.

    Raises UserError naming file and line for a line that is not a question with a key fact.
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
