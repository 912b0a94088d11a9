"""The manifest of an artifact: the content of its `manifest.json`."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

MANIFEST_SCHEMA = 3
"""Incremented when the fields change; an artifact with another schema counts as never built."""

MANIFEST = "manifest.json"
SOURCES = "sources.parquet"
"""The documents behind an artifact, beside its manifest: rows of `records.SourceDocument`."""


SettingValue = str | int | float | bool | list[str] | None
Settings = dict[str, SettingValue]
"""Settings by their dotted keys, such as `training.learning_rate`."""


PENDING_SOURCES = ".sources-"


class OldSchemaError(ValueError):
    """A manifest was written by another version of this project."""


class FileDigest(TypedDict):
    """The sha256 and the size of a file, in bytes."""

    sha256: str
    bytes: int


class Verdict(TypedDict):
    """The result of a check. If a blocking check failed, nothing is built on the artifact.

    `numbers` are those that it was reached by, if they are not among the artifact's counts.
    """

    passed: bool
    blocking: bool
    message: str
    numbers: NotRequired[dict[str, float]]


def digest(value: Any) -> str:
    """The sha256 of a JSON value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


_SEAL = ',\n "digest": "'


def _seal(body: str) -> str:
    return f'{_SEAL}{hashlib.sha256(body.encode()).hexdigest()}"\n}}\n'


@dataclass(frozen=True)
class Manifest:
    """The content of an artifact's `manifest.json`; see the architecture page for each field.

    It stays small for any corpus: the documents behind the artifact are in SOURCES next to it. `version`,
    the digest of the content, does not cover them, because they contain paths. `sources` is the digest
    of that file. `chosen` are the values that were chosen for settings that are null.
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
    chosen: Settings = field(default_factory=dict)
    schema: int = MANIFEST_SCHEMA

    def to_json(self) -> str:
        """The manifest as text; the digest at its end covers every byte before it."""
        lines = (f' "{k}": {json.dumps(v, ensure_ascii=False)}' for k, v in vars(self).items())
        body = "{\n" + ",\n".join(lines)
        return body + _seal(body)

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Reads what `to_json` wrote.

        Raises OldSchemaError for the manifest of another version of the project, and ValueError or
        TypeError for any other text.
        """
        body, mark, _ = text.rpartition(_SEAL)
        if not mark or text != body + _seal(body):
            raise ValueError("its content does not match its digest")
        content = json.loads(body + "}")
        if content["schema"] != MANIFEST_SCHEMA:
            raise OldSchemaError(f"schema {content['schema']} instead of {MANIFEST_SCHEMA}")
        return cls(**content)

    def failed_gates(self) -> list[str]:
        """The messages of failed blocking checks: reasons not to build on this artifact."""
        return [
            f"{self.asset}: check {name} failed: {verdict['message']}"
            for name, verdict in self.checks.items()
            if verdict["blocking"] and not verdict["passed"]
        ]


def pending_sources(manifest: Manifest) -> str:
    """The name of the file of documents during a publication: see `sources_path`."""
    return f"{PENDING_SOURCES}{manifest.sources['sha256'][:20]}.parquet"


def sources_path(folder: Path, manifest: Manifest) -> Path:
    """The documents behind the artifact in `folder`.

    If the same content is published again with other documents, these are first written next to
    SOURCES under a name of their own, then the manifest is replaced, then they replace SOURCES. So if
    the process dies in between, the manifest's documents exist.
    """
    pending = folder / pending_sources(manifest)
    return pending if pending.exists() else folder / SOURCES
