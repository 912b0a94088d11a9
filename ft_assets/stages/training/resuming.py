"""A trainer that can be stopped at any time and resumes exactly where it was."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_assets.stages.training.checkpoints import Checkpoints
from ft_assets.stages.training.interruption import Interruptible
from ft_assets.stages.training.team import Team
from ft_assets.stages.training.trained import trained_weights

if TYPE_CHECKING:
    import torch

_WEIGHTS = "trained.safetensors"


def resumable(
    trainer: type, checkpoints: Checkpoints, also: Callable[[Path], None], team: Team
) -> type:
    """The trainer class with checkpoints of its trained weights, optimizer, schedule and random numbers.

    `also` writes into a checkpoint what else it must hold. Of several processes the first writes it, with the
    random numbers of all.

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
                for name, content in random_numbers.items():
                    (folder / name).write_bytes(content)
                self.state.save_to_json(str(folder / TRAINER_STATE_NAME))
                also(folder)

            random_numbers = team.files(self._save_rng_state)
            if not team.is_first:
                return
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


def checkpointing(checkpoints: Checkpoints, interruption: Interruptible, team: Team) -> Any:
    """A trainer callback that has checkpoints saved when they are due, and ends an interrupted training.

    None is saved after the last step: a trainer that resumes there trains one step more.
    """
    from transformers import TrainerCallback

    class Checkpointing(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step >= state.max_steps or control.should_training_stop:
                return
            interruption.asked, due = team.agree(interruption.asked, checkpoints.is_due())
            if interruption.asked:
                interruption.step_ended()
                control.should_training_stop = True
            if interruption.asked or due:
                control.should_save = True

    return Checkpointing()
