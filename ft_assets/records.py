"""The record types that flow through the stages, and the Arrow schemas of their tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import takewhile
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

if TYPE_CHECKING:
    import pyarrow as pa


class Message(TypedDict):
    """One turn of a conversation, in the format of chat templates.

    `trained` is False for an assistant's turn that carries no loss; missing or None means True.
    `tool_calls` is the JSON text of a list of calls, each `{"id", "type": "function", "function": {"name",
    "arguments": {…}}}`, in an assistant's turn; its `content` may then be empty. A `tool` turn is the
    result of a call: `name` is the function, `tool_call_id` the call's id. `reasoning` is what an assistant
    thought before its answer. Missing and None are equal.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    trained: NotRequired[bool | None]
    tool_calls: NotRequired[str | None]
    name: NotRequired[str | None]
    tool_call_id: NotRequired[str | None]
    reasoning: NotRequired[str | None]


class Heading(TypedDict):
    """A heading: its start in the document's whole text, its level (from 1) and its title."""

    start: int
    level: int
    title: str


class KeyCount(TypedDict):
    """A key of records, and the number of records that have it."""

    key: str
    records: int


@dataclass(frozen=True)
class Document:
    """One page or section of a document.

    `text_id` is the digest of everything read from the document, not of its bytes: a file saved again
    with the same text changes no row. `sources.parquet` says which files contain a text. `start` and
    `end` are character offsets into the document's whole text: its rows' texts joined by `PAGE_BREAK`.
    `page` counts from 1; a format without pages has one row, page 1. `headings` are those that start
    on the page, in order. `sample` is true for a text of a file of records, which is a sample of its own:
    no chunk crosses its borders.
    """

    text_id: str
    page: int
    text: str
    start: int
    end: int
    headings: list[Heading]
    sample: bool = False


PAGE_BREAK = "\n\n"
"""The separator between two pages in a document's whole text."""


@dataclass(frozen=True)
class InstructionRecord:
    """One conversation found in a file of records; its last message is the assistant's.

    `number` counts the entries of the file from 1. `input` is the second field of Alpaca records (the
    text that an instruction is about); it is separate from `messages` because the Alpaca template has
    its own place for it. `tools` is the JSON text of the list of functions that the assistant may call,
    in the format of chat templates; None without tools.
    """

    record_id: str
    text_id: str
    number: int
    messages: list[Message]
    input: str | None
    tools: str | None = None


@dataclass(frozen=True)
class SourceDocument:
    """A file behind an artifact, and what was read from it; one row of `sources.parquet`.

    `document_id` is the sha256 of the file's bytes, empty if it could not be read; `path` is its POSIX
    path in the corpus folder. `text_id` is None if nothing in the file is usable; `rejected` has the
    reasons, also those of parts that were left out. `pages_without_text` counts pages that have a
    picture and no text. `train_rows` and the three after it count its rows and tokens in the formatted
    dataset; None in earlier artifacts. `records_rejected` counts the records that were left out, and
    `unused_keys` the records that have a key which no reader uses.
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
    records_rejected: int = 0
    unused_keys: list[KeyCount] = field(default_factory=list)


@dataclass(frozen=True)
class RejectedDocument:
    """A file, or a part of it, that could not be used, and why. Paths are in `sources.parquet`.

    `whole` is true if nothing in the file could be used. `of_bytes` is then the size of all documents
    of known types together; else, and for an unknown type, 0. The gate on rejected bytes needs it, and no other table has it.
    """

    document_id: str
    media_type: str
    reason: str
    whole: bool
    of_bytes: int = 0


@dataclass(frozen=True)
class Quality:
    """Measures of the quality of one document's text; they depend only on the text.

    `pages` counts pages or sections, `empty_pages` those with almost no text. `mean_word_length` is in
    letters, over words of scripts that put spaces between words; None if there are none. `odd_share`
    is the share of characters that are not text: U+FFFD, control and private-use characters,
    `(cid:N)`. `hyphen_share` is the share of lines that end in a broken word, `repeated_share` the
    share of lines that occur more than once. `language` is an ISO 639-1 code, None if there is too
    little text to tell. `problem` says why the text looks damaged; None if it does not.
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
    """A piece of one document: `document_text[start:end] == text`; it starts on `page`.

    `heading` is the path of headings above its start, outermost first, joined by `HEADING_BREAK`; empty
    if there are none.
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
    """A question and its answer, generated from one chunk, with the words of the chunk that prove it.

    `pair_id` is a digest of all other fields except the request.
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
    """A dropped pair, and why.

    `kept_id` is the pair that it duplicates, `remark` the judge's reason.
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
    """The outcome of one chunk's request, and how many pairs were requested, received and kept.

    `outcome` is `skipped` for a chunk without words, for which no request is sent.
    """

    chunk_id: str
    text_id: str
    outcome: str
    asked: int
    made: int
    kept: int


class Segment(TypedDict):
    """A piece of a row's text; the loss is computed on the `trained` ones."""

    text: str
    trained: bool


def prompt_of(segments: Sequence[Segment]) -> str:
    """The text before the first trained segment: what a model is asked with to answer it."""
    return "".join(each["text"] for each in takewhile(lambda each: not each["trained"], segments))


Kind = Literal["record", "qa", "text"]
"""The kind of origin of a row."""


@dataclass(frozen=True)
class Example:
    """One rendered training row: its text, in order, in segments that are trained or not.

    A trained segment is an answer, with what the template writes after it; it ends with the stop token.
    `kind` is the row's origin: an instruction `record`, a `qa` pair, or a chunk's `text` (trained
    whole, after the begin-of-sequence token). `origin_id` is the id of that record, pair or chunk;
    `variant` is 0 for the origin itself and counts its augmented variants from 1. `turn` counts the
    rows of one variant from 0: a conversation has several if its template writes history otherwise than
    it asked for it. `split_group` is the smallest unit that is never on both sides of the split (a chunk
    with its pairs, or equal answers); variants have that of their origin. `cut_tokens` is the number of
    tokens that `training.max_length` cuts off; `tokens` does not include them. `escaped` is true if a
    message contained a marker of the template, which was escaped, `normalized` if white space in it was
    changed (`augment.normalize_whitespace`). `reasoning_trained` counts its answers that are trained with
    the record's own reasoning, `reasoning_unused` those whose reasoning the template has no place for.
    """

    example_id: str
    kind: Kind
    segments: list[Segment]
    text_id: str
    origin_id: str
    variant: int
    turn: int
    split_group: str
    tokens: int
    trained_tokens: int
    cut_tokens: int
    escaped: bool
    normalized: bool = False
    reasoning_trained: int = 0
    reasoning_unused: int = 0


@dataclass(frozen=True)
class DroppedRow:
    """A row that is not in the dataset, and why; `kept_id` is the origin that it duplicates.

    `tokens` is 0 if the row was dropped before its tokens were counted. `turn` is as in Example.
    """

    text_id: str
    origin_id: str
    variant: int
    turn: int
    kind: Kind
    reason: str
    kept_id: str | None
    tokens: int


@dataclass(frozen=True)
class Sketch:
    """The sketch of an origin (record, pair or chunk), compared to find duplicates and leaks.

    `exact` is a hash of its text with case and white space folded. `asks` contains a hash of the words
    of each question in it, `answers` of each longer answer of a record (little-endian int64; empty for plain
    text). `minhash` and `ngrams` are
    little-endian uint32: see `stages/duplicates.py`. `split_group` is the origin's own, before
    duplicates join groups: a pair has that of its chunk. `start` and `end` are those of a chunk; 0
    for records and pairs.
    """

    text_id: str
    origin_id: str
    split_group: int
    start: int
    end: int
    exact: int
    asks: bytes
    answers: bytes
    minhash: bytes
    ngrams: bytes


@dataclass(frozen=True)
class ComparedAnswer:
    """One question with the answers of base and tuned.

    `key_fact` has its accepted spellings, or the reference answer of a held-out row; then hits are None.
    """

    question: str
    key_fact: str | None
    base_answer: str
    tuned_answer: str
    base_hit: bool | None
    tuned_hit: bool | None


_OR = " | "


def joined(key_facts: Sequence[str]) -> str:
    """Accepted spellings as the `key_fact` of a ComparedAnswer."""
    return _OR.join(key_facts)


def spellings(row: ComparedAnswer) -> list[str]:
    """The accepted spellings that `joined` joined."""
    return (row.key_fact or "").split(_OR)


@dataclass(frozen=True)
class JudgedAnswer:
    """The judge's verdict on the answer of one `model`, base or tuned, to a question.

    `reference` is what the answer was judged by. `verdict` is right, partly, wrong or unjudged, `remark`
    what decided, or the state of the request that has no verdict. `request_id` is the ledger's key.
    """

    question: str
    reference: str
    model: str
    answer: str
    verdict: str
    remark: str
    request_id: str


_COLUMNS: dict[type, dict[str, str]] = {
    Document: {
        "text_id": "string",
        "page": "int32",
        "text": "large_string",
        "start": "int64",
        "end": "int64",
        "headings": "headings",
        "sample": "bool",
    },
    InstructionRecord: {
        "record_id": "string",
        "text_id": "string",
        "number": "int32",
        "messages": "messages",
        "input": "string",
        "tools": "string",
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
        "records_rejected": "int32",
        "unused_keys": "key_counts",
    },
    RejectedDocument: {
        "document_id": "string",
        "media_type": "string",
        "reason": "string",
        "whole": "bool",
        "of_bytes": "int64",
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
        "segments": "segments",
        "text_id": "string",
        "origin_id": "string",
        "variant": "int32",
        "turn": "int32",
        "split_group": "string",
        "tokens": "int32",
        "trained_tokens": "int32",
        "cut_tokens": "int32",
        "escaped": "bool",
        "normalized": "bool",
        "reasoning_trained": "int32",
        "reasoning_unused": "int32",
    },
    DroppedRow: {
        "text_id": "string",
        "origin_id": "string",
        "variant": "int32",
        "turn": "int32",
        "kind": "string",
        "reason": "string",
        "kept_id": "string",
        "tokens": "int32",
    },
    Sketch: {
        "text_id": "string",
        "origin_id": "string",
        "split_group": "uint64",
        "start": "int64",
        "end": "int64",
        "exact": "int64",
        "asks": "binary",
        "answers": "binary",
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
    JudgedAnswer: {
        "question": "string",
        "reference": "string",
        "model": "string",
        "answer": "string",
        "verdict": "string",
        "remark": "string",
        "request_id": "string",
    },
}
"""The Arrow type of each column: pyarrow's alias, or a name of a list in `schema_of`."""


@cache
def schema_of(record: type) -> "pa.Schema":
    """The Arrow schema of a record type's table."""
    import pyarrow as pa

    turn = pa.struct(
        [
            ("role", pa.string()),
            ("content", pa.string()),
            ("trained", pa.bool_()),
            ("tool_calls", pa.string()),
            ("name", pa.string()),
            ("tool_call_id", pa.string()),
            ("reasoning", pa.string()),
        ]
    )
    segment = pa.struct([("text", pa.string()), ("trained", pa.bool_())])
    heading = pa.struct([("start", pa.int64()), ("level", pa.int32()), ("title", pa.string())])
    nested: dict[str, pa.DataType] = {
        "messages": pa.list_(turn),
        "segments": pa.list_(segment),
        "headings": pa.list_(heading),
        "strings": pa.list_(pa.string()),
        "key_counts": pa.list_(pa.struct([("key", pa.string()), ("records", pa.int32())])),
    }
    return pa.schema(
        [
            (name, nested.get(kind) or pa.type_for_alias(kind))  # type: ignore[call-overload]
            for name, kind in _COLUMNS[record].items()
        ]
    )


CHUNKS = "chunks.parquet"
