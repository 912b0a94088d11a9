"""What training a corpus would take on this machine. Nothing here imports torch or asks a network.

The rows are those of the dataset that the next training takes. `validate` estimates them from the files
(`glance.py`) while there is none.
"""

import os
from contextlib import suppress
from pathlib import Path

from ft_assets.children import here
from ft_assets.config import FineTuneConfig
from ft_assets.engine.freshness import AssetState
from ft_assets.engine.project import Project
from ft_assets.errors import UserError
from ft_assets.manifest import Manifest
from ft_assets.stages.models.base_model import find_base_model, is_hub_id, model_on_disk
from ft_assets.stages.training.chooser import choose
from ft_assets.stages.training.estimate import Estimate, Rows, estimated
from ft_assets.stages.training.expected import kind_of
from ft_assets.stages.training.shape import shape_of


def estimate_of_rows(config: FineTuneConfig, rows: Rows) -> Estimate | None:
    """What training on such rows takes; None if the base model's small files are not on this disk."""
    folder = config_on_disk(config)
    shape = shape_of(folder) if folder else None
    if shape is None:
        return None
    settings = choose(config.training, config.model.lora, rows.data, shape.parameters)
    kind = kind_of(shape, config.model, settings.training)
    return estimated(kind, settings.lora, settings.training, rows)


def estimate_of(config: FineTuneConfig, dataset: Manifest) -> Estimate | None:
    """What training on a dataset takes; None if that cannot be told."""
    rows = Rows.counted(dataset.counts)
    return estimate_of_rows(config, rows) if rows else None


def next_training(project: Project, corpus: str, states: dict[str, AssetState]) -> Estimate | None:
    """What the training takes that a refresh would start, from manifests alone.

    None if the adapter is fresh, or if there is no dataset yet. If the dataset is stale, its rows now are
    taken for those that it will have.
    """
    dataset = states["formatted_dataset"]
    if states["adapter"].state == "fresh" or dataset.version is None:
        return None
    manifest = project.storage.manifest(corpus, "formatted_dataset", dataset.version)
    rows = Rows.counted(manifest.counts)
    if rows is None:
        return None
    return estimate_of_rows(project.config(corpus), rows.as_known(exactly=dataset.state == "fresh"))


def training_ahead(project: Project, corpus: str, rows: Rows) -> Estimate | None:
    """What training takes on the dataset if it is fresh, else on about `rows`."""
    config = project.config(corpus)
    dataset = project.status(corpus)["formatted_dataset"]
    if dataset.state == "fresh" and dataset.version:
        manifest = project.storage.manifest(corpus, "formatted_dataset", dataset.version)
        return estimate_of(config, manifest)
    return estimate_of_rows(config, rows)


def config_on_disk(config: FineTuneConfig) -> Path | None:
    """The folder with the base model's config.json, if it is on this disk."""
    base, revision = config.model.base, config.model.revision
    with suppress(UserError):
        find_base_model(base)
        return _hub_folder(base, revision) if is_hub_id(base) else model_on_disk(base, revision)
    return None


def _hub_folder(base: str, revision: str | None) -> Path | None:
    """A snapshot in the Hugging Face cache, found without its library, which takes long to import."""
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    cache = here() / (os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")
    model = cache / f"models--{base.replace('/', '--')}"
    named = revision or "main"
    with suppress(OSError):
        named = (model / "refs" / named).read_text().strip()
    folder = model / "snapshots" / named
    return folder if (folder / "config.json").is_file() else None
