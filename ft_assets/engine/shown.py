"""What of a row is shown: its text in parts, by role, trained or not."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ft_assets.files import visible

_Values = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Where the rows are, and the column with their ids."""

    asset: str
    file: str
    ids: str


TABLES: dict[str, Table] = {
    "documents": Table("raw_documents", "documents.parquet", "text_id"),
    "records": Table("raw_documents", "records.parquet", "record_id"),
    "chunks": Table("chunks", "chunks.parquet", "chunk_id"),
    "pairs": Table("qa_pairs", "qa_pairs.parquet", "pair_id"),
    "train": Table("formatted_dataset", "train.parquet", "example_id"),
    "eval": Table("formatted_dataset", "eval.parquet", "example_id"),
    "dropped": Table("formatted_dataset", "dropped.parquet", "origin_id"),
    "rejected": Table("raw_documents", "", "document_id"),
}
"""The tables whose rows can be shown."""


@dataclass(frozen=True)
class Part:
    """A piece of a row's text under a label, such as a role; without a label it continues the last.

    `trained` is None if that is not a question for such a row.
    """

    label: str
    text: str
    trained: bool | None = None


def _record(row: _Values) -> Iterator[Part]:
    """The messages by role. The assistant's are trained, unless they say that they are not."""
    if row["tools"]:
        yield Part("tools", _pretty(row["tools"]), trained=False)
    for message in row["messages"]:
        answer = message["role"] == "assistant"
        trained = answer and message["trained"] is not False
        label = message["role"] if trained or not answer else "assistant, not trained"
        if message["name"]:
            label += f" {message['name']}"
        if thought := message.get("reasoning"):
            yield Part(f"{label} reasoning", thought, trained)
        if message["content"] or not message["tool_calls"]:
            yield Part(label, message["content"], trained)
        if message["tool_calls"]:
            yield Part(f"{label} calls", _pretty(message["tool_calls"]), trained)
    if row["input"]:
        yield Part("input", row["input"], trained=False)


def _pretty(text: str) -> str:
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=1)
    except ValueError:
        return text


def _text(row: _Values) -> Iterator[Part]:
    yield Part("", row["text"])


def _pair(row: _Values) -> Iterator[Part]:
    yield Part("question", row["question"], trained=False)
    yield Part("answer", row["answer"], trained=True)
    if row.get("evidence"):
        yield Part("evidence", row["evidence"], trained=False)


def _example(row: _Values) -> Iterator[Part]:
    for segment in row["segments"]:
        yield Part("", segment["text"], segment["trained"])


_ORIGINS: dict[str, Callable[[_Values], Iterator[Part]]] = {
    "record": _record,
    "qa": _pair,
    "text": _text,
}


def _dropped(row: _Values) -> Iterator[Part]:
    """The record, pair or chunk that has no row; none of it is trained."""
    if row["origin"]:
        for part in _ORIGINS[row["kind"]](row["origin"]):
            yield Part(part.label, part.text)


def _all_of(parts: Callable[[_Values], Iterator[Part]]) -> Callable[[_Values], list[Part]]:
    return lambda row: list(parts(row))


PARTS: dict[str, Callable[[_Values], list[Part]]] = {
    "documents": _all_of(_text),
    "records": _all_of(_record),
    "chunks": _all_of(_text),
    "pairs": _all_of(_pair),
    "train": _all_of(_example),
    "eval": _all_of(_example),
    "dropped": _all_of(_dropped),
}
"""The parts of a row of each table; the row of a dropped origin has that under `origin`."""
SEARCHED: dict[str, list[str]] = {
    "documents": ["text"],
    "records": ["messages", "input", "tools"],
    "chunks": ["text", "heading"],
    "pairs": ["question", "answer", "evidence"],
    "train": ["segments"],
    "eval": ["segments"],
}
"""The columns of each table that are searched for a text."""
_BEGIN, _END = "[trained]", "[/trained]"
_HEAD, _TAIL = 1_200, 400
"""Characters of a part that are shown of its beginning and its end."""
_NOTE = 30
"""Characters of the note that some are missing: fewer are not left out for it."""


def marked(text: str) -> str:
    """A trained text between marks; a mark inside it is escaped."""
    inside = text.replace(_BEGIN, "\\" + _BEGIN).replace(_END, "\\" + _END)
    return f"{_BEGIN}{inside}{_END}"


def as_text(parts: list[Part], head: int = _HEAD, tail: int = _TAIL) -> str:
    """The parts as one text without colours: the trained ones are marked."""
    found = ""
    for part in parts:
        text = shortened(visible(part.text), head, tail)
        label = f"{part.label}: " if part.label else ""
        found += "\n" if label and found else ""
        found += label + (marked(text) if part.trained else text)
    return found


def shortened(text: str, head: int = _HEAD, tail: int = _TAIL) -> str:
    """A text without its middle, if it is long, which says how much is missing."""
    if len(text) <= head + tail + _NOTE:
        return text
    missing = len(text) - head - tail
    return f"{text[:head]} […{missing:,} more characters…] {text[len(text) - tail :]}"
