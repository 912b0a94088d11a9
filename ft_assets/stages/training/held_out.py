"""The loss on held-out rows while a training runs: for its curve, to stop early, and to keep the best adapter."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_assets.config import TrainingConfig
from ft_assets.errors import UserError
from ft_assets.stages.job import Report
from ft_assets.stages.models.loss import Row, mean_loss
from ft_assets.stages.training.trained import trained_weights

if TYPE_CHECKING:
    import torch

_ROWS = 16
"""At most so many rows, unless `eval_strategy` is set: they make a curve, not a verdict (`evaluation` takes
all of them)."""
_TIMES = 4
"""How often it is taken after the start. With `_ROWS` it adds about 6% to the demo's training."""
_BEST = "best.safetensors"


def held_out_rows(rows: Iterable[Row], settings: TrainingConfig) -> list[Row]:
    """The rows whose loss is taken: all with `eval_strategy`, a few without it.

    Raises UserError if it is set and no row is held out.
    """
    if settings.eval_strategy is None:
        return spread(rows)
    if found := [row for row in rows if _teaches(row)]:
        return found
    raise UserError(
        "training.eval_strategy: no row is held out whose loss could be taken: raise data.eval_fraction, or "
        "set training.eval_strategy to null"
    )


def _teaches(row: Row) -> bool:
    return max(row["labels"][1:], default=-1) >= 0


def spread(rows: Iterable[Row], most: int = _ROWS) -> list[Row]:
    """At most `most` rows that can be learned from, evenly spread over all of them.

    Holds no more than twice as many at once.
    """
    kept: list[Row] = []
    step = 1
    for number, row in enumerate(filter(_teaches, rows)):
        if number % step == 0:
            kept.append(row)
        if len(kept) > most:
            kept, step = kept[::2], 2 * step
    return kept


def best_evaluation(history: Iterable[dict[str, float]]) -> dict[str, float] | None:
    """The entry of a loss history with the lowest held-out loss after a step; the first of equal ones."""
    taken = (entry for entry in history if "eval_loss" in entry and entry["step"])
    return min(taken, key=lambda entry: entry["eval_loss"], default=None)


class Best:
    """The trained weights at the lowest held-out loss so far, at first those in a checkpoint, if any."""

    def __init__(self, checkpoint: Path | None) -> None:
        from safetensors.torch import load_file

        path = checkpoint / _BEST if checkpoint else None
        self.weights: dict[str, torch.Tensor] = load_file(path) if path and path.exists() else {}

    def keep(self, model: Any) -> None:
        """Copies the weights of the model into the machine's memory."""
        self.weights = {
            name: each.detach().to("cpu", copy=True) for name, each in trained_weights(model)
        }

    def put_back(self, model: Any) -> None:
        """Gives the model these weights, if there are any."""
        for name, each in trained_weights(model) if self.weights else ():
            each.data.copy_(self.weights[name])

    def write(self, folder: Path) -> None:
        """Writes them into a checkpoint, if there are any."""
        from safetensors.torch import save_file

        if self.weights:
            save_file(
                {name: each.contiguous() for name, each in self.weights.items()}, folder / _BEST
            )


def held_out_loss(rows: list[Row], settings: TrainingConfig, best: Best, report: Report) -> Any:
    """A trainer callback that adds the loss on `rows` to the trainer's log: at the start, then as often as
    the settings say, and after the last step.

    It ends the training as `early_stopping_patience` says and has `best` keep the weights that
    `load_best_model_at_end` asks for. It draws no random number, so the training is the same without it.
    """
    from transformers import TrainerCallback

    class HeldOutLoss(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if state.global_step == 0:
                self._add(state, more["model"])

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if not _is_due(state, settings):
                return
            self._add(state, more["model"])
            lowest = best_evaluation(state.log_history)
            if lowest is None:
                return
            if lowest["step"] == state.global_step and settings.load_best_model_at_end:
                best.keep(more["model"])
            since = _evaluations_after(state.log_history, lowest["step"])
            if settings.early_stopping_patience and since >= settings.early_stopping_patience:
                if state.global_step < state.max_steps:
                    report(_stopped(state, lowest, since))
                control.should_training_stop = True

        def _add(self, state: Any, model: Any) -> None:
            model.eval()
            loss = mean_loss(model, rows)
            model.train()
            if math.isfinite(loss):  # JSON has no other numbers
                found = {"step": state.global_step, "epoch": state.epoch or 0.0, "eval_loss": loss}
                state.log_history.append(found)
            report(f"step {state.global_step}/{state.max_steps}  held-out loss {loss:.4f}")

    return HeldOutLoss()


def _is_due(state: Any, settings: TrainingConfig) -> bool:
    step = state.global_step
    if step >= state.max_steps:
        return True
    if settings.eval_strategy == "steps":
        return bool(step % settings.eval_steps == 0)
    if settings.eval_strategy == "epoch":
        return bool(state.epoch == int(state.epoch))  # a whole number after its last step
    return bool(step * _TIMES // state.max_steps > (step - 1) * _TIMES // state.max_steps)


def _evaluations_after(log: list[dict[str, float]], step: float) -> int:
    """The log is part of a checkpoint, so a resumed training counts as one that was not interrupted."""
    return sum("eval_loss" in entry and entry["step"] > step for entry in log)


def _stopped(state: Any, lowest: dict[str, float], since: int) -> str:
    return (
        f"stopped early after step {state.global_step} of {state.max_steps}: the held-out loss was lowest "
        f"after step {lowest['step']:.0f} ({lowest['eval_loss']:.4f}), {since} evaluations ago"
    )
