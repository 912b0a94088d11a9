"""A trainer that can be stopped at any time and resumes exactly where it was."""

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_assets.stages.job import Report
from ft_assets.stages.training.checkpoints import Checkpoints
from ft_assets.stages.training.trained import trained_weights

if TYPE_CHECKING:
    import torch

_WEIGHTS = "trained.safetensors"
_GRACE_SECONDS = 40.0
"""How long an interrupted training may take to end its step; the run waits a little longer for it."""
_SAME_SECONDS = 4.0
"""Ctrl-C reaches the worker from the terminal, and once more from the process that waits for it."""


class Interruption:
    """Inside this block Ctrl-C is only noted in `asked`, so that the step can be ended and saved.

    A second one, or a step that does not end, raises KeyboardInterrupt as usual. Elsewhere than in the
    main thread nothing is changed.
    """

    def __init__(self, report: Report) -> None:
        self.asked = False
        self._report = report
        self._since = 0.0

    def __enter__(self) -> "Interruption":
        self._here = threading.current_thread() is threading.main_thread()
        if self._here:
            self._before = signal.signal(signal.SIGINT, self._ask)
            self._alarm_before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        return self

    def __exit__(self, *_: object) -> None:
        if self._here:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGINT, self._before)
            signal.signal(signal.SIGALRM, self._alarm_before)

    def step_ended(self) -> None:
        """The step in hand is done: what follows may take its time."""
        if self._here:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _ask(self, *_: object) -> None:
        now = time.monotonic()
        if self.asked and now - self._since > _SAME_SECONDS:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked, self._since = True, now
            signal.setitimer(signal.ITIMER_REAL, _GRACE_SECONDS)
            # In a thread: this may have come in the middle of a report.
            line = "interrupted: ending the step and saving it; Ctrl-C again stops at once"
            threading.Thread(target=self._report, args=[line]).start()


def resumable(trainer: type, checkpoints: Checkpoints, also: Callable[[Path], None]) -> type:
    """The trainer class with checkpoints of its trained weights, optimizer, schedule and random numbers.

    `also` writes into a checkpoint what else it must hold.

    The weights are read and written as they are, in their own precision: PEFT's `load_adapter` casts
    them. transformers reads the rest with `weights_only`, which executes no code of a pickle.
    """
    from safetensors.torch import load_file, save_file
    from transformers.trainer import TRAINER_STATE_NAME

    class Resumable(trainer):  # type: ignore[misc]
        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            def write(folder: Path) -> None:
                save_file(weights, folder / _WEIGHTS)
                self._save_optimizer_and_scheduler(str(folder))
                self._save_scaler(str(folder))
                self._save_rng_state(str(folder))
                self.state.save_to_json(str(folder / TRAINER_STATE_NAME))
                also(folder)

            weights = {
                name: each.detach().contiguous() for name, each in trained_weights(self.model)
            }
            size = sum(map(_size, weights.values())) + _size_of(self.optimizer)
            checkpoints.save(self.state.global_step, self.state.max_steps, size, write)

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            weights = load_file(Path(resume_from_checkpoint) / _WEIGHTS)
            for name, each in trained_weights(model or self.model):
                each.data.copy_(weights[name])

    return Resumable


def _size(tensor: "torch.Tensor") -> int:
    return tensor.numel() * tensor.element_size()


def _size_of(optimizer: Any) -> int:
    """The bytes of an optimizer's state."""
    values = (value for state in optimizer.state.values() for value in state.values())
    return sum(_size(value) for value in values if hasattr(value, "element_size"))


def checkpointing(checkpoints: Checkpoints, interruption: Interruption) -> Any:
    """A trainer callback that has checkpoints saved when they are due, and ends an interrupted training.

    None is saved after the last step: a trainer that resumes there trains one step more.
    """
    from transformers import TrainerCallback

    class Checkpointing(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step >= state.max_steps or control.should_training_stop:
                return
            if interruption.asked:
                interruption.step_ended()
                control.should_training_stop = True
            if interruption.asked or checkpoints.is_due():
                control.should_save = True

    return Checkpointing()
