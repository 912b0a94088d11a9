"""What one sees while a training runs."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ft_assets.stages.job import Report
from ft_assets.stages.progress import Throttled
from ft_assets.stages.words import time_of

if TYPE_CHECKING:
    from transformers import TrainerCallback
    from trl import SFTConfig


MEASURED_STEPS = 10
"""After so many steps, the speed is known well enough to be kept."""


@dataclass(frozen=True)
class Pace:
    """What this process did of a training: its steps, their tokens with padding, and their seconds."""

    steps: int
    tokens: int
    seconds: float


KeepPace = Callable[[Pace], None]


def progress(report: Report, keep: KeepPace | None = None) -> "TrainerCallback":
    """A trainer callback that reports the loss, the speed and the remaining time, every few seconds.

    `keep` is given the pace after MEASURED_STEPS steps, and again at the end of a training that had as many.
    """
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.began: float | None = None
            self.done_before = state.global_step
            self.tokens = _TokenCount(more["model"])
            self.say = Throttled(report)
            report(
                f"resumed at step {state.global_step} of {state.max_steps}"
                if state.global_step
                else f"training: {state.max_steps} steps of {_rows_in_a_step(args)} rows"
            )

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if self.began is None:
                self.began = time.monotonic()
                self.tokens.count = 0

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if keep and self._pace(state).steps == MEASURED_STEPS:
                keep(self._pace(state))

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.tokens.stop()
            if keep and self._pace(state).steps > MEASURED_STEPS:
                keep(self._pace(state))

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            for name, said in (("loss", "loss"), ("eval_loss", "eval loss")):
                if name in (logs or {}):
                    ends = state.global_step in (self.done_before + 1, state.max_steps)
                    line = f"step {state.global_step}/{state.max_steps}  {said} {float(logs[name]):.4f}"
                    self.say(line + self._speed(state, logs), always=ends or name == "eval_loss")

        def _pace(self, state: Any) -> Pace:
            spent = 0.0 if self.began is None else time.monotonic() - self.began
            return Pace(state.global_step - self.done_before, self.tokens.count, spent)

        def _speed(self, state: Any, logs: Any) -> str:
            """How fast this process is, and what that makes of the steps that are left."""
            pace = self._pace(state)
            if "num_tokens" not in logs or not pace.steps:
                return ""
            left = pace.seconds / pace.steps * (state.max_steps - state.global_step)
            return f"  {logs['num_tokens'] / pace.seconds:.0f} tokens/s  {time_of(left)} left"

    return Progress()


def _rows_in_a_step(arguments: "SFTConfig") -> int:
    rows = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
    return int(rows * arguments.world_size)


class _TokenCount:
    """Counts the tokens, padding included, that a model is trained on."""

    def __init__(self, model: Any) -> None:
        self.count = 0
        self._hook = model.register_forward_pre_hook(self._add, with_kwargs=True)

    def stop(self) -> None:
        """Ends the count."""
        self._hook.remove()

    def _add(self, model: Any, _: Any, given: dict[str, Any]) -> None:
        if model.training and "input_ids" in given:
            self.count += given["input_ids"].numel()
