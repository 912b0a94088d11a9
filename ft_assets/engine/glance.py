"""A corpus at a glance: what will be learned from its files, what not, and what a gate will stop.

Everything is found by reading each file once; nothing is built or fetched.
"""

import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ft_assets.config import FineTuneConfig
from ft_assets.engine.asked_template import RefusedTools, refusal_of_tools, template_of
from ft_assets.engine.data_folder import DataFolder
from ft_assets.engine.measure import Measured, Meter, tokenizer_at_hand
from ft_assets.engine.pairs import price_of_chunk
from ft_assets.engine.reasons import Reason, grouped
from ft_assets.errors import UserError
from ft_assets.manifest import Settings
from ft_assets.names import QUESTIONS_FILE
from ft_assets.records import Quality
from ft_assets.stages.dataset.split import FEW_DOCUMENTS
from ft_assets.stages.job import CorpusFile
from ft_assets.stages.loaders.formats import UNKNOWN
from ft_assets.stages.models.base_model import tokenizer_on_disk
from ft_assets.stages.models.weights import parameters_of
from ft_assets.stages.parsing.files import ParsedFile
from ft_assets.stages.parsing.row_spool import spooled_rows
from ft_assets.stages.qa.plan import pairs_of
from ft_assets.stages.questions import read_questions
from ft_assets.stages.raw_documents import read_files
from ft_assets.stages.training.chooser import choose
from ft_assets.stages.training.estimate import Rows
from ft_assets.stages.words import counted, listed

_NAMED = 3
_TEMPLATE_TOKENS, _PAIR_TOKENS = 30, 75
"""About: what a template adds to a row, and a row of a question-answer pair."""
_ANSWERED, _DEVIATION = 0.5, 0.4
"""About: the share of a record's tokens that is trained, and by which part of the mean rows differ."""


@dataclass(frozen=True)
class LeftOut(Reason):
    """What of a file is left out for one reason: the whole file, or `count` parts of it."""

    file: Path

    def __str__(self) -> str:
        return f"{self.file}: {super().__str__()}"


@dataclass(frozen=True)
class Stop:
    """A gate that will stop training: its setting, the share that it allows, and the share found."""

    key: str
    share: float
    allowed: float
    message: str


@dataclass(frozen=True)
class Pairs:
    """The question-answer pairs to be generated; `usd` is None if their price is not known."""

    enabled: bool
    expected: int
    usd: float | None


@dataclass(frozen=True)
class HeldOut:
    """What is held out for evaluation: a share of documents, of their sections, or of records."""

    fraction: float
    of: list[str]
    rows: int


@dataclass
class Glance:
    """What will be learned from a corpus, and what not.

    `formats` has what the files of each format hold, `tokens_counted` says whether the base model's
    tokenizer was at hand. `unused_keys` maps files to the keys of records that no reader uses, with
    the number of records that have each. `training` are the settings that would be chosen, by dotted key:
    without the learning rate if the base model's size is not known, `rows` about the rows that there will
    be; None if there is nothing to train on. `questions` is the number of
    closed-book questions, `files_left_out` of files that cannot be used, `files_in_part` of those of
    which a part cannot. `takes_reasoning` says whether the template has a place for the reasoning of
    answers; None if no answer has any, or without the tokenizer.
    """

    formats: dict[str, Measured] = field(default_factory=dict)
    tokens_counted: bool = False
    left_out: list[LeftOut] = field(default_factory=list)
    unused_keys: dict[str, dict[str, int]] = field(default_factory=dict)
    stops: list[Stop] = field(default_factory=list)
    pairs: Pairs = field(default_factory=lambda: Pairs(enabled=False, expected=0, usd=None))
    held_out: HeldOut = field(default_factory=lambda: HeldOut(0.0, [], 0))
    training: Settings = field(default_factory=dict)
    rows: Rows | None = None
    questions: int = 0
    files_left_out: int = 0
    files_in_part: int = 0
    refused_tools: RefusedTools | None = None
    takes_reasoning: bool | None = None

    @property
    def files(self) -> int:
        """The files of which something will be learned."""
        return sum(each.files for each in self.formats.values())

    @property
    def chunks(self) -> int:
        """The chunks of all texts."""
        return sum(each.chunks for each in self.formats.values())

    @property
    def reasoned(self) -> int:
        """The answers that have reasoning of their own."""
        return sum(each.reasoned for each in self.formats.values())

    @property
    def records(self) -> int:
        """The instruction records of all files."""
        return sum(each.records for each in self.formats.values())

    def to_json(self) -> dict[str, Any]:
        """The values that `validate --json` shows, without what it shows beside them."""
        told = asdict(self)
        del told["left_out"]
        return {**told, "chunks": self.chunks, "records": self.records}


def glance_at(folder: DataFolder, corpus: str) -> Glance:
    """Reads all files of a corpus once. Raises UserError if its settings or questions are wrong."""
    config = folder.config(corpus)
    tally = _Tally(folder, corpus, config)
    with tempfile.TemporaryDirectory(prefix="ft-assets-validate-") as scratch:
        files = folder.files(corpus)
        loaders = config.data.loaders
        for file, parsed in read_files(files, folder.data / corpus, loaders, Path(scratch)):
            tally.add(file, parsed)
        found = tally.glance()
    found.questions = len(read_questions(folder.data / corpus / QUESTIONS_FILE))
    found.pairs = _pairs(folder, corpus, config, found)
    found.held_out = _held_out(config, found)
    found.rows = _rows(config, found)
    found.training = _training(config, found)
    return found


class _Tally:
    """Adds up what reading the files gives."""

    def __init__(self, folder: DataFolder, corpus: str, config: FineTuneConfig) -> None:
        self._folder, self._corpus, self._config = folder, corpus, config
        self._root = folder.data / corpus
        self._tokenizer = tokenizer_at_hand(config)
        self._meters: dict[str, Meter] = {}
        self._paths: dict[str, list[str]] = {}
        self._left_out: list[LeftOut] = []
        self._rejected: dict[str, tuple[str, str]] = {}
        self._bytes = self._unread_bytes = self._unread = self._in_part = 0
        self._records: Counter[str] = Counter()
        self._characters = 0
        self._unsound: dict[str, tuple[int, str]] = {}
        self._unused: dict[str, dict[str, int]] = {}

    def add(self, file: CorpusFile, parsed: ParsedFile) -> None:
        """Adds one file; files of an unknown type are left out, but do not count as documents."""
        path = self._root / file.path
        self._left_out += [LeftOut(**vars(each), file=path) for each in grouped(parsed.rejected)]
        self._unread += parsed.text_id is None
        self._in_part += bool(parsed.text_id and parsed.rejected)
        if parsed.media_type == UNKNOWN:
            return
        self._bytes += file.size
        if parsed.records_rejected:
            self._records[file.path] += parsed.records_rejected
        if parsed.unused_keys:
            self._unused[file.path] = {each["key"]: each["records"] for each in parsed.unused_keys}
        if parsed.text_id is None:
            self._unread_bytes += file.size
            self._rejected.setdefault(file.sha256, (file.path, parsed.rejected[0]))
            return
        if parsed.media_type not in self._meters:
            self._meters[parsed.media_type] = Meter(self._config, self._tokenizer)
        meter = self._meters[parsed.media_type]
        meter.add_file(file.size)
        paths = self._paths.setdefault(parsed.text_id, [])
        if not paths:
            meter.add(parsed)
            self._add_quality(file.path, parsed)
        paths.append(file.path)

    def _add_quality(self, path: str, parsed: ParsedFile) -> None:
        batches = parsed.batches.get("quality", [])
        for rows in spooled_rows(str(parsed.text_id), batches, Quality):
            for row in rows.table().to_pylist():
                self._characters += row["characters"]
                if row["problem"]:
                    self._unsound[path] = (row["characters"], row["problem"])

    def glance(self) -> Glance:
        """What all of them give."""
        measured = {name: meter.measured() for name, meter in sorted(self._meters.items())}
        for paths in self._paths.values():
            first, *again = sorted(paths)
            said = f"it has the same content as {first}"
            self._left_out += [LeftOut(said, 1, "", self._root / path) for path in again]
        left_out = sorted(self._left_out, key=lambda each: each.file)
        unused = dict(sorted(self._unused.items()))
        found = Glance(measured, self._tokenizer is not None, left_out, unused)
        found.files_left_out, found.files_in_part = self._unread, self._in_part
        self._ask_template(found)
        found.stops = self._stops(found)
        return found

    def _ask_template(self, found: Glance) -> None:
        """Finds what the template has no place for; it is not known without its tokenizer."""
        records = sum(each.tool_records for each in found.formats.values())
        if not (records or found.reasoned) or self._tokenizer is None:
            return
        manager = template_of(self._folder, self._corpus, self._config, self._tokenizer)
        found.takes_reasoning = manager.takes_reasoning if found.reasoned else None
        if records and (why := refusal_of_tools(manager)):
            found.refused_tools = RefusedTools(records, why)

    def _stops(self, told: Glance) -> list[Stop]:
        """The gates that will stop training, as far as they can be known before the dataset is built."""
        unread = [f"{path} ({why})" for path, why in sorted(self._rejected.values())]
        documents = len(unread) + len(self._paths)
        turned_away = [
            f"{path} ({counted(count, 'record')})" for path, count in self._records.most_common()
        ]
        lost, records = self._records.total(), told.records
        refused = told.refused_tools or RefusedTools(0, "")
        unsound = [f"{path} ({why})" for path, (_, why) in sorted(self._unsound.items())]
        damaged = sum(count for count, _ in self._unsound.values())
        what = "cannot be read"
        found = [
            self._stop("rejected_documents", len(unread), documents, "document", what, unread),
            self._stop(
                "rejected_bytes",
                self._unread_bytes,
                self._bytes,
                "byte",
                "are in documents that cannot be read",
                unread,
            ),
            self._stop(
                "rejected_records", lost, records + lost, "record", "are turned away", turned_away
            ),
            self._stop(
                "refused_rows",
                refused.records,
                records + told.chunks,
                "row",
                "are refused by the template",
                [refused.reason],
            ),
            self._stop(
                "unsound_text",
                damaged,
                self._characters,
                "character",
                "are from texts that look damaged",
                unsound,
            ),
        ]
        return [each for each in found if each]

    def _stop(
        self, gate: str, found: int, of: int, thing: str, what: str, named: list[str]
    ) -> Stop | None:
        allowed = getattr(self._config.data.gates, gate)
        share = found / of if of else 0.0
        if share <= allowed:
            return None
        key = f"data.gates.{gate}"
        message = (
            f"{found:,} of {counted(of, thing)} {what} ({share:.0%}): training is blocked above "
            f"{allowed:.0%} ({key}): {listed(named, _NAMED)}"
        )
        return Stop(key, share, allowed, message)


def _pairs(folder: DataFolder, corpus: str, config: FineTuneConfig, found: Glance) -> Pairs:
    """The pairs that the chunks give if QA is on, or would give."""
    chunks = found.chunks
    if not chunks:
        return Pairs(config.qa.enabled, 0, None)
    prose = sum(each.characters for each in found.formats.values() if each.chunks)
    size = max(1, prose // chunks)
    expected = pairs_of("x" * size, config.qa) * chunks
    try:
        price = price_of_chunk(folder, corpus, config, size) * chunks
    except UserError:
        return Pairs(config.qa.enabled, expected, None)
    return Pairs(config.qa.enabled, expected, price.ways.get(config.qa.send, price.usd))


def _held_out(config: FineTuneConfig, found: Glance) -> HeldOut:
    """What `data.eval_fraction` holds out, and about how many rows that gives."""
    fraction, texts = config.data.eval_fraction, sum(each.texts for each in found.formats.values())
    of = []
    if texts:
        of.append(_unit(config, texts))
    if found.records:
        of.append(counted(found.records, "record"))
    units = found.chunks + found.records + (found.pairs.expected if found.pairs.enabled else 0)
    return HeldOut(fraction, of if fraction else [], round(units * fraction))


def _rows(config: FineTuneConfig, found: Glance) -> Rows | None:
    """About the training rows that there will be: chunks, records, and pairs if QA is on."""
    pairs = found.pairs.expected if found.pairs.enabled else 0
    count = found.chunks + found.records + pairs - found.held_out.rows
    characters = sum(each.characters for each in found.formats.values())
    if count <= 0 or not characters:
        return None
    of_text = sum(each.characters for each in found.formats.values() if each.chunks) / characters
    read = sum(each.tokens for each in found.formats.values())
    by_character = read / characters
    share = count / (count + found.held_out.rows)
    tokens = share * (
        read + _TEMPLATE_TOKENS * (found.chunks + found.records) + _PAIR_TOKENS * pairs
    )
    records = max(each.longest_record for each in found.formats.values()) * by_character
    size = config.langchain.chunk_size * (
        1.0 if config.langchain.splitter == "token" else by_character
    )
    longest = max(records, size if found.chunks else 0, _PAIR_TOKENS if pairs else 0)
    return Rows(
        count,
        round(tokens),
        round(tokens * (of_text + (1 - of_text) * _ANSWERED)),
        min(config.training.max_length, round(longest) + _TEMPLATE_TOKENS),
        round(_DEVIATION * tokens / count, 1),
        count if not found.records and not pairs else 0,
        is_exact=False,
    )


def _training(config: FineTuneConfig, found: Glance) -> Settings:
    """The settings that training would choose, from about how many rows there will be."""
    if found.rows is None:
        return {}
    base = tokenizer_on_disk(config.model.base, config.model.revision)
    parameters = parameters_of(base) if base else 0
    chosen = choose(config.training, config.model.lora, found.rows.data, parameters).chosen
    unknown = "" if parameters else "training.learning_rate"
    return {key: value for key, value in chosen.items() if key != unknown}


def _unit(config: FineTuneConfig, texts: int) -> str:
    """What is held out of documents: whole ones, or sections of each."""
    unit = config.data.eval_unit or ("section" if texts < FEW_DOCUMENTS else "document")
    which = "sections of them" if unit == "section" else "whole ones"
    return f"{counted(texts, 'document')} ({which})"
