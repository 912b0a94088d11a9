"""Reads the files of a corpus into texts and instruction records, with a reason for what is left out.

Rows are ordered by the digest of the text read (`text_id`) and contain neither the path nor the digest
of the file, so that renaming a file, or saving it again with the same text, changes no byte.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ft_assets.config import LoaderSettings
from ft_assets.errors import StageError, UserError
from ft_assets.files import hash_file, local_name
from ft_assets.manifest import SOURCES, Verdict, sources_path
from ft_assets.records import Document, InstructionRecord, Quality, RejectedDocument, SourceDocument
from ft_assets.stages.job import (
    Check,
    CorpusFile,
    Job,
    Outcome,
    Previous,
    Report,
    reused_line,
    versions,
)
from ft_assets.stages.loaders import ocr
from ft_assets.stages.loaders.formats import UNKNOWN, endings, media_type_of, tools
from ft_assets.stages.parsing.files import ParsedFile, Task
from ft_assets.stages.parsing.pool import parse_files
from ft_assets.stages.parsing.row_spool import SpooledRows, write_texts
from ft_assets.stages.words import counted, listed
from ft_assets.tables import read_batches, read_table, write_table

TABLES: dict[str, type] = {
    "documents": Document,
    "records": InstructionRecord,
    "quality": Quality,
}
"""The tables whose rows belong to texts."""

EVERY_FILE_READ = Check(
    "every_file_read", "No file and no part of one was rejected.", blocking=False
)
TEXT_IS_SOUND = Check("text_is_sound", "No document's text looks damaged.", blocking=False)
EVERY_KEY_USED = Check(
    "every_key_used", "Every key of every record is one that is read.", blocking=False
)
CHECKS = (EVERY_FILE_READ, TEXT_IS_SOUND, EVERY_KEY_USED)
"""None blocks: the dataset's checks block if too large a share of the corpus is affected."""

_Key = tuple[str, str]
"""The identity of a file: the digest of its bytes, and its media type."""


def read_files(
    files: list[CorpusFile], source: Path, settings: LoaderSettings, scratch: Path
) -> Iterator[tuple[CorpusFile, ParsedFile]]:
    """Reads files (paths inside `source`), in any order; their rows are spooled to `scratch`.

    Raises StageError if a file changed while it was read.
    """
    tasks: dict[Path, CorpusFile] = {}
    for file in files:
        media_type = media_type_of(file.path)
        if file.problem:
            yield file, ParsedFile(UNKNOWN, rejected=[file.problem])
        elif media_type == UNKNOWN:
            yield file, ParsedFile(UNKNOWN, rejected=[_unknown(file.path)])
        else:
            tasks[(source / local_name(file.path)).absolute()] = file
    if not tasks:
        return
    parsed_files = parse_files(
        [Task(path, media_type_of(path.name), settings, scratch.absolute()) for path in tasks]
    )
    for task, parsed in parsed_files:
        _check_unchanged(task.path, tasks[task.path])
        yield tasks[task.path], parsed


def _unknown(path: str) -> str:
    ending = Path(path).suffix or "(none)"
    return f"the ending {ending} is not read; known are {', '.join(endings())}"


def _check_unchanged(path: Path, file: CorpusFile) -> None:
    """Raises StageError if the file's bytes are not those that were hashed before."""
    try:
        unchanged = hash_file(path) == file.sha256
    except OSError:
        unchanged = False
    if not unchanged:
        raise StageError(f"{path} changed while it was read: refresh again once it is complete")


def _source(file: CorpusFile, parsed: ParsedFile) -> SourceDocument:
    """The row of a parsed file in SOURCES."""
    told = {key: value for key, value in vars(parsed).items() if key != "batches"}
    return SourceDocument(file.sha256, file.path, file.size, **told)


def load_documents(
    files: list[CorpusFile],
    source: Path,
    output: Path,
    settings: LoaderSettings,
    report: Report,
    previous: Previous | None = None,
) -> list[SourceDocument]:
    """Parses `files` (paths inside `source`) into the tables in `output`.

    Returns a row for each file. A file that is unchanged since `previous` is not parsed again, and files
    with the same bytes are read once. Raises UserError if there are no files, StageError if no file could
    be read, or if a file changed while it was read.
    """
    known = _known(previous)
    to_read = {_key(file): file for file in reversed(files) if _key(file) not in known}
    if known:
        documents = [_key(file) for file in files if media_type_of(file.path) != UNKNOWN]
        parsed_now = sum(key in to_read for key in documents)
        report(reused_line(parsed_now, len(documents), "documents parsed"))
    spooled: dict[str, dict[str, list[SpooledRows]]] = {name: {} for name in TABLES}
    scratch = output / ".rows"
    scratch.mkdir()
    for file, parsed in read_files(list(to_read.values()), source, settings, scratch):
        known[_key(file)] = _source(file, parsed)
        for name, batches in parsed.batches.items():
            spooled[name].setdefault(str(parsed.text_id), batches)
    sources = [
        replace(known[_key(file)], document_id=file.sha256, path=file.path, bytes=file.size)
        for file in sorted(files, key=lambda file: file.path)
    ]
    _write(sources, spooled, output, previous)
    shutil.rmtree(scratch)
    for line in sources:
        for reason in line.rejected[:_SHOWN_REASONS]:
            report(f"{line.path}: {reason}")
    if not sources:
        raise UserError(
            f"{source} has no documents: put PDF, DOCX, TXT, Markdown, JSON, CSV or Parquet files there"
        )
    if not any(line.text_id for line in sources):
        raise StageError(_nothing_left(source, sources))
    return sources


_SHOWN_REASONS = 20
"""The most reasons reported per file; `rejected.parquet` has all of them."""


def _key(file: CorpusFile) -> _Key:
    """The identity of a file; its path if it could not be read, since it then has no digest."""
    return (file.sha256 or f"path {file.path}", media_type_of(file.path))


def _write(
    sources: list[SourceDocument],
    spooled: dict[str, dict[str, list[SpooledRows]]],
    output: Path,
    previous: Previous | None,
) -> None:
    """Writes all tables, with rows ordered by text."""
    texts = sorted({line.text_id for line in sources if line.text_id})
    for name, record in TABLES.items():
        known = previous.folder / f"{name}.parquet" if previous else None
        write_texts(texts, spooled[name], known, output / f"{name}.parquet", record)
    write_table(output / "rejected.parquet", RejectedDocument, _rejected(sources))
    write_table(output / SOURCES, SourceDocument, sources)


def _known(previous: Previous | None) -> dict[_Key, SourceDocument]:
    """The files of a previous version, by document id and media type."""
    if previous is None:
        return {}
    return {
        (row.document_id, row.media_type): row
        for row in read_table(sources_path(previous.folder, previous.manifest), SourceDocument)
        if row.document_id
    }


def _rejected(sources: list[SourceDocument]) -> list[RejectedDocument]:
    """The rows of `rejected.parquet`: each reason once per document, in order."""
    documents = {line.document_id: line.bytes for line in sources if line.media_type != UNKNOWN}
    total = sum(documents.values())
    rows = {
        RejectedDocument(
            line.document_id, line.media_type, reason, whole, total if known else 0
        ): None
        for line in sources
        for whole in [line.text_id is None]
        for known in [whole and line.media_type != UNKNOWN]
        for reason in line.rejected
    }
    return sorted(rows, key=lambda row: row.document_id)


def _nothing_left(source: Path, sources: list[SourceDocument]) -> str:
    reasons = [f"  {line.path}: {reason}" for line in sources for reason in line.rejected]
    return "\n".join([f"{source} has no file that could be read:", *reasons[:20]])


_SHOWN_FILES = 5


def _named(reasons: dict[str, str], what: str) -> str:
    """The first few files that fail a check, with the reasons."""
    shown = "; ".join(f"{path}: {why}" for path, why in list(reasons.items())[:_SHOWN_FILES])
    more = len(reasons) - _SHOWN_FILES
    return f"{what}: {shown}" + (f"; and {more:,} more" if more > 0 else "")


_SHOWN_KEYS = 8


def unused_keys(row: SourceDocument | ParsedFile) -> str:
    """The keys of a file's records that were not used, in words; "" if there are none."""
    keys = [f"{each['key']!r} ({counted(each['records'], 'record')})" for each in row.unused_keys]
    return listed(keys, _SHOWN_KEYS)


def _unsound(folder: Path) -> dict[str, str]:
    """Maps the id of each text that looks damaged to its problem."""
    return {
        row["text_id"]: row["problem"]
        for table in read_batches(folder / "quality.parquet", ["text_id", "problem"])
        for row in table.to_pylist()
        if row["problem"]
    }


def _checks(sources: list[SourceDocument], unsound: dict[str, str]) -> dict[str, Verdict]:
    rejected = {line.path: line.rejected[0] for line in sources if line.rejected}
    damaged = {line.path: unsound[line.text_id] for line in sources if line.text_id in unsound}
    read = "every file was read whole"
    if rejected:
        what = f"{len(rejected)} of {len(sources)} files are rejected or have rejected parts"
        read = _named(rejected, what)
    sound = "no document's text looks damaged"
    if damaged:
        what = f"the text of {len(damaged)} of {len(sources)} files looks damaged"
        sound = _named(damaged, what)
    unused = {line.path: keys for line in sources if (keys := unused_keys(line))}
    used = "every key of every record was used"
    if unused:
        what = f"{len(unused)} of {len(sources)} files have keys that are not used"
        used = _named(unused, what)
    return {
        **EVERY_FILE_READ.verdict(not rejected, read),
        **TEXT_IS_SOUND.verdict(not damaged, sound),
        **EVERY_KEY_USED.verdict(not unused, used),
    }


def _tools(settings: LoaderSettings) -> dict[str, str]:
    """The versions of all tools that read files. Raises UserError if OCR is on and not installed."""
    found = versions(*tools(), "py3langid", "pyarrow")
    if settings.ocr:
        ocr.check_installed()
        found["ocrmypdf"] = ocr.version()
    return found


def build(job: Job, report: Report) -> Outcome:
    """Builds `raw_documents`: `documents`, `records`, `quality` and `rejected.parquet`."""
    settings = job.section(LoaderSettings)
    made_by = _tools(settings)
    previous = job.reusable(made_by)
    sources = load_documents(job.files, job.source, job.output, settings, report, previous)
    unsound = _unsound(job.output)
    of_all = ("pages", "records", "records_rejected", "characters", "pages_without_text")
    return Outcome(
        counts={
            "files": len(sources),
            "files_read": sum(bool(line.text_id) for line in sources),
            "files_with_rejects": sum(bool(line.rejected) for line in sources),
            **{name: sum(getattr(line, name) for line in sources) for name in of_all},
            "unsound_texts": len(unsound),
            "unused_keys": len({key["key"] for line in sources for key in line.unused_keys}),
        },
        checks=_checks(sources, unsound),
        tools=made_by,
    )
