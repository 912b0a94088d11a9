"""Checks as people read them: what failed, and the paths of documents in place of their ids.

The dataset's checks name documents by id, since a renamed file makes no new dataset. Where a verdict is
shown, each id becomes the path that the document has now.
"""

import re
from dataclasses import replace

from ft_assets.engine.storage import DamagedError, Storage
from ft_assets.manifest import Manifest, Verdict
from ft_assets.tables import values

_ID = re.compile(r"\b[0-9a-f]{12}\b")
"""The beginning of an id, as verdicts show it."""
_RAW = "raw_documents"


def failures(manifest: Manifest) -> dict[str, str]:
    """What is said of each check that failed, by its name."""
    kinds = {True: "check failed, which blocks what follows", False: "warning"}
    return {
        name: f"{kinds[verdict['blocking']]}: {name}: {verdict['message']}"
        for name, verdict in manifest.checks.items()
        if not verdict["passed"]
    }


def naming_files(storage: Storage, manifest: Manifest) -> Manifest:
    """The manifest with paths in what its checks say; as it is if the documents cannot be read."""
    if _RAW not in manifest.inputs or not _names_any(manifest):
        return manifest
    try:
        paths = _paths(storage, manifest)
    except DamagedError:
        return manifest
    checks = {name: _named(verdict, paths) for name, verdict in manifest.checks.items()}
    return replace(manifest, checks=checks)


def _named(verdict: Verdict, paths: dict[str, str]) -> Verdict:
    message = _ID.sub(lambda found: paths.get(found[0], found[0]), verdict["message"])
    return {**verdict, "message": message}


def _names_any(manifest: Manifest) -> bool:
    return any(_ID.search(verdict["message"]) for verdict in manifest.checks.values())


def _paths(storage: Storage, manifest: Manifest) -> dict[str, str]:
    """The path of each document, by the beginnings of its id and of its text's."""
    raw = storage.manifest(manifest.corpus, _RAW, manifest.inputs[_RAW])
    table = storage.sources_table(raw, ["path", "document_id", "text_id"])
    paths, *ids = (values(table, name) for name in ("path", "document_id", "text_id"))
    return {
        each[:12]: path
        for column in ids
        for path, each in zip(reversed(paths), reversed(column), strict=True)
        if each
    }
