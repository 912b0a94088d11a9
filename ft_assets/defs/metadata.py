"""What every partition page shows of an artifact."""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from textwrap import wrap

import dagster as dg

from ft_assets.defs.pictures import SHOWN_AT_ONCE
from ft_assets.engine.lineage import COLUMNS, documents_behind, told
from ft_assets.engine.show import Row, What, show_version
from ft_assets.engine.shown import as_text
from ft_assets.engine.storage import Storage
from ft_assets.engine.verdicts import failures, naming_files
from ft_assets.files import visible
from ft_assets.manifest import Manifest
from ft_assets.stages.words import memory_of, time_of

Metadata = dict[str, dg.MetadataValue | str | float | bool]
"""Metadata of a partition page, by its label."""

_TABLE_ROWS = 200
"""Rows of a table that go into Dagster's event log; the artifact has them all."""


def failed_checks(storage: Storage, manifest: Manifest) -> Metadata:
    """The checks that failed, in words; nothing if all passed."""
    said = failures(naming_files(storage, manifest)).values()
    return {"failed_checks": visible("\n".join(said))} if said else {}


def common_metadata(storage: Storage, manifest: Manifest, *, reused: bool) -> Metadata:
    """What every partition page shows: counts, what it was made from, the documents behind it."""
    folder = storage.folder(manifest.corpus, manifest.asset, manifest.version)
    used = (row for row in documents_behind(storage, manifest) if row.text_id)
    return {
        "outcome": _outcome(manifest, reused=reused),
        "made_from": dg.MetadataValue.md(_links(manifest)),
        "folder": dg.MetadataValue.path(folder),
        **{
            name: dg.MetadataValue.float(float(value))
            if isinstance(value, float)
            else dg.MetadataValue.int(value)
            for name, value in manifest.counts.items()
        },
        **{f"chosen {key}": str(value) for key, value in manifest.chosen.items()},
        **manifest.cost,
        **_took(manifest.cost),
        "documents": table(
            [
                {**told(row), "document_id": row.document_id[:12]}
                for row in islice(used, _TABLE_ROWS)
            ],
            tuple(name for name in COLUMNS if name != "text_id"),
        ),
    }


def _took(cost: Mapping[str, float]) -> Metadata:
    """What a training took, in words, beside what had been estimated."""
    if "peak_memory" not in cost:
        return {}
    said = f"{time_of(cost['seconds'])}, {memory_of(int(cost['peak_memory']))}"
    if "estimated_memory" in cost:
        expected = [memory_of(int(cost["estimated_memory"]))]
        if "estimated_seconds" in cost:
            expected.insert(0, time_of(cost["estimated_seconds"]))
        said += f" (expected: {', '.join(expected)})"
    return {"took": said}


_SAMPLED: dict[str, list[What]] = {
    "raw_documents": ["documents", "records"],
    "chunks": ["chunks"],
    "qa_pairs": ["pairs"],
    "formatted_dataset": ["train", "eval"],
}
"""What the page of an asset shows some rows of."""
_SAMPLE_ROWS = 2
_SAMPLE_CHARACTERS = (300, 150, 80, 40)
"""Characters of a part's beginning, the most that leaves the sample short enough."""
_COLUMNS = 100
"""A longer line of a block of code goes beyond the page's edge."""


def samples(storage: Storage, manifest: Manifest) -> Metadata:
    """Some rows of an artifact as people read them, those that `ft-assets show` would choose."""
    found: Metadata = {}
    for what in _SAMPLED.get(manifest.asset, ()):
        shown = show_version(storage, manifest, what, most=_SAMPLE_ROWS)
        if shown.rows:
            found[f"sample_{what}"] = dg.MetadataValue.md(_sample(shown.rows))
    return found


def _sample(rows: list[Row]) -> str:
    """The rows, or the first one, cut until the page shows them at once; else the shortest form."""
    text = ""
    for some in (rows, rows[:1]):
        for most in _SAMPLE_CHARACTERS:
            text = _fenced("\n\n".join(f"{row.heading}\n{_body(row, most)}" for row in some))
            if len(text) < SHOWN_AT_ONCE:
                return text
    return text


def _body(row: Row, most: int) -> str:
    """The text of a row, its trained parts marked, without what is too long."""
    return as_text(row.parts, most, most // 3)


def _fenced(text: str) -> str:
    """A text as a block of code, in which nothing is Markdown: no text can end its own fence."""
    lines = (_wrapped(line) for line in visible(text).split("\n"))
    block = "\n".join(lines)
    longest = max(map(len, re.findall("`+", block)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{block}\n{fence}"


def _wrapped(line: str) -> str:
    """A line in lines that fit the page; nothing of it is left out."""
    lines = wrap(
        line,
        _COLUMNS,
        expand_tabs=False,
        replace_whitespace=False,
        drop_whitespace=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


def _outcome(manifest: Manifest, *, reused: bool) -> str:
    """What became of the asset in this run."""
    if reused:
        return f"reused: unchanged since it was built at {manifest.ended}"
    return f"built: {manifest.reason}"


def _links(manifest: Manifest) -> str:
    """The inputs as links to their pages of the same corpus."""
    lines = [
        f"- [{name}](/assets/{name}?view=partitions&partition={manifest.corpus}) `{version}`"
        for name, version in manifest.inputs.items()
    ]
    return "\n".join(lines)


def _cell(value: object) -> str:
    return "" if value is None else visible(str(value))


def table(rows: Sequence[Mapping[str, object]], columns: tuple[str, ...]) -> dg.TableMetadataValue:
    """Rows as a table on the page, all values as text."""
    return dg.MetadataValue.table(
        [dg.TableRecord({name: _cell(row.get(name)) for name in columns}) for row in rows],
        schema=dg.TableSchema([dg.TableColumn(name) for name in columns]),
    )
