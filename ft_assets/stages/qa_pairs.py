"""Question-answer pairs made from chunks; an empty table while `qa.enabled` is off."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter

from ft_assets.records import Chunk, QAPair
from ft_assets.stages.job import Job, Outcome, Report
from ft_assets.tables import Rows, TextWriter, to_table


def generate_qa_pairs(chunks: Iterable[Chunk], *, enabled: bool) -> Iterator[QAPair]:
    """The pairs of `chunks`: none unless `enabled`.

    Raises NotImplementedError where enabled, which the settings refuse until this is built.
    """
    if enabled:
        raise NotImplementedError("question-answer pairs are not built yet")
    yield from ()


def build(job: Job, report: Report) -> Outcome:
    """Makes `qa_pairs`: `qa_pairs.parquet`."""
    pairs = generate_qa_pairs([], enabled=job.settings["qa.enabled"])
    with TextWriter(job.output / "qa_pairs.parquet", QAPair) as writer:
        for text_id, group in groupby(pairs, key=attrgetter("text_id")):
            writer.add(text_id, [Rows.of(to_table(QAPair, group))])
    return Outcome(counts={"pairs": writer.count})
