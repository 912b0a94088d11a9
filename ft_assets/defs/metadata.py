"""What every partition page shows of an artifact."""

from collections.abc import Mapping, Sequence
from itertools import islice

import dagster as dg

from ft_assets.engine.lineage import COLUMNS, documents_behind, told
from ft_assets.engine.storage import Storage
from ft_assets.files import visible
from ft_assets.manifest import Manifest

Metadata = dict[str, dg.MetadataValue | str | float | bool]
"""Metadata of a partition page, by its label."""

_TABLE_ROWS = 200
"""Rows of a table that go into Dagster's event log; the artifact has them all."""


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
        "documents": table(
            [
                {**told(row), "document_id": row.document_id[:12]}
                for row in islice(used, _TABLE_ROWS)
            ],
            tuple(name for name in COLUMNS if name != "text_id"),
        ),
    }


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


def table(rows: Sequence[Mapping[str, object]], columns: tuple[str, ...]) -> dg.TableMetadataValue:
    """Rows as a table on the page, all values as text."""
    return dg.MetadataValue.table(
        [
            dg.TableRecord({name: visible(str(row.get(name, ""))) for name in columns})
            for row in rows
        ],
        schema=dg.TableSchema([dg.TableColumn(name) for name in columns]),
    )
