"""Writes the rows of a dataset: `train`, `eval` and `dropped.parquet`, and the configured exports."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ft_assets.records import DroppedRow, Example, Segment
from ft_assets.stages.dataset.previous import SidedRows
from ft_assets.tables import Rows, TextWriter

SIDES = ("train", "eval")


class DatasetWriter:
    """Writes the rows text by text and counts them. Use it as a context manager.

    `counts` contains rows and tokens by side, `dropped` the number of dropped rows by reason, and
    `by_text` the rows and tokens of each text.
    """

    def __init__(self, output: Path, formats: list[str]) -> None:
        self._stack = ExitStack()
        records = {"train": Example, "eval": Example, "dropped": DroppedRow}
        self._tables = {
            name: self._stack.enter_context(TextWriter(output / f"{name}.parquet", record))
            for name, record in records.items()
        }
        self._texts = {
            (side, form): self._stack.enter_context(
                (output / f"{side}.{form}").open("w", encoding="utf-8", newline="\n")
            )
            for side in SIDES
            for form in formats
        }
        self.counts: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.by_text: dict[str, Counter[str]] = {}

    def write(self, text_id: str, batches: Iterator[SidedRows]) -> None:
        """Writes all rows of one text, a batch of its origins at a time."""
        for batch in batches:
            for side, rows in (("train", batch.train), ("eval", batch.eval)):
                for some in rows:
                    self._count(side, text_id, some)
                    self._write_texts(side, some)
                self._tables[side].add_some(rows)
            for some in batch.dropped:
                self._count_dropped(some)
            self._tables["dropped"].add_some(batch.dropped)
        for table in self._tables.values():
            table.end_text(text_id)

    def _count(self, side: str, text_id: str, rows: Rows) -> None:
        cut = rows.values("cut_tokens")
        sizes = rows.values("tokens")
        tokens = sum(sizes)
        longest = f"{side}_longest"
        self.counts[longest] = max(self.counts[longest], *sizes) if sizes else self.counts[longest]
        self.counts[f"{side}_squares"] += sum(size * size for size in sizes)
        self.counts[f"{side}_text_rows"] += rows.values("kind").count("text")
        self.counts[f"{side}_rows"] += len(rows)
        self.counts[f"{side}_tokens"] += tokens
        self.counts[f"{side}_trained_tokens"] += sum(rows.values("trained_tokens"))
        self.counts["cut_tokens"] += sum(cut)
        self.counts["cut_rows"] += len(cut) - cut.count(0)
        self.counts["escaped_rows"] += rows.values("escaped").count(True)
        self.counts["normalized_rows"] += rows.values("normalized").count(True)
        for name in ("reasoning_trained", "reasoning_unused"):
            self.counts[name] += sum(rows.values(name))
        self.counts["unvaried_rows"] += _unvaried(rows)
        of_text = self.by_text.setdefault(text_id, Counter())
        of_text[f"{side}_rows"] += len(rows)
        of_text[f"{side}_tokens"] += tokens

    def deviation(self, side: str) -> float:
        """The standard deviation of the tokens of a row."""
        rows = self.counts[f"{side}_rows"]
        squares, tokens = self.counts[f"{side}_squares"], self.counts[f"{side}_tokens"]
        return math.sqrt(max(0, rows * squares - tokens * tokens)) / rows if rows else 0.0

    def _count_dropped(self, rows: Rows) -> None:
        self.dropped.update(rows.values("reason"))
        self.counts["dropped_tokens"] += sum(rows.values("tokens"))
        self.counts["unvaried_rows"] += _unvaried(rows)

    def _write_texts(self, side: str, rows: Rows) -> None:
        if not self._texts:
            return
        lines = [row["segments"] for row in rows.table().select(["segments"]).to_pylist()]
        if file := self._texts.get((side, "jsonl")):
            file.writelines(json.dumps(_exported(row), ensure_ascii=False) + "\n" for row in lines)
        if file := self._texts.get((side, "txt")):
            file.writelines("".join(each["text"] for each in row) + "\n\n" for row in lines)

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(self, *exc: Any) -> None:
        self._stack.__exit__(*exc)


def _unvaried(rows: Rows) -> int:
    """How many origins have their first row among these."""
    return list(zip(rows.values("variant"), rows.values("turn"), strict=True)).count((0, 0))


def _exported(segments: list[Segment]) -> dict[str, Any]:
    """A row as JSON, in the spelling of axolotl's template-free format."""
    return {"segments": [{"label": each["trained"], "text": each["text"]} for each in segments]}
