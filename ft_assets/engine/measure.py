"""Measures what the files of a corpus hold: characters, tokens, chunks, records and answers.

Tokens and chunks of a format are counted in its first few million characters; beyond that, they are
projected from those, so that a look at a large corpus takes little longer than reading its files.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ft_assets.config import FineTuneConfig, LangChainConfig
from ft_assets.errors import StageError, UserError
from ft_assets.records import PAGE_BREAK, Document, InstructionRecord
from ft_assets.stages.chunks import cut_of
from ft_assets.stages.models.base_model import tokenizer_on_disk
from ft_assets.stages.models.tokenizer_cache import light_tokenizer_of
from ft_assets.stages.parsing.files import ParsedFile
from ft_assets.stages.parsing.row_spool import spooled_rows
from ft_assets.stages.splitting.characters import Cut, recursive_cut

if TYPE_CHECKING:
    import pyarrow as pa

    from ft_assets.stages.models.light_tokenizer import AnyTokenizer

_SAMPLED = 2_000_000
"""Characters of each format that are tokenized and cut."""
_BLOCK = 20_000
"""Characters that are tokenized at a time."""
BYTES_PER_TOKEN = 4
"""About, for a tokenizer that is not on this disk."""


@dataclass
class Measured:
    """What the files of one format hold.

    `characters` are those of texts and of the messages in records. `answers` are those that would be
    trained, `reasoned` the answers that have reasoning of their own beside them, `tool_records` the
    records that define or call functions, `longest_record` the characters of the longest record. If `projected`, tokens and chunks are about right: they were counted in a part.
    """

    files: int = 0
    bytes: int = 0
    texts: int = 0
    characters: int = 0
    tokens: int = 0
    chunks: int = 0
    records: int = 0
    answers: int = 0
    reasoned: int = 0
    tool_records: int = 0
    longest_record: int = 0
    projected: bool = False


class Meter:
    """Measures the files of one format, one after the other."""

    def __init__(self, config: FineTuneConfig, tokenizer: "AnyTokenizer | None") -> None:
        self._all_turns = config.data.train_on == "all"
        self._tokenizer, self._cut = tokenizer, _cut_of(config.langchain, tokenizer)
        self._found = Measured()
        self._prose = self._sampled_prose = self._sampled = 0

    def add_file(self, size: int) -> None:
        """Counts a file, whether or not its content is new."""
        self._found.files += 1
        self._found.bytes += size

    def add(self, parsed: ParsedFile) -> None:
        """Measures the rows of a file whose content is new."""
        self._found.texts += bool(parsed.pages)
        self._found.records += parsed.records
        self._found.characters += parsed.characters
        self._prose += parsed.characters
        self._add_prose(_tables(parsed, "documents", Document))
        for table in _tables(parsed, "records", InstructionRecord):
            self._add_records(table)
            self._add_tools(table)

    def measured(self) -> Measured:
        """What all of them hold."""
        found = self._found
        found.projected = self._sampled < found.characters
        if self._sampled:
            found.tokens = round(found.tokens * found.characters / self._sampled)
        if self._sampled_prose:
            found.chunks = round(found.chunks * self._prose / self._sampled_prose)
        return found

    def _add_prose(self, tables: "Iterator[pa.Table]") -> None:
        pages: list[str] = []
        for row in (row for table in tables for row in table.to_pylist()):
            if self._sampled >= _SAMPLED:
                break
            if pages and row["sample"]:  # no chunk crosses its borders
                self._add_chunks(pages)
                pages = []
            pages.append(row["text"][: _SAMPLED - self._sampled])
            self._sampled_prose += len(pages[-1])
            self._add_sample(pages[-1])
        if pages:
            self._add_chunks(pages)

    def _add_chunks(self, pages: list[str]) -> None:
        self._found.chunks += sum(1 for _ in self._cut(PAGE_BREAK.join(pages)))

    def _add_records(self, table: "pa.Table") -> None:
        """Counts answers and characters by column; of the texts only a sample is looked at."""
        import pyarrow.compute as compute

        pc: Any = compute  # the stubs do not know these combinations of types
        turns: Any = table["messages"].combine_chunks()
        messages = turns.flatten()
        contents = pc.struct_field(messages, "content")
        thoughts = pc.struct_field(messages, "reasoning")
        answers = pc.and_(
            pc.equal(pc.struct_field(messages, "role"), "assistant"),
            pc.fill_null(pc.struct_field(messages, "trained"), True),
        )
        of_record = pc.list_parent_indices(turns).filter(answers)
        trained = len(of_record) if self._all_turns else len(of_record.unique())
        self._found.answers += trained
        self._found.reasoned += pc.sum(pc.and_(answers, pc.is_valid(thoughts))).as_py() or 0
        self._found.longest_record = max(self._found.longest_record, _longest(turns, contents))
        for texts in (contents, thoughts, table["input"]):
            self._found.characters += pc.sum(pc.utf8_length(texts)).as_py() or 0
        for text in (*contents, *thoughts, *table["input"]):
            if self._sampled >= _SAMPLED:
                break
            self._add_sample(text.as_py() or "")

    def _add_tools(self, table: "pa.Table") -> None:
        """Counts the records that define or call functions."""
        import pyarrow as pa
        import pyarrow.compute as compute

        pc: Any = compute
        turns: Any = table["messages"].combine_chunks()
        calls = pc.is_valid(pc.struct_field(turns.flatten(), "tool_calls"))
        calling = pc.list_parent_indices(turns).filter(calls).unique()
        places = pa.array(range(table.num_rows), calling.type)
        has_tools = pc.or_(pc.is_valid(table["tools"]), pc.is_in(places, calling))
        self._found.tool_records += pc.sum(has_tools).as_py() or 0

    def _add_sample(self, text: str) -> None:
        self._sampled += len(text)
        if self._tokenizer is None:
            size = len(text.encode("utf-8", "surrogatepass"))
            self._found.tokens += -(-size // BYTES_PER_TOKEN)
            return
        blocks = [text[start : start + _BLOCK] for start in range(0, len(text), _BLOCK)]
        if blocks:
            ids = self._tokenizer(blocks, add_special_tokens=False)["input_ids"]
            self._found.tokens += sum(map(len, ids))


def _longest(turns: Any, contents: Any) -> int:
    """The characters of the longest record, the contents of its messages taken together."""
    import pyarrow as pa
    import pyarrow.compute as compute

    pc: Any = compute
    columns = {"record": pc.list_parent_indices(turns), "size": pc.utf8_length(contents)}
    sizes = pa.table(columns).group_by("record").aggregate([("size", "sum")])["size_sum"]
    return int(pc.max(sizes).as_py() or 0)


def tokenizer_at_hand(config: FineTuneConfig) -> "AnyTokenizer | None":
    """The base model's tokenizer if it is on this disk; nothing is fetched."""
    with suppress(UserError, StageError):
        if folder := tokenizer_on_disk(config.model.base, config.model.revision):
            return light_tokenizer_of(folder)
    return None


def _tables(parsed: ParsedFile, name: str, record: type) -> "Iterator[pa.Table]":
    for rows in spooled_rows(str(parsed.text_id), parsed.batches.get(name, []), record):
        yield rows.table()


def _cut_of(settings: LangChainConfig, tokenizer: "AnyTokenizer | None") -> Cut:
    """The cut for the settings; by characters if it needs a tokenizer that is not on this disk."""
    if settings.splitter == "token" and tokenizer is None:
        size, overlap = settings.chunk_size, settings.chunk_overlap
        return recursive_cut(size * BYTES_PER_TOKEN, overlap * BYTES_PER_TOKEN)
    return cut_of(settings, tokenizer)
