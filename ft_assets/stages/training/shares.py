"""How several processes share a batch, so that every step sees the rows that one process would see."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ft_assets.config import TrainingConfig
from ft_assets.errors import UserError
from ft_assets.stages.templates.tokenization import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset


def share_of(settings: TrainingConfig, processes: int) -> TrainingConfig:
    """The settings of each of so many processes, with the same rows in each update all together.

    Raises UserError if the rows of an update cannot be divided among them.
    """
    batch = settings.per_device_train_batch_size or 1
    steps = settings.gradient_accumulation_steps
    common = math.gcd(batch, processes)
    left = processes // common
    if steps % left:
        raise UserError(
            f"compute.processes {processes}: {batch * steps} rows of each update (per_device_train_batch_size "
            f"{batch} × gradient_accumulation_steps {steps}) cannot be shared equally: make "
            f"training.per_device_train_batch_size a multiple of {processes}, or compute.processes null"
        )
    return settings.model_copy(
        update={
            "per_device_train_batch_size": batch // common,
            "gradient_accumulation_steps": steps // left,
        }
    )


def shared(trainer: type) -> type:
    """The trainer class with the row order of one process, filled up with rows that train nothing.

    accelerate would fill up the last step of an epoch with rows of its beginning, which then count twice.
    """
    import torch
    from accelerate.data_loader import SeedableRandomSampler

    class Order(torch.utils.data.Sampler[int]):
        def __init__(self, rows: int, size: int, seed: int) -> None:
            self._order = SeedableRandomSampler(range(rows), data_seed=seed)
            self._rows, self._size = rows, size

        def __len__(self) -> int:
            return math.ceil(self._rows / self._size) * self._size

        def __iter__(self) -> Iterator[int]:
            yield from self._order
            yield from [self._rows] * (len(self) - self._rows)

        def set_epoch(self, epoch: int) -> None:
            self._order.set_epoch(epoch)

    class Shared(trainer):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.train_dataset: Dataset = _with_a_blank(self.train_dataset)

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            rows = len(self.train_dataset) - 1
            size = self.args.per_device_train_batch_size * self.args.world_size
            return Order(rows, size, self.args.data_seed)

    return Shared


def _with_a_blank(dataset: "Dataset") -> "Dataset":
    """The rows and one more, a copy of the first without anything to learn from."""
    from datasets import Dataset, concatenate_datasets

    blank = {**dataset[0], "labels": [IGNORED] * len(dataset[0]["labels"])}
    return concatenate_datasets([dataset, Dataset.from_list([blank], features=dataset.features)])
