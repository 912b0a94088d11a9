"""The record types that flow through the stages, with the Arrow schema of each one's table."""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    import pyarrow as pa


class Message(TypedDict):
    """One turn of a conversation, as chat templates take it."""

    role: Literal["system", "user", "assistant"]
    content: str


class Heading(TypedDict):
    """A heading: where it begins in its document's whole text, its level from 1, its title."""

    start: int
    level: int
    title: str


@dataclass(frozen=True)
class Document:
    """One page or section of a document.

    `text_id` is the digest of all that was read out of the document, not of its bytes: a file saved
    again with the same text changes no row. `sources.parquet` says which files hold a text.
    `start` and `end` are character offsets into the document's whole text, which is its rows'
    texts joined by `PAGE_BREAK`. `page` counts from 1; a format without pages has one row, page 1.
    `headings` are those that begin on the page, in order.
    """

    text_id: str
    page: int
    text: str
    start: int
    end: int
    headings: list[Heading]


PAGE_BREAK = "\n\n"
"""The separator between two pages in a document's whole text."""


@dataclass(frozen=True)
class InstructionRecord:
    """One conversation found in a JSON file; its last message is the assistant's.

    `number` counts the entries of the file from 1. `input` is the second field of Alpaca records (the
    text an instruction is about), kept apart from `messages` because the Alpaca template has a place of
    its own for it.
    """

    record_id: str
    text_id: str
    number: int
    messages: list[Message]
    input: str | None


@dataclass(frozen=True)
class SourceDocument:
    """A file behind an artifact, and what it gave; one row of `sources.parquet`.

    `document_id` is the sha256 of the file's bytes, empty if it could not be read; `path` is its POSIX
    path in the corpus folder. `text_id` is None if nothing of it can be used, `rejected` says why or what
    of it was left out. `pages_without_text` counts pages that hold a picture and no text. The last four
    count the rows and tokens it gave the formatted dataset; None before there are rows.
    """

    document_id: str
    path: str
    bytes: int
    media_type: str
    engine: str | None
    encoding: str | None
    text_id: str | None
    pages: int
    records: int
    characters: int
    pages_without_text: int
    rejected: list[str]
    train_rows: int | None = None
    train_tokens: int | None = None
    eval_rows: int | None = None
    eval_tokens: int | None = None


@dataclass(frozen=True)
class RejectedDocument:
    """A file, or a part of it, that could not be used, and why. Paths are in `sources.parquet`.

    `whole` says that nothing of the file could be used.
    """

    document_id: str
    media_type: str
    reason: str
    whole: bool


@dataclass(frozen=True)
class Quality:
    """How the text of one document looks; a function of the text alone.

    `pages` counts pages or sections, `empty_pages` those without text to speak of.
    `mean_word_length` is in letters, over words of scripts that put spaces between words; None if
    there are none. `odd_share` is the share of characters that are not text: U+FFFD, control
    and private-use characters, `(cid:N)`. `hyphen_share` is the share of lines that end in a broken
    word, `repeated_share` that of lines which occur more than once. `language` is an ISO 639-1 code,
    None if there is too little text to tell. `problem` says why the text looks damaged; None if it
    does not.
    """

    text_id: str
    pages: int
    empty_pages: int
    characters: int
    mean_word_length: float | None
    odd_share: float
    hyphen_share: float
    repeated_share: float
    language: str | None
    problem: str | None


@dataclass(frozen=True)
class Chunk:
    """A piece of one document: `document_text[start:end] == text`; `page` is where it starts.

    `heading` is the path of headings that it starts under, outermost first, joined by
    `HEADING_BREAK`; empty if there are none.
    """

    chunk_id: str
    text_id: str
    page: int
    start: int
    end: int
    text: str
    heading: str


HEADING_BREAK = " > "
"""The separator between two headings in a chunk's path."""


@dataclass(frozen=True)
class QAPair:
    """A question and its answer, made from one chunk, with the words of the chunk that prove it.

    `pair_id` is a digest of all the rest but the request.
    """

    pair_id: str
    question: str
    answer: str
    evidence: str
    chunk_id: str
    text_id: str
    request_id: str


@dataclass(frozen=True)
class DroppedPair:
    """A pair that is not among those kept, and why.

    `kept_id` is the pair it is a duplicate of, `remark` what the judge said of it.
    """

    pair_id: str
    question: str
    answer: str
    evidence: str
    chunk_id: str
    text_id: str
    request_id: str
    reason: str
    kept_id: str | None
    remark: str | None


@dataclass(frozen=True)
class ChunkYield:
    """What one chunk gave: what became of its request, and the pairs asked for, made and kept.

    `outcome` is `skipped` for a chunk without words, which is not sent.
    """

    chunk_id: str
    text_id: str
    outcome: str
    asked: int
    made: int
    kept: int


Kind = Literal["record", "qa", "text"]
"""What a row is made from."""


@dataclass(frozen=True)
class Example:
    """One training row, rendered: the loss is taken on `completion` alone.

    `kind` is where it came from: an instruction `record`, a `qa` pair, or a chunk's `text` (whose
    prompt is the begin-of-sequence token or empty). `origin_id` is the id of that record, pair or
    chunk; `variant` is 0 for the origin as it is and counts what augmentation made of it from 1.
    `split_group` is the unit that is never on both sides of the split; variants have their
    origin's. `cut_tokens` are those that `training.max_length` cuts off; `tokens` does not count them.
    `escaped` says that a message held text that marks a turn.
    """

    example_id: str
    kind: Kind
    prompt: str
    completion: str
    text_id: str
    origin_id: str
    variant: int
    split_group: str
    tokens: int
    trained_tokens: int
    cut_tokens: int
    escaped: bool


@dataclass(frozen=True)
class DroppedRow:
    """A row that is not in the dataset, and why; `kept_id` is the origin it is a duplicate of.

    `tokens` are 0 if the row was left out before any were counted.
    """

    text_id: str
    origin_id: str
    variant: int
    kind: Kind
    reason: str
    kept_id: str | None
    tokens: int


@dataclass(frozen=True)
class Sketch:
    """What is compared of an origin (record, pair or chunk) to find duplicates and leaks.

    `exact` is a hash of its text with case and white space folded, `asks` one of the words of each
    question in it (little-endian int64; none for plain text). `minhash` and `ngrams` are
    little-endian uint32: see `stages/duplicates.py`. `split_group` is the origin's own, before
    duplicates join groups.
    """

    text_id: str
    origin_id: str
    split_group: int
    exact: int
    asks: bytes
    minhash: bytes
    ngrams: bytes


@dataclass(frozen=True)
class ComparedAnswer:
    """One question as base and tuned answered it; `None` hits if there is no key fact."""

    question: str
    key_fact: str | None
    base_answer: str
    tuned_answer: str
    base_hit: bool | None
    tuned_hit: bool | None


_COLUMNS: dict[type, dict[str, str]] = {
    Document: {
        "text_id": "string",
        "page": "int32",
        "text": "large_string",
        "start": "int64",
        "end": "int64",
        "headings": "headings",
    },
    InstructionRecord: {
        "record_id": "string",
        "text_id": "string",
        "number": "int32",
        "messages": "messages",
        "input": "string",
    },
    SourceDocument: {
        "document_id": "string",
        "path": "string",
        "bytes": "int64",
        "media_type": "string",
        "engine": "string",
        "encoding": "string",
        "text_id": "string",
        "pages": "int32",
        "records": "int32",
        "characters": "int64",
        "pages_without_text": "int32",
        "rejected": "strings",
        "train_rows": "int32",
        "train_tokens": "int64",
        "eval_rows": "int32",
        "eval_tokens": "int64",
    },
    RejectedDocument: {
        "document_id": "string",
        "media_type": "string",
        "reason": "string",
        "whole": "bool",
    },
    Quality: {
        "text_id": "string",
        "pages": "int32",
        "empty_pages": "int32",
        "characters": "int64",
        "mean_word_length": "double",
        "odd_share": "double",
        "hyphen_share": "double",
        "repeated_share": "double",
        "language": "string",
        "problem": "string",
    },
    Chunk: {
        "chunk_id": "string",
        "text_id": "string",
        "page": "int32",
        "start": "int64",
        "end": "int64",
        "text": "string",
        "heading": "string",
    },
    QAPair: {
        "pair_id": "string",
        "question": "string",
        "answer": "string",
        "evidence": "string",
        "chunk_id": "string",
        "text_id": "string",
        "request_id": "string",
    },
    DroppedPair: {
        "pair_id": "string",
        "question": "string",
        "answer": "string",
        "evidence": "string",
        "chunk_id": "string",
        "text_id": "string",
        "request_id": "string",
        "reason": "string",
        "kept_id": "string",
        "remark": "string",
    },
    ChunkYield: {
        "chunk_id": "string",
        "text_id": "string",
        "outcome": "string",
        "asked": "int32",
        "made": "int32",
        "kept": "int32",
    },
    Example: {
        "example_id": "string",
        "kind": "string",
        "prompt": "string",
        "completion": "string",
        "text_id": "string",
        "origin_id": "string",
        "variant": "int32",
        "split_group": "string",
        "tokens": "int32",
        "trained_tokens": "int32",
        "cut_tokens": "int32",
        "escaped": "bool",
    },
    DroppedRow: {
        "text_id": "string",
        "origin_id": "string",
        "variant": "int32",
        "kind": "string",
        "reason": "string",
        "kept_id": "string",
        "tokens": "int32",
    },
    Sketch: {
        "text_id": "string",
        "origin_id": "string",
        "split_group": "uint64",
        "exact": "int64",
        "asks": "binary",
        "minhash": "binary",
        "ngrams": "binary",
    },
    ComparedAnswer: {
        "question": "string",
        "key_fact": "string",
        "base_answer": "string",
        "tuned_answer": "string",
        "base_hit": "bool",
        "tuned_hit": "bool",
    },
}
"""The Arrow type of each column, by pyarrow's alias; `messages`, `headings` and `strings` are lists."""


@cache
def schema_of(record: type) -> "pa.Schema":
    """The Arrow schema of a record type's table."""
    import pyarrow as pa

    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    heading = pa.struct([("start", pa.int64()), ("level", pa.int32()), ("title", pa.string())])
    nested: dict[str, pa.DataType] = {
        "messages": pa.list_(turn),
        "headings": pa.list_(heading),
        "strings": pa.list_(pa.string()),
    }
    return pa.schema(
        [
            (name, nested.get(kind) or pa.type_for_alias(kind))  # type: ignore[call-overload]
            for name, kind in _COLUMNS[record].items()
        ]
    )


CHUNKS = "chunks.parquet"
