"""Asset checks: mirrors in the UI of the verdicts that stand in the manifests.

The stage's body reaches the verdict before it publishes; consumers and `status` read the manifest.
A check never blocks by Dagster's own means, which end with the run: `Project.make` holds the gate.
"""

from collections.abc import Iterator

import dagster as dg

from ft_assets.defs.partitions import corpus_partitions
from ft_assets.manifest import Manifest

CHECKS: dict[str, dict[str, str]] = {
    "raw_documents": {
        "every_file_read": "No file and no part of one was rejected.",
        "text_is_sound": "No document's text looks damaged.",
    },
    "chunks": {"text_is_chunked": "Where there is text there are chunks."},
    "qa_pairs": {
        "requests_add_up": "Every request is answered, refused, truncated, invalid or failed.",
        "requests_are_answered": "Every request gave pairs.",
        "pairs_are_kept": "Most of the pairs asked for are kept.",
        "reviews_apply": "Every review still has its chunk.",
    },
    "formatted_dataset": {
        "documents_are_read": "Few documents were rejected.",
        "text_is_sound": "Little text comes from documents that look damaged.",
        "few_duplicates": "Few rows are near-duplicates of another.",
        "eval_is_apart": "Few eval rows have their words in training rows.",
        "questions_are_apart": "No training row asks one of the closed-book questions.",
        "rows_fit_max_length": "training.max_length cuts few tokens.",
        "rows_end_with_stop": "Every row that is whole ends with the stop token and begins once.",
        "rows_add_up": "Every row that was made is in the dataset or among those dropped.",
    },
    "adapter": {"loss_fell": "The training loss ended below where it began."},
    "evaluation": {"tuned_is_not_worse": "The tuned model does no worse than its base."},
    "merged_model": {"merge_changes_nothing": "Merging leaves the logits as they were."},
    "gguf": {"answers_in_llama_cpp": "Every file loads, agrees on token ids, and answers."},
}
"""The checks of each asset that has any: their names in the manifest, and what each says."""


def check_specs(asset: str) -> list[dg.AssetCheckSpec]:
    """The checks of an asset as Dagster declares them."""
    return [
        dg.AssetCheckSpec(
            name, asset=asset, description=description, partitions_def=corpus_partitions
        )
        for name, description in CHECKS.get(asset, {}).items()
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
