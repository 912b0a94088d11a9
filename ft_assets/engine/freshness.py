"""What makes an artifact fresh: the graph, fingerprints, manifests and the plan. No Dagster here.

fingerprint = digest(versions of the inputs, settings read, code version); version = digest of the
content. An artifact is fresh while the fingerprint computed now equals its manifest's.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from ft_assets.engine.asset_settings import BASE, MODEL_IDENTITY, not_null
from ft_assets.engine.data_folder import files_version
from ft_assets.engine.graph import CORPUS_FILES, GRAPH
from ft_assets.manifest import Manifest, SettingValue, digest
from ft_assets.stages.job import CorpusFile


def fingerprint(asset: str, inputs: Mapping[str, str], settings: Mapping[str, SettingValue]) -> str:
    """The fingerprint of an asset made now from these input versions and settings, but for nulls."""
    node = GRAPH[asset]
    return digest([asset, dict(inputs), not_null(settings), node.code_version])


_READABLE = 60
"""A setting longer than this is not a value that a person wrote down."""


@dataclass(frozen=True)
class AssetState:
    """The state of an asset: `own` says that some causes are changes of its own, not only upstream's."""

    state: Literal["fresh", "stale", "missing", "blocked"]
    causes: list[str] = field(default_factory=list)
    own: bool = False
    version: str | None = None


PathsOf = Callable[[Manifest], Mapping[str, str] | None]
"""Gives the document id of each path that an artifact was made from; None if they cannot be read."""


def plan(
    manifests: Mapping[str, Manifest | None],
    files: list[CorpusFile],
    settings: Mapping[str, Mapping[str, SettingValue]],
    paths_of: PathsOf,
    unusable: Mapping[str, str] | None = None,
) -> dict[str, AssetState]:
    """The state of each asset of one corpus, from its manifests, its files and its settings.

    `settings` maps each asset to its `settings_read`, `unusable` each asset whose manifest cannot be
    used to why: it counts as missing.
    """
    states: dict[str, AssetState] = {}
    versions = {CORPUS_FILES: files_version(files)}
    versions |= {name: m.version for name, m in manifests.items() if m}
    for asset in GRAPH:
        manifest = manifests[asset]
        own = []
        if manifest:
            own = own_causes(manifest, versions, files, settings[asset], paths_of)
        states[asset] = _state(asset, manifests, own, states)
        if reason := (unusable or {}).get(asset):
            states[asset] = replace(states[asset], causes=[reason])
    first = states["raw_documents"]
    if not files and first.causes == [_NEVER]:
        states["raw_documents"] = replace(first, causes=["no documents yet"])
    return states


_NEVER = "never built"


def _state(
    asset: str,
    manifests: Mapping[str, Manifest | None],
    own_causes: list[str],
    states: Mapping[str, AssetState],
) -> AssetState:
    manifest = manifests[asset]
    above = [name for name in GRAPH[asset].inputs if name in GRAPH]
    own = bool(own_causes)
    changed = [name for name in above if states[name].state != "fresh"]
    inputs = "inputs" if len(changed) > 1 else "input"
    causes = own_causes + ([f"{inputs} changed: {', '.join(changed)}"] if changed else [])
    version = manifest.version if manifest else None
    if manifest and not causes:
        return AssetState("fresh", [], False, version)
    blocked = _blocks(above, manifests, states)
    if blocked:
        return AssetState("blocked", blocked, own, version)
    if manifest is None:
        return AssetState("missing", [_NEVER], True, None)
    return AssetState("stale", causes, own, version)


def _blocks(
    above: list[str],
    manifests: Mapping[str, Manifest | None],
    states: Mapping[str, AssetState],
) -> list[str]:
    """Why an asset may not be made: a gate that failed in an input that is as it should be.

    What an input is blocked by is said there, and here only which asset that is.
    """
    blocked = [name for name in above if states[name].state == "blocked"]
    said = {name for asset in blocked for name in GRAPH[asset].inputs}
    gates = [
        gate
        for name in above
        if states[name].state == "fresh" and name not in said and (manifest := manifests[name])
        for gate in manifest.failed_gates()
    ]
    if not blocked:
        return gates
    [first, *_] = states[blocked[0]].causes
    return [first if first.startswith(_WITH) else f"{_WITH}{blocked[0]}", *gates]


_WITH = "blocked with "


def own_causes(
    manifest: Manifest,
    versions: Mapping[str, str],
    files: list[CorpusFile],
    settings: Mapping[str, SettingValue],
    paths_of: PathsOf,
) -> list[str]:
    """What changed, in words, between a manifest and now."""
    causes = []
    node = GRAPH[manifest.asset]
    for name in node.inputs:
        if versions.get(name) == manifest.inputs.get(name):
            continue
        if name == CORPUS_FILES:
            causes += file_changes(paths_of(manifest), files)
        else:
            causes.append(f"{name} was rebuilt")
    before, now = not_null(manifest.settings), not_null(settings)
    for key in sorted({*before, *now}):
        if key == MODEL_IDENTITY and any(before.get(name) != now.get(name) for name in BASE):
            continue  # another base model has other files
        if key not in manifest.settings:
            causes.append(f"{key} is now read")
        elif key not in settings:
            causes.append(f"{key} is no longer read")
        elif before.get(key) != now.get(key):
            causes.append(_change(key, before.get(key), now.get(key)))
    if manifest.code_version != node.code_version:
        causes.append(f"code version {manifest.code_version} → {node.code_version}")
    return causes


def _change(key: str, before: SettingValue, now: SettingValue) -> str:
    """A setting that changed, in words; of a file's text or digest there is nothing to be read."""
    if key == MODEL_IDENTITY:
        return "the base model's files changed"
    if any(isinstance(value, str) and len(value) > _READABLE for value in (before, now)):
        return f"{key} changed"
    return f"{key} {_short(before)} → {_short(now)}"


def _short(value: SettingValue) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _READABLE else f"{text[:57]}…"


def file_changes(before: Mapping[str, str] | None, files: list[CorpusFile]) -> list[str]:
    """The differences between the files that an artifact was made from and those there now.

    `before` maps their paths to their document ids; None if they are not known.
    """
    if before is None:
        return ["the files changed"]
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
