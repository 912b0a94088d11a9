"""Cuts documents into chunks: recursively, by paragraph ("character"), or by the model's tokens.

In every mode `document_text[start:end] == chunk.text`, and no chunk is over the limit.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from ft_assets.config import LangChainConfig, ModelConfig
from ft_assets.records import CHUNKS, HEADING_BREAK, PAGE_BREAK, Chunk, Document, Heading
from ft_assets.stages.job import Check, Job, Outcome, Report, reused_line, versions
from ft_assets.stages.splitting.characters import Cut, character_cut, recursive_cut
from ft_assets.tables import Rows, TextRows, TextWriter, batched, from_rows, read_texts, to_table

if TYPE_CHECKING:
    from ft_assets.stages.models.light_tokenizer import AnyTokenizer

TEXT_IS_CHUNKED = Check("text_is_chunked", "If there is text, there are chunks.")
CHECKS = (TEXT_IS_CHUNKED,)
_BATCH = 1_000
"""Chunks that are in memory as objects; more of them are kept as Arrow columns, which are smaller."""


def split_text(pages: list[Document], cut: Cut) -> Iterator[Chunk]:
    """The chunks of one document, from all of its pages in order.

    Samples are cut one by one, so that no chunk has words of two; other pages are one text.
    """
    starts = [page.start for page in pages]
    heading_starts, paths = heading_paths([item for page in pages for item in page.headings])
    text_id = pages[0].text_id
    for offset, text in _texts(pages):
        for start, end in cut(text):
            content = text[start:end]
            start, end = offset + start, offset + end
            key = f"{text_id}:{start}:{end}"
            first_letter = end - len(content.lstrip())
            yield Chunk(
                chunk_id=hashlib.sha256(key.encode()).hexdigest()[:32],
                text_id=text_id,
                page=pages[bisect_right(starts, start) - 1].page,
                start=start,
                end=end,
                text=content,
                heading=paths[bisect_right(heading_starts, first_letter)],
            )


def _texts(pages: list[Document]) -> Iterator[tuple[int, str]]:
    """The texts that are cut by themselves, each with its start in the whole text."""
    for is_sample, run in groupby(pages, key=lambda page: page.sample):
        together = list(run)
        if is_sample:
            yield from ((page.start, page.text) for page in together)
        else:
            yield together[0].start, PAGE_BREAK.join(page.text for page in together)


def heading_paths(headings: list[Heading]) -> tuple[list[int], list[str]]:
    """The start of each heading, and the heading path before the first and after each.

    A heading closes earlier ones of its level or deeper.
    """
    open_now: list[Heading] = []
    paths = [""]
    for heading in headings:
        open_now = [*(above for above in open_now if above["level"] < heading["level"]), heading]
        paths.append(HEADING_BREAK.join(above["title"] for above in open_now))
    return [heading["start"] for heading in headings], paths


def cut_of(settings: LangChainConfig, tokenizer: "AnyTokenizer | None") -> Cut:
    """The cut for the settings; only one by tokens needs the tokenizer."""
    size, overlap = settings.chunk_size, settings.chunk_overlap
    if settings.splitter == "token":
        from ft_assets.stages.splitting.tokens import token_cut

        return token_cut(tokenizer, size, overlap)
    return (recursive_cut if settings.splitter == "recursive" else character_cut)(size, overlap)


def _tokenizer_of(job: Job) -> "AnyTokenizer | None":
    """The base model's tokenizer, if the settings cut by its tokens."""
    if job.section(LangChainConfig).splitter != "token":
        return None
    from ft_assets.stages.models.base_model import fetch_base_model
    from ft_assets.stages.models.tokenizer_cache import light_tokenizer_of

    model = job.section(ModelConfig)
    return light_tokenizer_of(fetch_base_model(model.base, model.revision, weights=False).folder)


def build(job: Job, report: Report) -> Outcome:
    """Builds `chunks`: `chunks.parquet`. Chunks of unchanged texts are reused."""
    tools = versions("langchain-text-splitters", "regex", "tokenizers", "pyarrow")
    previous = job.reusable(tools)
    previous_rows = TextRows(previous.folder / CHUNKS if previous else None)
    cut = cut_of(job.section(LangChainConfig), _tokenizer_of(job))
    pages = cut_now = texts = 0
    with TextWriter(job.output / CHUNKS, Chunk) as writer:
        for text_id, documents in read_texts(job.inputs["raw_documents"] / "documents.parquet"):
            pages += sum(map(len, documents))
            texts += 1
            if rows := previous_rows.take(text_id):
                writer.add(text_id, rows)
                continue
            cut_now += 1
            found = split_text(list(from_rows(documents, Document)), cut)
            writer.add(text_id, (Rows.of(to_table(Chunk, some)) for some in batched(found, _BATCH)))
    if previous and texts:
        report(reused_line(cut_now, texts, "texts cut"))
    return Outcome(
        counts={"chunks": writer.count},
        checks=TEXT_IS_CHUNKED.verdict(
            bool(writer.count) or not pages, f"{writer.count} chunks from {pages} pages of text"
        ),
        tools=tools,
    )
