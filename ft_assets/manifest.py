"""The manifest of an artifact: the content of its `manifest.json`."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

MANIFEST_SCHEMA = 3
"""Counts changes of what a manifest holds; one of another schema counts as never built."""

MANIFEST = "manifest.json"
SOURCES = "sources.parquet"
"""The documents behind an artifact, beside its manifest: rows of `records.SourceDocument`."""


SettingValue = str | int | float | bool | list[str] | None
Settings = dict[str, SettingValue]
"""Settings by their dotted keys, such as `training.learning_rate`."""


PENDING_SOURCES = ".sources-"


class OldSchemaError(ValueError):
    """A manifest was written by an earlier version of this project."""


class FileDigest(TypedDict):
    """What a manifest says of a file: the sha256 of its bytes, and how many there are."""

    sha256: str
    bytes: int


class Verdict(TypedDict):
    """What a check came to; a blocking one that failed stops what would be made from the artifact."""

    passed: bool
    blocking: bool
    message: str


def digest(value: Any) -> str:
    """The sha256 of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


_SEAL = ',\n "digest": "'


def _seal(body: str) -> str:
    return f'{_SEAL}{hashlib.sha256(body.encode()).hexdigest()}"\n}}\n'


@dataclass(frozen=True)
class Manifest:
    """The content of an artifact's `manifest.json`; see the architecture page for each field.

    It stays small whatever the corpus: the documents behind the artifact are in SOURCES beside it,
    outside the content that `version` is the digest of, since they have paths. `sources` says which
    file that is.
    """

    asset: str
    corpus: str
    fingerprint: str
    version: str
    inputs: dict[str, str]
    settings: Settings
    code_version: str
    files: dict[str, FileDigest]
    sources: FileDigest
    counts: dict[str, int | float]
    checks: dict[str, Verdict]
    cost: dict[str, float]
    forced: bool
    reason: str
    run_id: str
    started: str
    ended: str
    tools: dict[str, str]
    schema: int = MANIFEST_SCHEMA

    def to_json(self) -> str:
        """The manifest as it is written; the digest at its end covers every byte before it."""
        lines = (f' "{k}": {json.dumps(v, ensure_ascii=False)}' for k, v in vars(self).items())
        body = "{\n" + ",\n".join(lines)
        return body + _seal(body)

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Reads what `to_json` wrote.

        Raises OldSchemaError for the manifest of an earlier version, and ValueError or TypeError for
        anything else.
        """
        body, mark, _ = text.rpartition(_SEAL)
        if not mark or text != body + _seal(body):
            raise ValueError("its content does not have the digest that it names")
        content = json.loads(body + "}")
        if content["schema"] != MANIFEST_SCHEMA:
            raise OldSchemaError(f"schema {content['schema']} instead of {MANIFEST_SCHEMA}")
        return cls(**content)

    def failed_gates(self) -> list[str]:
        """What each failed blocking check says: reasons not to build on this artifact."""
        return [
            f"{self.asset}: check {name} failed: {verdict['message']}"
            for name, verdict in self.checks.items()
            if verdict["blocking"] and not verdict["passed"]
        ]


def pending_sources(manifest: Manifest) -> str:
    """What the file of documents is called between two steps of a publication: see `sources_path`."""
    return f"{PENDING_SOURCES}{manifest.sources['sha256'][:20]}.parquet"


def sources_path(folder: Path, manifest: Manifest) -> Path:
    """The documents behind the artifact in `folder`.

    Where content that is there already is published again with other documents, they are put beside
    SOURCES under a name of their own, then the manifest is replaced, then they take their place. So a
    process that dies in between leaves a manifest whose documents are there.
    """
    pending = folder / pending_sources(manifest)
    return pending if pending.exists() else folder / SOURCES
