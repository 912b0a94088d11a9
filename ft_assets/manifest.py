"""The manifest of an artifact: what stands in its `manifest.json`."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

MANIFEST_SCHEMA = 2


def digest(value: Any) -> str:
    """The sha256 of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


_SEAL = ',\n "digest": "'


def _seal(body: str) -> str:
    return f'{_SEAL}{hashlib.sha256(body.encode()).hexdigest()}"\n}}\n'


@dataclass(frozen=True)
class Manifest:
    """What stands in an artifact's `manifest.json`; see the architecture page for each field."""

    asset: str
    corpus: str
    fingerprint: str
    version: str
    inputs: dict[str, str]
    settings: dict[str, Any]
    code_version: str
    files: dict[str, dict[str, Any]]
    sources: list[dict[str, Any]]
    counts: dict[str, int | float]
    checks: dict[str, dict[str, Any]]
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
        """Reads what `to_json` wrote; raises ValueError or TypeError for anything else."""
        body, mark, _ = text.rpartition(_SEAL)
        if not mark or text != body + _seal(body):
            raise ValueError("its content does not have the digest that it names")
        return cls(**json.loads(body + "}"))

    def failed_gates(self) -> list[str]:
        """What each failed blocking check says: reasons not to build on this artifact."""
        return [
            f"{self.asset}: check {name} failed: {verdict['message']}"
            for name, verdict in self.checks.items()
            if verdict["blocking"] and not verdict["passed"]
        ]
