"""The loss on held-out rows while a training runs, for the loss curve."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ft_assets.stages.job import Report
from ft_assets.stages.models.loss import Row, mean_loss

if TYPE_CHECKING:
    from transformers import TrainerCallback

_ROWS = 16
"""At most so many rows: they make a curve, not a verdict (`evaluation` takes all of them)."""
_TIMES = 4
"""How often it is taken after the start. With `_ROWS` it adds about 6% to the demo's training."""


def spread(rows: Iterable[Row], most: int = _ROWS) -> list[Row]:
    """At most `most` rows that can be learned from, evenly spread over all of them.

    Holds no more than twice as many at once.
    """
    kept: list[Row] = []
    step = 1
    for number, row in enumerate(row for row in rows if max(row["labels"][1:], default=-1) >= 0):
        if number % step == 0:
            kept.append(row)
        if len(kept) > most:
            kept, step = kept[::2], 2 * step
    return kept


def held_out_loss(rows: list[Row], report: Report) -> "TrainerCallback":
    """A callback that adds the loss on `rows` to the trainer's log, at the start and then `_TIMES` times.

    It draws no random number, so the training is the same without it.
    """
    from transformers import TrainerCallback

    class HeldOutLoss(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if state.global_step == 0:
                self._add(state, more["model"])

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            last = (state.global_step - 1) * _TIMES // state.max_steps
            if state.global_step * _TIMES // state.max_steps > last:
                self._add(state, more["model"])

        def _add(self, state: Any, model: Any) -> None:
            model.eval()
            loss = mean_loss(model, rows)
            model.train()
            if math.isfinite(loss):  # JSON has no other numbers
                found = {"step": state.global_step, "epoch": state.epoch or 0.0, "eval_loss": loss}
                state.log_history.append(found)
            report(f"step {state.global_step}/{state.max_steps}  held-out loss {loss:.4f}")

    return HeldOutLoss()
