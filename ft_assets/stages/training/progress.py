"""What one sees while a training runs."""

import time
from typing import TYPE_CHECKING, Any

from ft_assets.stages.job import Report
from ft_assets.stages.progress import Throttled
from ft_assets.stages.words import time_of

if TYPE_CHECKING:
    from transformers import TrainerCallback
    from trl import SFTConfig


def progress(report: Report) -> "TrainerCallback":
    """A trainer callback that reports the loss, the speed and the remaining time, every few seconds."""
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began = time.monotonic()
            self.done_before = state.global_step
            self.say = Throttled(report)
            report(
                f"resumed at step {state.global_step} of {state.max_steps}"
                if state.global_step
                else f"training: {state.max_steps} steps of {_rows_in_a_step(args)} rows"
            )

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            for name, said in (("loss", "loss"), ("eval_loss", "eval loss")):
                if name in (logs or {}):
                    ends = state.global_step in (self.done_before + 1, state.max_steps)
                    line = f"step {state.global_step}/{state.max_steps}  {said} {float(logs[name]):.4f}"
                    self.say(line + self._speed(state, logs), always=ends or name == "eval_loss")

        def _speed(self, state: Any, logs: Any) -> str:
            """How fast this process is, and what that makes of the steps that are left."""
            done = state.global_step - self.done_before
            if "num_tokens" not in logs or not done:
                return ""
            spent = time.monotonic() - self.began
            left = spent / done * (state.max_steps - state.global_step)
            return f"  {logs['num_tokens'] / spent:.0f} tokens/s  {time_of(left)} left"

    return Progress()


def _rows_in_a_step(arguments: "SFTConfig") -> int:
    rows = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
    return int(rows * arguments.world_size)
