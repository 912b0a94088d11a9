"""One step on the longest batch before the first one, so that a lack of memory shows at once."""

import copy
from typing import TYPE_CHECKING, Any

from ft_assets.stages.job import Report
from ft_assets.stages.templates.tokenization import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset

_SHARE = 0.02
"""Of all tokens to be trained: a batch with more of them comes early in the training anyway."""


def longest_batch(trainer: Any, report: Report) -> Any:
    """A callback that, at the start, takes a step on the longest rows, without an update of the weights.

    What it changes (gradients, metrics, the state of random numbers) is put back: the training that
    follows is the same, bit by bit.
    """
    from transformers import TrainerCallback

    class LongestBatch(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            rows = _longest(trainer.train_dataset, trainer.args.per_device_train_batch_size)
            if rows and _is_worth_it(trainer, rows):
                size = max(len(row["input_ids"]) for row in rows)
                report(f"trying the longest batch: {len(rows)} × {size:,} tokens")
                _step(trainer, rows)

    return LongestBatch()


def _longest(dataset: "Dataset", count: int) -> list[dict[str, Any]]:
    sizes = _sizes(dataset)
    places = sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True)[:count]
    return [dataset[place] for place in places]


def _sizes(dataset: "Dataset") -> list[int]:
    """The tokens of each row, counted without reading them into Python."""
    import pyarrow.compute as pc

    sizes: list[int] = []
    for table in dataset.with_format("arrow").iter(1_000):
        sizes += pc.list_value_length(table["input_ids"]).to_pylist()
    return sizes


def _is_worth_it(trainer: Any, rows: list[dict[str, Any]]) -> bool:
    padded = len(rows) * max(len(row["input_ids"]) for row in rows)
    return bool(
        padded <= _SHARE * sum(_sizes(trainer.train_dataset)) * trainer.args.num_train_epochs
    )


def _step(trainer: Any, rows: list[dict[str, Any]]) -> None:
    import torch

    metrics, tokens = copy.deepcopy(trainer._metrics), trainer._total_train_tokens
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    batch = trainer.data_collator(rows)
    count = (batch["labels"] != IGNORED).sum()
    try:
        with torch.random.fork_rng(devices):
            trainer.training_step(trainer.model_wrapped, batch, count)
    finally:
        trainer.model.zero_grad()
        trainer._metrics, trainer._total_train_tokens = metrics, tokens
