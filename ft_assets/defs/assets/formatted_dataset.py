"""`formatted_dataset`: rows rendered by the template; pictures of their tokens, and what was left out."""

from collections import Counter
from pathlib import Path

import dagster as dg

from ft_assets.config import FineTuneConfig
from ft_assets.defs.materialize import corpus_asset, materialize
from ft_assets.defs.metadata import Metadata, table
from ft_assets.defs.pictures import histogram
from ft_assets.engine.estimates import estimate_of
from ft_assets.engine.project import Project
from ft_assets.manifest import MANIFEST, Manifest
from ft_assets.tables import read_batches, values


@corpus_asset("formatted_dataset")
def formatted_dataset(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> dg.MaterializeResult:
    def pictures(folder: Path) -> Metadata:
        return {**tokens(folder), **training(project.config(context.partition_key), folder)}

    return materialize(context, project, pictures=pictures)


def training(config: FineTuneConfig, folder: Path) -> Metadata:
    """What training on the dataset would take on this machine, if that can be told."""
    manifest = Manifest.from_json((folder / MANIFEST).read_text(encoding="utf-8"))
    estimate = estimate_of(config, manifest)
    if estimate is None:
        return {}
    return {"training": ". ".join(filter(None, [str(estimate), estimate.warning]))}


def tokens(folder: Path) -> Metadata:
    """How long the rows of each split are, the share of each that is trained on, and what is not
    there, by reason."""
    lengths: dict[str, list[float]] = {"train": [], "eval": []}
    shares: dict[str, list[float]] = {"train": [], "eval": []}
    for split, found in lengths.items():
        for rows in read_batches(folder / f"{split}.parquet", ["tokens", "trained_tokens"]):
            counts, trained = values(rows, "tokens"), values(rows, "trained_tokens")
            found += counts
            shares[split] += [100 * of / count for of, count in zip(trained, counts, strict=True)]
    reasons: Counter[str] = Counter()
    for rows in read_batches(folder / "dropped.parquet", ["reason"]):
        reasons.update(values(rows, "reason"))
    return {
        "lengths": histogram("lengths", "tokens", lengths),
        "trained_share": histogram("trained share", "% of a row's tokens trained on", shares),
        "dropped": table(
            [{"reason": reason, "rows": count} for reason, count in reasons.most_common()],
            ("reason", "rows"),
        ),
    }
