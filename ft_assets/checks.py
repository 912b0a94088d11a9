"""Asset checks: mirrors in the UI of the verdicts that stand in the manifests.

The stage's body reaches the verdict before it publishes; consumers and `status` read the manifest.
A check never blocks by Dagster's own means, which end with the run: `Project.make` holds the gate.
"""

from collections.abc import Iterator

import dagster as dg

from ft_assets.freshness import Manifest
from ft_assets.partitions import corpus_partitions

CHECKS = {
    "raw_documents": ("every_file_read", "No file and no record was rejected."),
    "chunks": ("text_is_chunked", "Where there is text there are chunks."),
    "formatted_dataset": ("rows_fit_max_length", "training.max_length cuts few tokens."),
    "adapter": ("loss_fell", "The training loss ended below where it began."),
    "evaluation": ("tuned_is_not_worse", "The tuned model does no worse than its base."),
    "merged_model": ("merge_changes_nothing", "Merging leaves the logits as they were."),
    "gguf": ("answers_in_llama_cpp", "Every file loads, agrees on token ids, and answers."),
}
"""The check of each asset that has one: its name in the manifest, and what it says."""


def check_specs(asset: str) -> list[dg.AssetCheckSpec]:
    """The check of an asset as Dagster declares it."""
    if asset not in CHECKS:
        return []
    name, description = CHECKS[asset]
    return [
        dg.AssetCheckSpec(
            name, asset=asset, description=description, partitions_def=corpus_partitions
        )
    ]


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
        )
