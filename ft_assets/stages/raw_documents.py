"""From the files of a corpus to text and instruction records, with a reason for what is left out.

Rows are ordered by document id and carry no path, so that renaming a file changes no byte.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ft_assets.errors import StageError
from ft_assets.records import (
    PAGE_BREAK,
    Document,
    InstructionRecord,
    RejectedDocument,
    TableWriter,
)
from ft_assets.stages.instruction_records import (
    BadRecordError,
    json_entries,
    jsonl_entries,
    read_entry,
)
from ft_assets.stages.job import CorpusFile, Job, Outcome, Report, check, versions


@dataclass
class ParsedFile:
    """What one file holds, and what of it had to be left out."""

    media_type: str
    documents: list[Document] = field(default_factory=list)
    records: list[InstructionRecord] = field(default_factory=list)
    rejected: list[RejectedDocument] = field(default_factory=list)


def parse_file(path: Path, document_id: str, loaders: dict[str, str]) -> ParsedFile:
    """Reads one file by its ending; never raises for what is in it.

    `loaders` maps `pdf` and `docx` to the engine tried first.
    """
    from ft_assets.stages.loaders import MEDIA_TYPES, UnreadableError

    media_type = MEDIA_TYPES.get(path.suffix.lower())
    if media_type is None:
        known = ", ".join(MEDIA_TYPES)
        reason = f"the ending {path.suffix or '(none)'} is not read; known are {known}"
        return ParsedFile("unknown", rejected=[RejectedDocument(document_id, "unknown", reason)])
    parsed = ParsedFile(media_type)
    try:
        if media_type in ("json", "jsonl"):
            _parse_json(path, document_id, parsed)
        else:
            _parse_pages(path, document_id, loaders, parsed)
    except (UnreadableError, OSError) as error:
        parsed.rejected.append(RejectedDocument(document_id, media_type, str(error)))
    return parsed


def _parse_pages(path: Path, document_id: str, loaders: dict[str, str], parsed: ParsedFile) -> None:
    from ft_assets.stages.loaders import UnreadableError, load_pages

    if path.stat().st_size == 0:
        raise UnreadableError("it is empty (0 bytes)")
    pages = load_pages(path, parsed.media_type, loaders)
    texts = [(page.metadata["page"], page.page_content) for page in pages]
    metadata = pages[0].metadata
    parsed.documents = list(
        _documents(texts, document_id, parsed.media_type, metadata["engine"], metadata)
    )


def _documents(
    texts: list[tuple[int, str]],
    document_id: str,
    media_type: str,
    engine: str,
    metadata: dict[str, Any],
) -> Iterator[Document]:
    """One row a page, with offsets into the pages' texts joined by PAGE_BREAK."""
    start = 0
    for page, text in texts:
        end = start + len(text)
        encoding = metadata.get("encoding")
        yield Document(document_id, page, text, start, end, media_type, engine, encoding)
        start = end + len(PAGE_BREAK)


def _parse_json(path: Path, document_id: str, parsed: ParsedFile) -> None:
    from ft_assets.stages.loaders import UnreadableError, decode

    text, encoding = decode(path.read_bytes())
    if not text.strip():
        raise UnreadableError("it is empty")
    entries = json_entries(text) if parsed.media_type == "json" else jsonl_entries(text)
    texts: list[tuple[int, str]] = []
    for entry in entries:
        try:
            found = read_entry(entry, document_id)
        except BadRecordError as bad:
            reason = f"{entry}: {bad}"
            parsed.rejected.append(RejectedDocument(document_id, parsed.media_type, reason))
            continue
        if isinstance(found, str):
            texts.append((len(texts) + 1, found))
        else:
            parsed.records.append(found)
    metadata = {"encoding": encoding}
    parsed.documents = list(_documents(texts, document_id, parsed.media_type, "json", metadata))
    if not (texts or parsed.records or parsed.rejected):
        raise UnreadableError("it holds no records")


def _source(files: list[CorpusFile], parsed: ParsedFile) -> Iterator[dict[str, Any]]:
    """The manifest's line for each file with these bytes."""
    for file in files:
        yield {
            "document_id": file.sha256,
            "path": file.path,
            "bytes": file.size,
            "media_type": parsed.media_type,
            "pages": len(parsed.documents),
            "records": len(parsed.records),
            "characters": sum(len(document.text) for document in parsed.documents),
            "engine": parsed.documents[0].engine if parsed.documents else None,
            "rejected": [item.reason for item in parsed.rejected],
        }


def load_documents(
    files: list[CorpusFile], source: Path, output: Path, loaders: dict[str, str], report: Report
) -> list[dict[str, Any]]:
    """Parses `files` (paths inside `source`) into the three tables in `output`.

    Returns a line a file for the manifest. Files with the same bytes are read once. Raises
    StageError where nothing at all could be read.
    """
    by_id: dict[str, list[CorpusFile]] = {}
    for file in files:
        by_id.setdefault(file.sha256 or f"unreadable:{file.path}", []).append(file)
    sources: list[dict[str, Any]] = []
    with ExitStack() as stack:
        documents = stack.enter_context(TableWriter(output / "documents.parquet", Document))
        records = stack.enter_context(TableWriter(output / "records.parquet", InstructionRecord))
        rejected = stack.enter_context(TableWriter(output / "rejected.parquet", RejectedDocument))
        for document_id, same in sorted(by_id.items()):
            parsed = _parse_or_reject(source, same[0], document_id, loaders)
            for document in parsed.documents:
                documents.write(document)
            for record in parsed.records:
                records.write(record)
            for item in parsed.rejected:
                rejected.write(item)
                report(f"{same[0].path}: {item.reason}")
            sources += _source(same, parsed)
    if not documents.count and not records.count:
        raise StageError(_nothing_left(source, sources))
    return sorted(sources, key=lambda line: str(line["path"]))


def _parse_or_reject(
    source: Path, file: CorpusFile, document_id: str, loaders: dict[str, str]
) -> ParsedFile:
    if file.problem:
        return ParsedFile("unknown", rejected=[RejectedDocument("", "unknown", file.problem)])
    return parse_file(source / file.path, document_id, loaders)


def _nothing_left(source: Path, sources: list[dict[str, Any]]) -> str:
    if not sources:
        return f"{source} holds no documents: put PDF, DOCX, TXT, Markdown or JSON files there"
    reasons = [f"  {line['path']}: {reason}" for line in sources for reason in line["rejected"]]
    return "\n".join([f"{source} holds no file that could be read:", *reasons[:20]])


def build(job: Job, report: Report) -> Outcome:
    """Makes `raw_documents`: `documents`, `records` and `rejected.parquet`."""
    sources = load_documents(job.files, job.source, job.output, job.section("data.loaders"), report)
    rejected = sum(bool(line["rejected"]) for line in sources)
    read = sum(bool(line["pages"] or line["records"]) for line in sources)
    return Outcome(
        counts={
            "files": len(sources),
            "files_read": read,
            "files_with_rejects": rejected,
            "pages": sum(line["pages"] for line in sources),
            "records": sum(line["records"] for line in sources),
            "characters": sum(line["characters"] for line in sources),
        },
        checks={
            "every_file_read": check(
                rejected == 0,
                "every file was read whole"
                if rejected == 0
                else f"{rejected} of {len(sources)} files are rejected or have rejected records",
                blocking=False,
            )
        },
        tools=versions("pypdfium2", "pypdf", "lxml", "docx2txt"),
        sources=sources,
    )
