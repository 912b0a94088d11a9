"""What makes an artifact fresh: the graph, fingerprints, manifests and the plan. No Dagster here.

fingerprint = digest(versions of the inputs, settings read, code version); version = digest of the
content. An artifact is fresh while the fingerprint computed now equals its manifest's.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Literal

from ft_assets.config import FineTuneConfig, setting
from ft_assets.stages.job import CorpusFile, Job, Outcome, Report

MANIFEST_SCHEMA = 2
CORPUS_FILES = "corpus_files"
"""The observed source that the graph begins with."""


@dataclass(frozen=True)
class Node:
    """One made asset. `code_version` is bumped by hand when its stage's work changes.

    `settings` are dotted keys, a section standing for all below it; those in `chooses` only choose
    among the artifact's rows, so that after a change of one the rows of an earlier version will do.
    Those in `means` say by what means it is made, not what it is, and are in no fingerprint.
    A heavy asset runs in a process of its own.
    """

    inputs: tuple[str, ...]
    settings: tuple[str, ...]
    code_version: str
    description: str
    heavy: bool = False
    chooses: tuple[str, ...] = ()
    means: tuple[str, ...] = ()

    def shaping(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Those of `settings` that shape the artifact's rows."""
        return {key: value for key, value in settings.items() if not key.startswith(self.chooses)}


_BASE = ("model.base", "model.revision")

GRAPH: dict[str, Node] = {
    "raw_documents": Node(
        (CORPUS_FILES,), ("data.loaders",), "3", "Text and instruction records of the corpus."
    ),
    "chunks": Node(("raw_documents",), ("langchain",), "3", "Documents cut to size."),
    "qa_pairs": Node(
        ("chunks",),
        (
            "qa.enabled",
            "qa.model",
            "qa.pairs_per_chunk",
            "qa.pairs_per_1000_tokens",
            "qa.kinds",
            "qa.audience",
            "qa.max_tokens",
            "qa.min_kept_rate",
        ),
        "4",
        "Question-answer pairs made from the chunks.",
        means=(
            "qa.base_url",
            "qa.send",
            "qa.max_concurrency",
            "qa.max_usd",
            "qa.max_usd_total",
            "qa.prices",
        ),
    ),
    "formatted_dataset": Node(
        ("raw_documents", "chunks", "qa_pairs"),
        (
            "data.template",
            "data.system_prompt",
            "data.eval_fraction",
            "data.seed",
            "data.export_formats",
            "data.near_duplicates",
            "data.eval_overlap",
            "data.gates",
            "augment",
            "training.max_length",
            *_BASE,
        ),
        "3",
        "Rows rendered by the template, split into train and eval.",
        chooses=(
            "data.eval_",
            "data.export_formats",
            "data.near_duplicates",
            "data.gates",
            "data.questions",
        ),
    ),
    "adapter": Node(
        ("formatted_dataset",), ("model", "training"), "1", "The LoRA adapter.", heavy=True
    ),
    "evaluation": Node(
        ("adapter", "formatted_dataset"),
        ("evaluation",),
        "1",
        "Base and tuned compared.",
        heavy=True,
    ),
    "merged_model": Node(
        ("adapter", "evaluation"), (), "1", "The adapter merged into its base.", heavy=True
    ),
    "gguf": Node(
        ("merged_model", "evaluation"),
        ("export",),
        "1",
        "GGUF files, a Modelfile and the model card.",
        heavy=True,
    ),
}
"""The made assets, each after its inputs."""


def run_stage(job: Job, report: Report) -> Outcome:
    """Runs the stage of the job's asset in this process."""
    build: Callable[[Job, Report], Outcome] = import_module(f"ft_assets.stages.{job.asset}").build
    return build(job, report)


def settings_read(asset: str, config: FineTuneConfig) -> dict[str, Any]:
    """The settings that an asset reads, by dotted key."""
    keys = GRAPH[asset].settings
    if asset == "chunks" and config.langchain.splitter == "token":
        keys += _BASE
    if asset == "qa_pairs" and not config.qa.enabled:
        keys = ("qa.enabled",)
    return _settings_of(config, keys)


def means_of(asset: str, config: FineTuneConfig) -> dict[str, Any]:
    """The settings by whose means an asset is made, by dotted key."""
    return _settings_of(config, GRAPH[asset].means)


def _settings_of(config: FineTuneConfig, keys: Iterable[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in keys:
        found |= setting(config, key)
    return found


def digest(value: Any) -> str:
    """The sha256 of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def files_version(files: list[CorpusFile]) -> str:
    """The version of `corpus_files`: which bytes stand under which path."""
    return digest(sorted([file.path, file.sha256, file.problem or ""] for file in files))[:20]


def settings_version(settings: Mapping[str, Any]) -> str:
    """The version of `settings/<asset>`: a digest of what the asset reads."""
    return digest(dict(settings))[:20]


def upstream(asset: str) -> list[str]:
    """The made assets that `asset` hangs on, near or far, in the order of the graph."""
    found: set[str] = set()
    waiting = list(GRAPH[asset].inputs)
    while waiting:
        name = waiting.pop()
        if name in GRAPH and name not in found:
            found.add(name)
            waiting += GRAPH[name].inputs
    return [name for name in GRAPH if name in found]


def fingerprint(asset: str, inputs: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """The fingerprint of an asset made now from these input versions and settings."""
    node = GRAPH[asset]
    return digest([asset, dict(inputs), dict(settings), node.code_version])


_READABLE = 60
"""Characters above which a setting is no value that a person wrote down."""
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


@dataclass(frozen=True)
class AssetState:
    """How an asset stands: `own` causes are changes it has not taken up, the rest are upstream's."""

    state: Literal["fresh", "stale", "missing", "blocked"]
    causes: list[str] = field(default_factory=list)
    own: bool = False
    version: str | None = None


Settings = Mapping[str, Mapping[str, Any]]


def plan(
    manifests: Mapping[str, Manifest | None],
    files: list[CorpusFile],
    settings: Settings,
    damaged: Mapping[str, str] | None = None,
) -> dict[str, AssetState]:
    """The state of each asset of one corpus, from its manifests, its files and its settings.

    `settings` maps each asset to what `settings_read` and the project found for it, `damaged` each
    asset whose manifest cannot be read to why: it counts as missing.
    """
    states: dict[str, AssetState] = {}
    versions = {CORPUS_FILES: files_version(files)}
    versions |= {name: m.version for name, m in manifests.items() if m}
    for asset in GRAPH:
        states[asset] = _state(asset, manifests, versions, files, settings[asset], states)
        if reason := (damaged or {}).get(asset):
            states[asset] = replace(states[asset], causes=[reason])
    return states


def _state(
    asset: str,
    manifests: Mapping[str, Manifest | None],
    versions: Mapping[str, str],
    files: list[CorpusFile],
    settings: Mapping[str, Any],
    states: Mapping[str, AssetState],
) -> AssetState:
    manifest = manifests[asset]
    above = [name for name in GRAPH[asset].inputs if name in GRAPH]
    causes = [] if manifest is None else own_causes(manifest, versions, files, settings)
    own = bool(causes)
    causes += [f"upstream {name}" for name in above if states[name].state != "fresh"]
    version = manifest.version if manifest else None
    if manifest and not causes:
        return AssetState("fresh", [], False, version)
    blocked = _blocks(above, manifests, states)
    if blocked:
        return AssetState("blocked", blocked, own, version)
    if manifest is None:
        return AssetState("missing", ["never made"], True, None)
    return AssetState("stale", causes, own, version)


def _blocks(
    above: list[str],
    manifests: Mapping[str, Manifest | None],
    states: Mapping[str, AssetState],
) -> list[str]:
    """Why an asset may not be made: a gate that failed in an input that is as it should be."""
    reasons = []
    for name in above:
        manifest = manifests[name]
        if states[name].state == "fresh" and manifest:
            reasons += manifest.failed_gates()
        elif states[name].state == "blocked":
            reasons.append(f"upstream {name} is blocked")
    return reasons


def own_causes(
    manifest: Manifest,
    versions: Mapping[str, str],
    files: list[CorpusFile],
    settings: Mapping[str, Any],
) -> list[str]:
    """What changed, in words, between a manifest and now."""
    causes = []
    node = GRAPH[manifest.asset]
    for name in node.inputs:
        if versions.get(name) == manifest.inputs.get(name):
            continue
        if name == CORPUS_FILES:
            causes += file_changes(manifest.sources, files)
        else:
            causes.append(f"{name} was made again")
    for key in sorted({*settings, *manifest.settings}):
        if key not in manifest.settings:
            causes.append(f"{key} is now read")
        elif key not in settings:
            causes.append(f"{key} is no longer read")
        elif manifest.settings[key] != settings[key]:
            causes.append(_change(key, manifest.settings[key], settings[key]))
    if manifest.code_version != node.code_version:
        causes.append(f"code version {manifest.code_version} → {node.code_version}")
    return causes


def _change(key: str, before: Any, now: Any) -> str:
    """A setting that changed, in words; of a file's text or digest there is nothing to be read."""
    if any(isinstance(value, str) and len(value) > _READABLE for value in (before, now)):
        return f"{key} changed"
    return f"{key} {_short(before)} → {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _READABLE else f"{text[:57]}…"


def file_changes(sources: list[dict[str, Any]], files: list[CorpusFile]) -> list[str]:
    """The differences between the files that an artifact was made from and those there now."""
    before = {line["path"]: line["document_id"] for line in sources}
    now = {file.path: file.sha256 for file in files}
    gone = {before[path]: path for path in before.keys() - now.keys()}
    changes = []
    for path in sorted(now.keys() - before.keys()):
        old = gone.pop(now[path], None)
        changes.append(f"{path} is new" if old is None else f"{old} was renamed to {path}")
    changes += [f"{path} was removed" for path in sorted(gone.values())]
    both = sorted(before.keys() & now.keys())
    changes += [f"{path} changed" for path in both if before[path] != now[path]]
    return changes or ["the files changed"]
