"""A training as data, so that it runs in this process or in several that accelerate starts."""

import json
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ft_assets.config import ModelConfig, TrainingConfig
from ft_assets.stages.job import Report
from ft_assets.stages.models.base_model import BaseModel
from ft_assets.stages.training.checkpoints import Checkpoints
from ft_assets.stages.training.memory import training_memory
from ft_assets.stages.training.progress import KeepPace
from ft_assets.stages.training.run_log import Logged, RunLog
from ft_assets.stages.training.sft import train
from ft_assets.stages.training.team import ALONE, Team


@dataclass(frozen=True)
class Trained:
    """The loss history, and the seconds that the training took, with what earlier processes did of it."""

    history: list[dict[str, float]]
    seconds: float


@dataclass(frozen=True)
class Work:
    """All that a training needs. `made_with` is what a checkpoint must have been made with, too."""

    base: BaseModel
    dataset: Path
    model: ModelConfig
    training: TrainingConfig
    output: Path
    rehearsals: int
    checkpoints: Path | None
    made_with: dict[str, str]
    logged: Logged | None

    def run(self, report: Report, team: Team = ALONE, keep: KeepPace | None = None) -> Trained:
        """Trains, in this process, its part of the work. `keep` is told its pace.

        Raises as `train` does, and StageError if memory is used up.
        """
        checkpoints = self.checkpoints and Checkpoints(self.checkpoints, self.made_with, report)
        started = time.monotonic()
        four_bit = self.model.load_in_4bit
        with training_memory(self.training, load_in_4bit=four_bit), self._log(report, team) as log:
            history = train(
                self.base,
                self.dataset,
                self.model,
                self.training,
                self.output,
                report,
                self.rehearsals,
                checkpoints or None,
                log,
                team,
                keep,
            )
            seconds = checkpoints.seconds if checkpoints else time.monotonic() - started
        return Trained(history, seconds)

    def _log(self, report: Report, team: Team) -> AbstractContextManager[RunLog | None]:
        if self.logged is None or not team.is_first:
            return nullcontext()
        return RunLog(self.logged, report)

    def dump(self, path: Path) -> None:
        """Writes it as JSON."""
        content = asdict(self)
        content |= {"model": self.model.model_dump(), "training": self.training.model_dump()}
        path.write_text(json.dumps(content, default=str), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Work":
        """Reads what `dump` wrote."""
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        base, logged = content["base"], content["logged"]
        if logged:
            logged = Logged(
                **{**logged, "runs": Path(logged["runs"]), "trackers": tuple(logged["trackers"])}
            )
        return cls(
            BaseModel(**{**base, "folder": Path(base["folder"])}),
            Path(content["dataset"]),
            ModelConfig(**content["model"]),
            TrainingConfig(**content["training"]),
            Path(content["output"]),
            content["rehearsals"],
            content["checkpoints"] and Path(content["checkpoints"]),
            content["made_with"],
            logged,
        )
