"""From an artifact to the documents that it was made from."""

from collections.abc import Iterator
from typing import Any

from ft_assets.freshness import Manifest

COLUMNS = ("path", "document_id", "pages", "records", "train_rows", "train_tokens", "eval_rows")


def documents_behind(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """The documents behind an artifact: path, document id and what each one gave.

    `train_rows`, `train_tokens` and `eval_rows` are missing above the formatted dataset, where
    there are no rows yet.
    """
    for line in manifest.sources:
        yield {key: line[key] for key in COLUMNS if key in line}
