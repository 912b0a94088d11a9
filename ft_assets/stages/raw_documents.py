"""From the files of a corpus to text and instruction records, with a reason for what is left out.

Rows are ordered by the digest of what was read (`text_id`) and carry no path and no digest of the
file, so that renaming a file, or saving it anew with the same text, changes no byte.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ft_assets.errors import StageError
from ft_assets.records import (
    PAGE_BREAK,
    Document,
    InstructionRecord,
    RejectedDocument,
    Rows,
    TextRows,
    TextWriter,
    schema_of,
    to_table,
    write_table,
)
from ft_assets.stages.instruction_records import (
    BadRecordError,
    json_entries,
    jsonl_entries,
    read_entry,
)
from ft_assets.stages.job import (
    CorpusFile,
    Job,
    Outcome,
    Previous,
    Report,
    check,
    hash_file,
    versions,
)


@dataclass
class ParsedFile:
    """What one file holds, and what of it had to be left out."""

    media_type: str
    text_id: str | None = None
    documents: list[Document] = field(default_factory=list)
    records: list[InstructionRecord] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    engine: str | None = None
    encoding: str | None = None


def media_type_of(name: str) -> str:
    """What a file is by its ending; `unknown` for one that is not read."""
    from ft_assets.stages.loaders import MEDIA_TYPES

    return MEDIA_TYPES.get(Path(name).suffix.lower(), "unknown")


def parse_file(path: Path, loaders: dict[str, str]) -> ParsedFile:
    """Reads one file by its ending; never raises for what is in it.

    `loaders` maps `pdf` and `docx` to the engine tried first.
    """
    from ft_assets.stages.loaders import MEDIA_TYPES, UnreadableError

    parsed = ParsedFile(media_type_of(path.name))
    try:
        if parsed.media_type == "unknown":
            known = ", ".join(MEDIA_TYPES)
            raise UnreadableError(
                f"the ending {path.suffix or '(none)'} is not read; known are {known}"
            )
        if parsed.media_type in ("json", "jsonl"):
            texts = _parse_json(path, parsed)
        else:
            texts = _parse_pages(path, loaders, parsed)
    except (UnreadableError, OSError) as error:
        parsed.rejected.append(str(error))
        return parsed
    if texts or parsed.records:
        _identify(parsed, texts)
    return parsed


def _parse_pages(path: Path, loaders: dict[str, str], parsed: ParsedFile) -> list[tuple[int, str]]:
    from ft_assets.stages.loaders import UnreadableError, load_pages

    if path.stat().st_size == 0:
        raise UnreadableError("it is empty (0 bytes)")
    pages = load_pages(path, parsed.media_type, loaders)
    parsed.engine = pages[0].metadata["engine"]
    parsed.encoding = pages[0].metadata.get("encoding")
    return [(page.metadata["page"], page.page_content) for page in pages]


def _parse_json(path: Path, parsed: ParsedFile) -> list[tuple[int, str]]:
    from ft_assets.stages.loaders import UnreadableError, decode

    text, parsed.encoding = decode(path.read_bytes())
    parsed.engine = "json"
    if not text.strip():
        raise UnreadableError("it is empty")
    entries = json_entries(text) if parsed.media_type == "json" else jsonl_entries(text)
    texts: list[tuple[int, str]] = []
    for entry in entries:
        try:
            found = read_entry(entry)
        except BadRecordError as bad:
            parsed.rejected.append(f"{entry}: {bad}")
            continue
        if isinstance(found, str):
            texts.append((len(texts) + 1, found))
        else:
            parsed.records.append(found)
    if not (texts or parsed.records or parsed.rejected):
        raise UnreadableError("it holds no records")
    return texts


def _identify(parsed: ParsedFile, texts: list[tuple[int, str]]) -> None:
    """Gives what was read its id, and every row of it."""
    key = json.dumps([texts, [[item.number, item.record_id] for item in parsed.records]])
    text_id = hashlib.sha256(key.encode()).hexdigest()[:32]
    parsed.text_id = text_id
    parsed.documents = list(_documents(texts, text_id))
    parsed.records = [replace(record, text_id=text_id) for record in parsed.records]


def _documents(texts: list[tuple[int, str]], text_id: str) -> Iterator[Document]:
    """One row a page, with offsets into the pages' texts joined by PAGE_BREAK."""
    start = 0
    for page, text in texts:
        end = start + len(text)
        yield Document(text_id, page, text, start, end, [])
        start = end + len(PAGE_BREAK)


class _PutBy:
    """Rows of one table by text, put by on disk until all texts are known and can be sorted."""

    def __init__(self, path: Path, record: type) -> None:
        import pyarrow as pa

        self._path, self._record = path, record
        self._batches: dict[str, int] = {}
        self._writer = pa.ipc.new_file(str(path), schema_of(record))

    def put(self, text_id: str, rows: list[Any]) -> None:
        """Puts the rows of one text by."""
        if rows:
            self._batches[text_id] = len(self._batches)
            [batch] = to_table(self._record, rows).combine_chunks().to_batches()
            self._writer.write_batch(batch)

    def write_sorted(self, texts: list[str], kept: Path | None, output: Path) -> int:
        """Writes the rows of `texts`, which are in order, from the table `kept` or else from here.

        Returns their number.
        """
        import pyarrow as pa

        self._writer.close()
        earlier = TextRows(kept)
        with pa.memory_map(str(self._path)) as file, TextWriter(output, self._record) as writer:
            batches = pa.ipc.open_file(file)
            for text_id in texts:
                rows = earlier.take(text_id)
                if not rows and text_id in self._batches:
                    batch = batches.get_batch(self._batches[text_id])
                    rows = [Rows.of(pa.Table.from_batches([batch]))]
                if rows:
                    writer.add(text_id, rows)
        self._path.unlink()
        return writer.count


_Line = dict[str, Any]


def _line(parsed: ParsedFile) -> _Line:
    """What the manifest's sources say of a parsed file, but for the file itself."""
    return {
        "text_id": parsed.text_id,
        "media_type": parsed.media_type,
        "pages": len(parsed.documents),
        "records": len(parsed.records),
        "characters": sum(len(document.text) for document in parsed.documents),
        "engine": parsed.engine,
        "encoding": parsed.encoding,
        "rejected": parsed.rejected,
    }


def load_documents(
    files: list[CorpusFile],
    source: Path,
    output: Path,
    loaders: dict[str, str],
    report: Report,
    previous: Previous | None = None,
) -> list[_Line]:
    """Parses `files` (paths inside `source`) into the three tables in `output`.

    Returns a line a file for the manifest. A file that `previous` was made from is not parsed
    again, and files with the same bytes are read once. Raises StageError where nothing at all could
    be read, or where a file changed under the reader.
    """
    known = _known(previous)
    documents = _PutBy(output / ".documents.arrow", Document)
    records = _PutBy(output / ".records.arrow", InstructionRecord)
    fresh: set[str] = set()
    sources: list[_Line] = []
    for file in files:
        key = (file.sha256, media_type_of(file.path))
        if file.problem:
            line = _line(ParsedFile("unknown", rejected=[file.problem]))
        elif not (line := known.get(key, {})):
            parsed = _parse(source, file, loaders)
            line = known[key] = _line(parsed)
            if parsed.text_id and parsed.text_id not in fresh:
                fresh.add(parsed.text_id)
                documents.put(parsed.text_id, parsed.documents)
                records.put(parsed.text_id, parsed.records)
        sources.append({"document_id": file.sha256, "path": file.path, "bytes": file.size, **line})
        for reason in line["rejected"]:
            report(f"{file.path}: {reason}")
    texts = sorted({line["text_id"] for line in sources if line["text_id"]})
    for put_by, name in ((documents, "documents"), (records, "records")):
        kept = previous.folder / f"{name}.parquet" if previous else None
        put_by.write_sorted(texts, kept, output / f"{name}.parquet")
    from ft_assets.records import Quality, read_texts

    q = {
        t: sum(sum(map(len, r.values("text"))) for r in rows)
        for t, rows in read_texts(output / "documents.parquet")
    }
    with TextWriter(output / "quality.parquet", Quality) as w:
        for t in texts:
            w.add(
                t,
                [
                    Rows.of(
                        to_table(
                            Quality, [Quality(t, 1, 0, q.get(t, 0), 4.0, 0.0, 0.0, 0.0, None, None)]
                        )
                    )
                ],
            )
    write_table(output / "rejected.parquet", RejectedDocument, _rejected(sources))
    if not texts:
        raise StageError(_nothing_left(source, sources))
    return sorted(sources, key=lambda line: str(line["path"]))


def _known(previous: Previous | None) -> dict[tuple[str, str], _Line]:
    """The lines of an earlier version, by document id and media type."""
    lines = previous.manifest["sources"] if previous else []
    of_file = ("document_id", "path", "bytes")
    return {
        (line["document_id"], line["media_type"]): {
            key: value for key, value in line.items() if key not in of_file
        }
        for line in lines
        if line["document_id"]
    }


def _parse(source: Path, file: CorpusFile, loaders: dict[str, str]) -> ParsedFile:
    """Parses a file, and makes sure that what was read is what had been hashed."""
    path = source / file.path
    parsed = parse_file(path, loaders)
    try:
        unchanged = hash_file(path) == file.sha256
    except OSError:
        unchanged = False
    if not unchanged:
        raise StageError(f"{path} changed while it was read: refresh again once it is whole")
    return parsed


def _rejected(sources: list[_Line]) -> list[RejectedDocument]:
    """The rows of `rejected.parquet`: each reason once a document, in order."""
    rows = {
        RejectedDocument(
            line["document_id"], line["media_type"], reason, line["text_id"] is None
        ): None
        for line in sources
        for reason in line["rejected"]
    }
    return sorted(rows, key=lambda row: row.document_id)


def _nothing_left(source: Path, sources: list[dict[str, Any]]) -> str:
    if not sources:
        return f"{source} holds no documents: put PDF, DOCX, TXT, Markdown or JSON files there"
    reasons = [f"  {line['path']}: {reason}" for line in sources for reason in line["rejected"]]
    return "\n".join([f"{source} holds no file that could be read:", *reasons[:20]])


def build(job: Job, report: Report) -> Outcome:
    """Makes `raw_documents`: `documents`, `records` and `rejected.parquet`."""
    tools = versions("pypdfium2", "pypdf", "lxml", "docx2txt", "pyarrow")
    sources = load_documents(
        job.files,
        job.source,
        job.output,
        job.section("data.loaders"),
        report,
        job.reusable(tools),
    )
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
        tools=tools,
        sources=sources,
    )
