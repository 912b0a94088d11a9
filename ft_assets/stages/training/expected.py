"""What a training is expected to take beside what it takes: said before it, kept while it runs."""

import time

from ft_assets.config import ModelConfig, TrainingConfig
from ft_assets.stages.job import Report
from ft_assets.stages.models.base_model import BaseModel
from ft_assets.stages.training.estimate import (
    Estimate,
    Rows,
    estimated,
    kind_memory,
    operations_per_token,
    work_of,
)
from ft_assets.stages.training.machine import precision_here, this_machine
from ft_assets.stages.training.measured import (
    Kind,
    Measured,
    begin_peak,
    keep,
    measured,
    peak_memory,
)
from ft_assets.stages.training.progress import MEASURED_STEPS, Pace
from ft_assets.stages.training.shape import Shape, shape_of


def kind_of(shape: Shape, model: ModelConfig, training: TrainingConfig) -> Kind:
    """What kind of training it is on this machine."""
    machine = this_machine()
    precision = precision_here(training.precision, machine)
    return Kind(
        machine, shape, precision, bool(model.load_in_4bit), bool(training.gradient_checkpointing)
    )


class Expected:
    """The estimate of one training, with settings without nulls, and what is measured of it.

    Create it when the stage begins: the seconds before the first step count from there. Nothing is
    known of a model whose sizes cannot be told, or of a dataset that an earlier version built.
    """

    def __init__(
        self, base: BaseModel, model: ModelConfig, training: TrainingConfig, rows: Rows | None
    ) -> None:
        self._began = time.monotonic()
        self._lora, self._training = model.lora, training
        self._rows = rows
        self._kind: Kind | None = None
        self.estimate: Estimate | None = None
        begin_peak()
        if rows and (shape := shape_of(base.folder)):
            self._kind = kind_of(shape, model, training)
            self.estimate = estimated(self._kind, model.lora, training, rows)

    def say(self, report: Report) -> None:
        """Reports the estimate, and what to lower if the memory does not suffice."""
        if self.estimate:
            report(f"expected: {self.estimate}")
            if self.estimate.warning:
                report(f"warning: {self.estimate.warning}")

    def keep(self, pace: Pace) -> None:
        """Keeps the pace of the training and its memory for the next estimate.

        The first steps alone do not replace what a whole training took.
        """
        if self._kind is None or self._rows is None or not pace.tokens:
            return
        if pace.steps == MEASURED_STEPS and measured(self._kind):
            return
        lora, training = self._lora, self._training
        work = work_of(self._rows, training, padded=self._kind.machine.is_gpu)
        found = Measured(
            steps=pace.steps,
            seconds_per_token=pace.seconds / pace.tokens,
            startup_seconds=time.monotonic() - self._began - pace.seconds,
            operations=operations_per_token(
                self._kind.shape, lora, work, checkpointed=self._kind.gradient_checkpointing
            ),
            peak_memory=peak_memory(),
            estimated_memory=kind_memory(self._kind, lora, training, work),
        )
        keep(self._kind, found)

    def cost(self) -> dict[str, float]:
        """The peak of the memory in bytes, and what had been estimated, for the manifest."""
        told = {"peak_memory": float(peak_memory())}
        if self.estimate:
            told["estimated_memory"] = float(self.estimate.memory)
            if self.estimate.seconds is not None:
                told["estimated_seconds"] = round(self.estimate.seconds, 1)
        return told
