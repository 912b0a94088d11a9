"""A million training rows written and read: the memory that Arrow takes for it, and the time."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ft_assets.records import Example, Segment
from ft_assets.tables import Rows, TextWriter, read_batches, read_texts, to_table

ROWS = 1_000_000
_BATCH = 1_000


def _segments(number: int) -> list[Segment]:
    asked = f"<|im_start|>user\nWhat is in crate {number}?<|im_end|>\n"
    said = f"Crate {number} holds {number * 7} pears.<|im_end|>" * 4
    return [{"text": asked, "trained": False}, {"text": said, "trained": True}]


def _tables(text_id: str, rows: int) -> Iterator[Rows]:
    """Rows of one text, made as they are asked for."""
    for start in range(0, rows, _BATCH):
        yield Rows.of(
            to_table(
                Example,
                [
                    Example(
                        example_id=f"{text_id[:16]}{number:016x}",
                        kind="record",
                        segments=_segments(number),
                        text_id=text_id,
                        origin_id=f"{number:016x}{text_id[:16]}",
                        variant=0,
                        turn=0,
                        split_group=f"{number:016x}",
                        tokens=60,
                        trained_tokens=40,
                        cut_tokens=0,
                        escaped=False,
                    )
                    for number in range(start, min(start + _BATCH, rows))
                ],
            )
        )


def a_million_rows() -> dict[str, Any]:
    """One text of half of the rows, as of a large JSON Lines file, and the rest in texts of a hundred."""
    import pyarrow as pa

    pool = pa.default_memory_pool()
    small = [f"{number:032x}" for number in range(ROWS // 2 // 100)]
    figures: dict[str, Any] = {"rows": ROWS}
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch) / "train.parquet"
        began = time.process_time()
        with TextWriter(table, Example) as writer:
            for text_id in small:
                writer.add(text_id, _tables(text_id, 100))
            writer.add("f" * 32, _tables("f" * 32, ROWS // 2))
        figures["written_cpu_s"] = round(time.process_time() - began, 1)
        began = time.process_time()
        assert sum(len(batch) for batch in read_batches(table)) == ROWS
        texts = {}
        for text_id, rows in read_texts(table):
            texts[text_id] = sum(len(some.table()) for some in rows)
        assert texts == {**dict.fromkeys(small, 100), "f" * 32: ROWS // 2}
        figures["read_twice_cpu_s"] = round(time.process_time() - began, 1)
        figures["megabytes_on_disk"] = round(
            sum(path.stat().st_size for path in table.iterdir()) / 1e6, 1
        )
    figures["arrow_peak_mib"] = round((pool.max_memory() or 0) / 2**20, 1)
    return figures


if __name__ == "__main__":
    print(a_million_rows())
