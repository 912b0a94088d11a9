"""A person's reviews of pairs: edits and rejections, applied to the model's pairs.

They are in `qa_review.jsonl` in the corpus folder, keyed by the text of a chunk and a question. So they
still apply after pairs are rebuilt, and after another part of the document changes.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from ft_assets.errors import UserError
from ft_assets.files import MB, read_users_file
from ft_assets.records import Chunk, DroppedPair, QAPair
from ft_assets.stages.duplicates import fold_words
from ft_assets.stages.qa.answer import Draft
from ft_assets.stages.qa.filters import dropped_pair, pair_of

MAX_BYTES = 64 * MB
"""The largest review or export file that is read."""

REVIEWED = "review"
"""The `request_id` of a pair that a person wrote."""


@dataclass(frozen=True)
class Review:
    """One verdict on the pair that asks `question` of the chunk with the text digest `chunk`.

    An edit has a new question and answer.
    """

    action: Literal["edit", "reject"]
    chunk: str
    question: str
    answer: str
    evidence: str
    new_question: str = ""
    new_answer: str = ""


def by_person(action: str) -> str:
    """The reason of a pair that is dropped by a review."""
    return f"a person's {action}"


def chunk_digest(text: str) -> str:
    """The digest that identifies a chunk's text."""
    return sha256(text.encode()).hexdigest()[:32]


def read_reviews(path: Path) -> list[Review]:
    """The reviews in a file; [] if there is no file. Raises UserError naming the bad line."""
    if not path.exists() and not path.is_symlink():
        return []
    return [_review(path, number, line) for number, line in _lines(path)]


def _review(path: Path, number: int, line: dict[str, Any]) -> Review:
    try:
        review = Review(**line)
    except TypeError as error:
        fields = ", ".join(Review.__dataclass_fields__)
        raise UserError(f"{path}:{number}: not a review; expected the fields {fields}") from error
    texts = all(isinstance(value, str) for value in vars(review).values())
    edited = bool(review.new_question.strip() and review.new_answer.strip()) if texts else False
    if not texts or not (review.action == "reject" or (review.action == "edit" and edited)):
        raise UserError(
            f'{path}:{number}: action must be "reject", or "edit" with new_question and new_answer'
        )
    return review


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON Lines file with their line numbers.

    Raises UserError for a line that is not a JSON object.
    """
    try:
        text = read_users_file(path, MAX_BYTES)
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}:{number}: not JSON ({error})") from error
        if not isinstance(value, dict):
            raise UserError(f"{path}:{number}: not a JSON object")
        yield number, value


class Overlay:
    """Applies reviews to the pairs of one chunk after the other."""

    def __init__(self, reviews: Iterable[Review]) -> None:
        self._of: defaultdict[str, list[Review]] = defaultdict(list)
        for review in reviews:
            self._of[review.chunk].append(review)
        self._seen: set[str] = set()

    def lay(
        self, pairs: list[QAPair], chunk: Chunk
    ) -> tuple[list[QAPair], list[QAPair], list[DroppedPair]]:
        """The person's pairs of the chunk, the model's pairs that are kept, and those dropped."""
        digest = chunk_digest(chunk.text)
        reviews = self._of.get(digest, [])
        verdicts = {fold_words(review.question): review for review in reviews}
        kept, gone = [], []
        for pair in pairs:
            review = verdicts.get(fold_words(pair.question))
            if review is None:
                kept.append(pair)
            else:
                gone.append(dropped_pair(pair, by_person(review.action)))
        again = digest in self._seen  # the same text elsewhere: one edit makes one pair
        self._seen.add(digest)
        edits = [] if again else [_written(review, chunk) for review in reviews]
        return [pair for pair in edits if pair], kept, gone

    def homeless(self) -> list[Review]:
        """The reviews whose chunk was never passed to `lay`."""
        return [
            review
            for digest, reviews in self._of.items()
            if digest not in self._seen
            for review in reviews
        ]


def _written(review: Review, chunk: Chunk) -> QAPair | None:
    if review.action == "reject":
        return None
    draft = Draft(review.new_question, review.new_answer, review.evidence)
    return pair_of(draft, chunk, REVIEWED)


def exported(pair: QAPair, heading: str, verdict: str = "keep") -> dict[str, str]:
    """A pair as a line of an export."""
    return {
        "pair_id": pair.pair_id,
        "verdict": verdict,
        "heading": heading,
        "question": pair.question,
        "answer": pair.answer,
        "evidence": pair.evidence,
    }


def imported(
    path: Path, pairs: dict[str, QAPair], texts: dict[str, str], known: list[Review]
) -> tuple[list[Review], int]:
    """All reviews with the verdicts in a file added, and how many of them are new or changed.

    `pairs` are the artifact's pairs by id, including those that a review dropped; `texts` are the
    chunks' texts by id. A missing or unchanged line has no effect; otherwise a file would undo reviews
    imported since its export. Raises UserError for a line that cannot be used.
    """
    found = {(review.chunk, fold_words(review.question)): review for review in known}
    edits = {(review.chunk, fold_words(review.new_question)): key for key, review in found.items()}
    previous = dict(found)
    for number, line in _lines(path):
        place = f"{path}:{number}"
        pair = pairs.get(str(line.get("pair_id")))
        if pair is None:
            raise UserError(_no_pair(place, line))
        asked = (chunk_digest(texts[pair.chunk_id]), fold_words(pair.question))
        if pair.request_id == REVIEWED:  # a person's own pair: find the review that created it
            asked = edits.get(asked, asked)
        if line.get("verdict") == "restore":
            found.pop(asked, None)
        elif verdict := _verdict(place, line, pair, asked[0]):
            first = found.get(asked) if pair.request_id == REVIEWED else None
            found[asked] = _of_the_first(verdict, first) if first else verdict
    changed = sum(previous.get(key) != review for key, review in found.items())
    return list(found.values()), changed + len(previous.keys() - found.keys())


def _no_pair(place: str, line: Mapping[str, object]) -> str:
    if "pair_id" not in line:
        return f"{place}: no pair_id, so it is not a line of an export: export again"
    return f"{place}: pair {line['pair_id']!r} no longer exists: export again"


def _of_the_first(verdict: Review, first: Review) -> Review:
    """A verdict on a person's own pair, keyed by the model's question like the first review."""
    of = (first.chunk, first.question, first.answer, first.evidence)
    return Review(verdict.action, *of, verdict.new_question, verdict.new_answer)


def _verdict(place: str, line: Mapping[str, object], pair: QAPair, chunk: str) -> Review | None:
    """The review in a line about its pair; None if the line changes nothing."""
    said = line.get("verdict", "keep")
    question, answer = line.get("question", pair.question), line.get("answer", pair.answer)
    if said not in ("keep", "reject"):
        raise UserError(f'{place}: verdict {said!r}: allowed are "keep", "reject" and "restore"')
    if not (isinstance(question, str) and isinstance(answer, str)):
        raise UserError(f"{place}: question and answer must be strings")
    if line.get("evidence", pair.evidence) != pair.evidence:
        raise UserError(f"{place}: evidence is quoted from the document and cannot be edited")
    of = (chunk, pair.question, pair.answer, pair.evidence)
    if said == "reject":
        return Review("reject", *of)
    if (question.strip(), answer.strip()) == (pair.question, pair.answer):
        return None
    if not (question.strip() and answer.strip()):
        raise UserError(
            f'{place}: question or answer is empty: set "verdict": "reject" to drop the pair'
        )
    return Review("edit", *of, question.strip(), answer.strip())


def written(lines: Iterable[dict[str, str]]) -> str:
    """Lines in the format of review and export files."""
    return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)
