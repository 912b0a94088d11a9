"""From documents to chunks: recursive, by paragraph ("character"), or by the model's tokens.

Whatever the mode, `document_text[start:end] == chunk.text`, and no chunk is over the limit.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ft_assets.records import (
    PAGE_BREAK,
    Chunk,
    Document,
    Rows,
    TextRows,
    TextWriter,
    from_rows,
    read_texts,
    to_table,
)
from ft_assets.stages.job import Job, Outcome, Report, check, versions

if TYPE_CHECKING:
    from langchain_text_splitters import TextSplitter

CHUNKS = "chunks.parquet"

Span = tuple[int, int]
Cut = Callable[[str], Iterator[Span]]
"""Gives the (start, end) character offsets of each chunk of a text."""


def recursive_cut(chunk_size: int, chunk_overlap: int) -> Cut:
    """Cuts at the coarsest of paragraph, line, word and character that keeps to the size."""
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    splitter = RecursiveCharacterTextSplitter(
        chunk_size=chunk_size, chunk_overlap=chunk_overlap, add_start_index=True
    )
    return lambda text: _splitter_spans(splitter, text)


def character_cut(chunk_size: int, chunk_overlap: int) -> Cut:
    """Cuts between paragraphs; a paragraph over the size is cut again, recursively."""
    from langchain_text_splitters import CharacterTextSplitter

    splitter = CharacterTextSplitter(
        separator="\n\n",
        keep_separator="end",  # so that a chunk stays an exact piece of the text
        chunk_size=chunk_size,
        chunk_overlap=chunk_overlap,
        add_start_index=True,
    )
    finer = recursive_cut(chunk_size, chunk_overlap)

    def cut(text: str) -> Iterator[Span]:
        for start, end in _splitter_spans(splitter, text):
            if end - start <= chunk_size:
                yield start, end
            else:
                yield from ((start + a, start + b) for a, b in finer(text[start:end]))

    return cut


def _splitter_spans(splitter: "TextSplitter", text: str) -> Iterator[Span]:
    for piece in splitter.create_documents([text]):
        start = piece.metadata["start_index"]
        yield start, start + len(piece.page_content)


def token_cut(tokenizer: Any, chunk_size: int, chunk_overlap: int) -> Cut:
    """Cuts by tokens of `tokenizer`: encodes a text once and cuts on the token offsets.

    A cut moves back to the nearest white space in the chunk's second half, where there is one.
    """

    def cut(text: str) -> Iterator[Span]:
        offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)[
            "offset_mapping"
        ]
        first, count = 0, len(offsets)
        while first < count:
            last = min(first + chunk_size, count)
            if last < count:
                last = _boundary(text, offsets, first, last)
            span = _strip(text, offsets[first][0], offsets[last - 1][1])
            if span[0] < span[1]:
                yield span
            if last == count:
                return
            # A character of several tokens is never cut in two: its tokens share their offsets.
            first = max(first + 1, last - chunk_overlap)
            while first < last and offsets[first][0] < offsets[first - 1][1]:
                first += 1

    return cut


def _boundary(text: str, offsets: list[Span], first: int, last: int) -> int:
    """The last token to end before `last` at which the text has white space, or a whole character."""
    for index in range(last, first + (last - first) // 2, -1):
        if text[offsets[index][0]].isspace():
            return index
    while last > first + 1 and offsets[last][0] < offsets[last - 1][1]:
        last -= 1
    return last


def _strip(text: str, start: int, end: int) -> Span:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def split_text(pages: list[Document], cut: Cut) -> Iterator[Chunk]:
    """The chunks of one document, given all of its pages in order."""
    text = PAGE_BREAK.join(page.text for page in pages)
    starts = [page.start for page in pages]
    text_id = pages[0].text_id
    for start, end in cut(text):
        key = f"{text_id}:{start}:{end}"
        yield Chunk(
            chunk_id=hashlib.sha256(key.encode()).hexdigest()[:32],
            text_id=text_id,
            page=pages[bisect_right(starts, start) - 1].page,
            start=start,
            end=end,
            text=text[start:end],
            heading="",
        )


def _cut_of(job: Job) -> Cut:
    """The cut that the settings ask for."""
    settings = job.section("langchain")
    size, overlap = settings["chunk_size"], settings["chunk_overlap"]
    if settings["splitter"] == "token":
        from ft_assets.stages.base_model import load_tokenizer

        return token_cut(load_tokenizer(job.section("model")), size, overlap)
    return (recursive_cut if settings["splitter"] == "recursive" else character_cut)(size, overlap)


def build(job: Job, report: Report) -> Outcome:
    """Makes `chunks`: `chunks.parquet`. Texts that were cut before are not cut again."""
    tools = versions("langchain-text-splitters", "tokenizers", "pyarrow")
    previous = job.reusable(tools)
    earlier = TextRows(previous.folder / CHUNKS if previous else None)
    cut = _cut_of(job)
    pages = cut_now = 0
    with TextWriter(job.output / CHUNKS, Chunk) as writer:
        for text_id, documents in read_texts(job.inputs["raw_documents"] / "documents.parquet"):
            pages += sum(map(len, documents))
            rows = earlier.take(text_id)
            if not rows:
                cut_now += 1
                found = list(split_text(list(from_rows(documents, Document)), cut))
                rows = [Rows.of(to_table(Chunk, found))] if found else []
            if rows:
                writer.add(text_id, rows)
    report(f"{cut_now} texts cut")
    return Outcome(
        counts={"chunks": writer.count},
        checks={
            "text_is_chunked": check(
                bool(writer.count) or not pages, f"{writer.count} chunks from {pages} pages of text"
            )
        },
        tools=tools,
    )
