"""Asset checks: mirrors in the UI of the verdicts in the manifests.

The stage's body reaches the verdict before it publishes; consumers and `status` read the manifest.
A check never blocks by Dagster's own means, which end with the run: `Project.make` holds the gate.
"""

import math
from collections.abc import Iterator
from importlib import import_module

import dagster as dg

from ft_assets.defs.partitions import corpus_partitions
from ft_assets.engine.graph import GRAPH
from ft_assets.manifest import Manifest, Verdict
from ft_assets.stages.job import Check


def checks_of(asset: str) -> tuple[Check, ...]:
    """The checks that an asset's stage declares."""
    found: tuple[Check, ...] = import_module(f"ft_assets.stages.{asset}").CHECKS
    return found


def check_specs(asset: str) -> list[dg.AssetCheckSpec]:
    """The checks of an asset as Dagster declares them."""
    return [
        dg.AssetCheckSpec(
            check.name,
            asset=asset,
            description=f"{check.says} {_force(asset, check)}",
            partitions_def=corpus_partitions,
        )
        for check in checks_of(asset)
    ]


def _force(asset: str, check: Check) -> str:
    """Whether a failed check blocks what comes after: Dagster's page calls every one non-blocking."""
    after = [name for name, node in GRAPH.items() if asset in node.inputs]
    if not after:
        return "Nothing is built from this asset."
    if check.blocks_if:
        return f"A warning; it blocks {', '.join(after)} if {check.blocks_if}."
    if check.blocking:
        return f"If it fails, it blocks {', '.join(after)}."
    return "A warning: it blocks nothing."


def check_results(manifest: Manifest) -> Iterator[dg.AssetCheckResult]:
    """The verdicts in a manifest as Dagster records them."""
    for name, verdict in manifest.checks.items():
        severity = (
            dg.AssetCheckSeverity.ERROR if verdict["blocking"] else dg.AssetCheckSeverity.WARN
        )
        yield dg.AssetCheckResult(
            passed=verdict["passed"],
            check_name=name,
            severity=severity,
            description=verdict["message"],
            metadata=_numbers(manifest, verdict),
        )


def _numbers(manifest: Manifest, verdict: Verdict) -> dict[str, float]:
    """What Dagster plots of a check over time: its own numbers, or else the artifact's counts."""
    found = verdict.get("numbers") or manifest.counts
    return {name: float(number) for name, number in found.items() if math.isfinite(number)}
