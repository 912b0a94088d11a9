"""The origins of a dataset's rows: records, pairs and chunks, in one fixed order, with their sketches.

The order is by text id, and within a text records, then pairs, then chunks. An origin's place is its
index in this order, from 0.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_assets.records import Chunk, InstructionRecord, Kind, Message, QAPair, Sketch
from ft_assets.stages.dataset.previous import PreviousTable
from ft_assets.stages.duplicates import PERMUTATIONS, fold_words, hash_group, hash_text, sketch
from ft_assets.stages.reasoning import thought_in
from ft_assets.tables import Rows, TextWriter, from_rows, read_runs, to_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class _Input:
    """An input table of origins: its asset, its file, its id column and its record type."""

    asset: str
    file: str
    ids: str
    record: type


_INPUTS: dict[Kind, _Input] = {
    "record": _Input("raw_documents", "records.parquet", "record_id", InstructionRecord),
    "qa": _Input("qa_pairs", "qa_pairs.parquet", "pair_id", QAPair),
    "text": _Input("chunks", "chunks.parquet", "chunk_id", Chunk),
}


@dataclass(frozen=True)
class OriginGroup:
    """The origins of one text and one kind: all, or one file of them if there are very many."""

    text_id: str
    kind: Kind
    rows: Rows

    def origin_ids(self) -> list[str]:
        """The ids of the origins, in order."""
        return self.rows.values(_INPUTS[self.kind].ids)

    def origins(self) -> Iterator[Any]:
        """The records, pairs or chunks."""
        return from_rows([self.rows], _INPUTS[self.kind].record)


def groups_of(folders: dict[str, Path]) -> Iterator[OriginGroup]:
    """All origins in order. `folders` maps each input asset to its folder."""

    def of(kind: Kind) -> Iterator[OriginGroup]:
        table = _INPUTS[kind]
        for text_id, rows in read_runs(folders[table.asset] / table.file, [table.ids]):
            yield OriginGroup(text_id, kind, rows)

    return heapq.merge(*map(of, _INPUTS), key=lambda each: each.text_id)


def conversation_of(kind: Kind, origin: Any) -> tuple[list[Message], str | None]:
    """A record or a pair as messages, with the record's input text if it has one."""
    if kind == "record":
        return origin.messages, origin.input
    return [
        {"role": "user", "content": origin.question},
        {"role": "assistant", "content": origin.answer},
    ], None


def chunk_texts(folders: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """The text of each chunk with its place among the origins."""
    place = 0
    for group in groups_of(folders):
        if group.kind == "text":
            yield from enumerate((origin.text for origin in group.origins()), start=place)
        place += len(group.rows)


def _sketch_of(kind: Kind, origin_id: str, origin: Any) -> Sketch:
    if kind == "text":
        range_ = (origin.start, origin.end)
        return _sketched(origin.text_id, origin_id, hash_group(origin_id), range_, origin.text)
    messages, context = conversation_of(kind, origin)
    said = [_said(message) for message in messages] + ([context] if context else [])
    asks = _hashes(message["content"] for message in messages if message["role"] == "user")
    if kind != "record":  # pairs share their chunk: keep them together
        group = hash_group(origin.chunk_id)
        return _sketched(origin.text_id, origin_id, group, (0, 0), "\n\n".join(said), asks)
    # Wordings of one question share their answers; conversations may share some of them.
    answers = [_answered(message) for message in messages if message["role"] == "assistant"]
    longer = _hashes(each for each in answers if len(each.split()) >= _LONG_ANSWER)
    group = hash_group("\0".join(answers))
    return _sketched(origin.text_id, origin_id, group, (0, 0), "\n\n".join(said), asks, longer)


_LONG_ANSWER = 8
"""Words from which an answer is more than a stock phrase."""


def _hashes(texts: Iterable[str]) -> bytes:
    """A hash of the words of each text, as little-endian int64."""
    hashes = (hash_text(fold_words(each)) for each in texts)
    return b"".join(each.to_bytes(8, "little", signed=True) for each in hashes)


def _said(message: Message) -> str:
    """The words of a turn, with what was thought before them and the functions that it calls."""
    thought = f"{message['reasoning']}\n\n" if message.get("reasoning") else ""
    return f"{thought}{message['content']}{message.get('tool_calls') or ''}"


def _answered(message: Message) -> str:
    """The words of an answer and its calls: equal answers stay together, whatever was thought before."""
    thought = thought_in(message["content"])
    content = thought.answer if thought else message["content"]
    return f"{content}{message.get('tool_calls') or ''}"


def _sketched(
    text_id: str,
    origin_id: str,
    group: int,
    range_: tuple[int, int],
    text: str,
    asks: bytes = b"",
    answers: bytes = b"",
) -> Sketch:
    said = f"\0{text}" if asks else text  # a conversation is not a duplicate of plain text
    exact = hash_text(said)
    return Sketch(text_id, origin_id, group, *range_, exact, asks, answers, *sketch(text))


COMPARED = ("split_group", "start", "end", "exact", "asks", "answers", "minhash", "ngrams")
"""The columns of a sketch that are used in comparisons."""


class Origins:
    """The compared columns of all origins, by place; `text_ids` are their texts, in order."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in COMPARED}
        self._runs: list[tuple[int, Kind, int]] = []
        self.text_ids: list[str] = []

    def add(self, text_id: str, kind: Kind, rows: Rows) -> None:
        """Appends the sketches of the next origins, all of one text and one kind."""
        for name, column in self._columns.items():
            column += rows.values(name)
        if self.text_ids[-1:] != [text_id]:
            self.text_ids.append(text_id)
        self._runs.append((len(self.text_ids) - 1, kind, len(rows)))

    def __len__(self) -> int:
        return len(self._columns["exact"])

    def array(self, name: str, dtype: str) -> "NDArray[Any]":
        """A column of numbers."""
        import numpy as np

        return np.array(self._columns[name], dtype)

    def ngrams(self) -> list[bytes]:
        """The sampled word sequences of each origin."""
        return self._columns["ngrams"]

    def are(self, kind: Kind) -> "NDArray[np.bool_]":
        """A mask of the origins of one kind."""
        import numpy as np

        are_it = np.array([of == kind for _, of, _ in self._runs], bool)
        return np.repeat(are_it, [count for *_, count in self._runs])

    def sharing_answers(self, most: int) -> Iterator[tuple[int, int]]:
        """Places of records that share a longer answer, in pairs; without answers of more than `most`."""
        import numpy as np

        answers = self._columns["answers"]
        hashes = np.frombuffer(b"".join(answers), "<i8")
        owner = np.repeat(np.arange(len(answers)), [len(some) // 8 for some in answers])
        _, which, counts = np.unique(hashes, return_inverse=True, return_counts=True)
        order = np.argsort(which, kind="stable")
        which, owner = which[order], owner[order]
        same = (which[:-1] == which[1:]) & (counts[which[:-1]] <= most)
        yield from zip(owner[:-1][same].tolist(), owner[1:][same].tolist(), strict=True)

    def asking(self, questions: set[int]) -> "NDArray[np.bool_]":
        """A mask of the origins that ask one of `questions`, given as hashes of their words."""
        import numpy as np

        asks = self._columns["asks"]
        found = np.zeros(len(asks), bool)
        if questions:
            hashes = np.frombuffer(b"".join(asks), "<i8")
            lengths = np.array([len(some) // 8 for some in asks], np.int64)
            owner = np.repeat(np.arange(len(asks)), lengths)
            found[owner[np.isin(hashes, list(questions))]] = True
        return found

    def signatures(self, places: "NDArray[np.int64]") -> "tuple[NDArray[Any], NDArray[Any]]":
        """Those of `places` that have a MinHash signature, and the signatures, one per row."""
        import numpy as np

        minhash = self._columns["minhash"]
        having = [place for place in places.tolist() if minhash[place]]
        rows = np.frombuffer(b"".join(minhash[place] for place in having), "<u4")
        return np.array(having, np.int64), rows.reshape(-1, PERMUTATIONS)

    def texts(self) -> "NDArray[np.int64]":
        """The index in `text_ids` of the text that each origin belongs to."""
        import numpy as np

        indices = np.array([index for index, *_ in self._runs], np.int64)
        return np.repeat(indices, [count for *_, count in self._runs])


_SKETCHED = 1_000
"""Origins that are sketched in memory before they are written."""


def read_origins(folders: dict[str, Path], previous: PreviousTable, output: Path) -> Origins:
    """Sketches all origins, writes the sketches to `output`, and returns them by place.

    Sketches of unchanged origins are copied from the `previous` table.
    """
    found = Origins()

    def sketches(groups: Iterator[OriginGroup]) -> Iterator[Rows]:
        for group in groups:
            for rows in _sketches(group, previous):
                found.add(group.text_id, group.kind, rows)
                yield rows

    with TextWriter(output, Sketch) as writer:
        for text_id, of_text in groupby(groups_of(folders), key=lambda each: each.text_id):
            writer.add(text_id, sketches(of_text))
    return found


def _sketches(group: OriginGroup, previous: PreviousTable) -> Iterator[Rows]:
    ids = group.origin_ids()
    taken = previous.take(group.text_id, set(ids))
    if [origin_id for rows in taken for origin_id in rows.values("origin_id")] == ids:
        yield from taken
        return
    named = zip(ids, group.origins(), strict=True)
    while some := list(islice(named, _SKETCHED)):
        made = [_sketch_of(group.kind, origin_id, origin) for origin_id, origin in some]
        yield Rows.of(to_table(Sketch, made))
