"""How much memory and time a training takes, from the base model's sizes, the settings and the rows.

Nothing here imports torch or reads weights. docs/benchmarks.md compares estimates with what was measured.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ft_assets.config import LoraSettings, TrainingConfig
from ft_assets.stages.training.arguments import steps_of
from ft_assets.stages.training.chooser import Data
from ft_assets.stages.training.machine import Machine
from ft_assets.stages.training.measured import Kind, measured, operations_per_second
from ft_assets.stages.training.memory import advice
from ft_assets.stages.training.rehearsal import REHEARSED_TOKENS, rehearsals
from ft_assets.stages.training.shape import Shape
from ft_assets.stages.words import memory_of, time_of

_WEIGHT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
_QUANTIZED_BYTES = 0.516
"""Of a weight in nf4: half a byte, and the doubly quantized scale of each 64 weights."""
_STATE_BYTES = {"adamw_bnb_8bit": 2.0, "paged_adamw_8bit": 2.0, "adafactor": 0.5, "sgd": 0.0}
_ADAM_BYTES = 8.0
"""What an optimizer holds of each trained parameter."""
_TRAINED_BYTES = 8.0
"""Of each trained parameter: itself and its gradient, both in float32."""
_LOSS_COPIES = 3
"""Logits are there three times in float32 while the loss is computed backward."""
_PROCESS_BYTES = 500 << 20
_BYTES_PER_WORD = 1_500
"""What the process of a training on a CPU takes by itself (libraries), and for each word of the tokenizer."""
_HEAP = 1.8
"""On a CPU the heap has holes: it is larger than what is in it."""
_LAYERS_ON_GPU, _LAYERS_ON_CPU = 2, 10
"""Layers that are there at once if activations are computed again; with the holes on a CPU."""
_CPU_OPERATIONS = 20e9
"""In a second on one core, about: until this machine has trained something."""
_START_SECONDS, _STEP_SECONDS = 15.0, 0.1
"""About: before the first step, and of each step whatever the model's size, until they were measured."""
_LARGEST_OF = {1: 0.0, 2: 0.564, 4: 1.03, 8: 1.42}
"""By how many standard deviations the largest of so many normal numbers is above their mean."""


@dataclass(frozen=True)
class Rows:
    """What is known of the training rows: their number, tokens in them, those that are trained, the tokens
    of the longest row, their standard deviation over rows, and how many rows are plain text.

    `is_exact` says whether they were counted.
    """

    count: int
    tokens: int
    trained: int
    longest: int
    deviation: float
    texts: int
    is_exact: bool = True

    @classmethod
    def counted(cls, counts: Mapping[str, int | float]) -> "Rows | None":
        """The rows that the manifest of a dataset counts; None if an earlier version wrote it."""
        names = ("rows", "tokens", "trained_tokens", "longest", "deviation", "text_rows")
        found = [counts.get(f"train_{name}") for name in names]
        if None in found or not found[0]:
            return None
        return cls(*found)  # type: ignore[arg-type]

    @property
    def data(self) -> Data:
        """What of them decides the settings that are null."""
        return Data(self.count, self.longest, text_only=self.texts == self.count)

    def as_known(self, *, exactly: bool) -> "Rows":
        """The same rows, said to be counted or not."""
        return replace(self, is_exact=exactly)


@dataclass(frozen=True)
class Work:
    """What a training computes: its steps, all tokens with padding, and the tokens and labels of the
    largest batch."""

    steps: int
    tokens: int
    batch_tokens: int
    batch_labels: int


@dataclass(frozen=True)
class Estimate:
    """What a training takes. `seconds` is None if nothing is known; `is_measured` says whether both come
    from a training of the same model on this machine. `is_exact` says whether the rows were counted."""

    steps: int
    seconds: float | None
    memory: int
    machine: Machine
    is_exact: bool
    is_measured: bool
    advice: str

    @property
    def fits(self) -> bool:
        """Whether the machine has the memory."""
        return self.memory <= self.machine.memory

    def __str__(self) -> str:
        about = "" if self.is_exact else "about "
        said = [f"{about}{self.steps:,} steps"]
        if self.seconds is not None:
            said.append(f"{'about' if self.is_measured else 'roughly'} {time_of(self.seconds)}")
        return ", ".join([*said, f"about {memory_of(self.memory)} of the {self.machine}"])

    @property
    def warning(self) -> str:
        """What to lower if it does not fit; nothing if it does."""
        if self.fits:
            return ""
        return f"training needs about {memory_of(self.memory)}, more than the {self.machine}: {self.advice}"

    def to_json(self) -> dict[str, Any]:
        """The estimate as `--json` shows it."""
        told = {**asdict(self), "memory_available": self.machine.memory, "fits": self.fits}
        return {**told, "machine": self.machine.name}


def work_of(rows: Rows, settings: TrainingConfig, *, padded: bool) -> Work:
    """What a training with settings without nulls computes; rehearsed rows are among its rows.

    `padded` says whether the rows of a batch are padded to the longest, as they are on a GPU.
    """
    batch = settings.per_device_train_batch_size or 1
    rehearsed = rehearsals(settings.rehearsal or 0.0, rows.count)
    count = rows.count + rehearsed
    tokens: float = rows.tokens + rehearsed * REHEARSED_TOKENS
    longest = min(settings.max_length, max(rows.longest, REHEARSED_TOKENS if rehearsed else 0))
    if settings.packing:
        count = max(1, math.ceil(tokens / settings.max_length))
        longest = settings.max_length
    elif padded:
        width = tokens / count + _largest_of(min(batch, count)) * rows.deviation
        tokens = count * min(longest, width)
    steps = steps_of(settings, count)
    passes = settings.num_train_epochs or 1.0
    if settings.max_steps:
        passes = steps * batch * settings.gradient_accumulation_steps / count
    batch_tokens = min(batch, count) * longest
    return Work(
        steps,
        round(passes * tokens),
        batch_tokens,
        math.ceil(batch_tokens * rows.trained / max(1, rows.tokens)),
    )


def _largest_of(count: int) -> float:
    """By how many standard deviations the longest row of a batch is above the mean, about."""
    known = [each for each in _LARGEST_OF if each <= count]
    return _LARGEST_OF[known[-1]] if count <= 8 else math.sqrt(2 * math.log(count)) - 0.6


def memory_needed(
    shape: Shape,
    lora: LoraSettings,
    settings: TrainingConfig,
    work: Work,
    precision: str,
    *,
    on_gpu: bool,
    load_in_4bit: bool = False,
) -> int:
    """The bytes that a LoRA training takes at its peak: on a CPU those of its process, on a GPU those there.

    `precision` is that of the weights (fp32, bf16 or fp16). Only `optim` and `gradient_checkpointing` are
    read from `settings`; the batch is in `work`. On a GPU it was never measured.
    """
    trained = shape.adapter(lora) * (_TRAINED_BYTES + _STATE_BYTES.get(settings.optim, _ADAM_BYTES))
    needed = weight_bytes(shape, precision, load_in_4bit=load_in_4bit) + trained
    needed += _activation_bytes(
        shape, work, precision, checkpointed=settings.gradient_checkpointing, on_gpu=on_gpu
    )
    needed += _LOSS_COPIES * 4 * work.batch_labels * shape.vocabulary
    if not on_gpu:
        needed += _PROCESS_BYTES + _BYTES_PER_WORD * shape.vocabulary
    return round(needed)


def weight_bytes(shape: Shape, precision: str, *, load_in_4bit: bool) -> float:
    """The bytes of the base model's weights; those outside of linear layers are never quantized."""
    size = _WEIGHT_BYTES[precision]
    linear = sum(each.parameters for each in shape.linears)
    return shape.others * size + linear * (_QUANTIZED_BYTES if load_in_4bit else size)


def _activation_bytes(
    shape: Shape, work: Work, precision: str, *, checkpointed: bool, on_gpu: bool
) -> float:
    """What is kept of the largest batch for its backward pass: of each layer about twice what its linear
    layers give, and three times its input in float32 by its norms; or its input alone, if the rest is
    computed again, a layer at a time."""
    size = _WEIGHT_BYTES[precision]
    outputs = sum(each.share * each.count * each.outputs for each in shape.linears)
    streams = shape.layers * shape.hidden
    whole = work.batch_tokens * (2 * outputs * size + 3 * streams * 4)
    if not checkpointed:
        return whole * (1.0 if on_gpu else _HEAP)
    layers = min(shape.layers, _LAYERS_ON_GPU if on_gpu else _LAYERS_ON_CPU)
    return work.batch_tokens * streams * size + whole * layers / max(1, shape.layers)


def operations_per_token(
    shape: Shape, lora: LoraSettings, work: Work, *, checkpointed: bool
) -> float:
    """The floating-point operations of a token, forward and backward: the frozen weights have no
    gradients of their own; the output layer scores labels alone."""
    passes = 6 if checkpointed else 4
    labels = work.batch_labels / max(1, work.batch_tokens)
    head = 4 * labels * shape.vocabulary * shape.hidden
    return passes * shape.active + 6 * shape.adapter(lora) + head


def estimated(kind: Kind, lora: LoraSettings, settings: TrainingConfig, rows: Rows) -> Estimate:
    """What a training of a kind takes on its machine, with settings without nulls."""
    work = work_of(rows, settings, padded=kind.machine.is_gpu)
    memory = kind_memory(kind, lora, settings, work)
    operations = operations_per_token(
        kind.shape, lora, work, checkpointed=settings.gradient_checkpointing
    )
    seconds: float | None = None
    known = measured(kind)
    if known:
        memory = round(memory * known.peak_memory / known.estimated_memory)
        seconds = known.startup_seconds + work.tokens * known.seconds_per_token
    elif speed := operations_per_second(kind) or _guessed_speed(kind.machine):
        seconds = _START_SECONDS + work.steps * _STEP_SECONDS + work.tokens * operations / speed
    return Estimate(
        work.steps,
        seconds,
        memory,
        kind.machine,
        rows.is_exact,
        known is not None,
        advice(settings, load_in_4bit=kind.load_in_4bit),
    )


def kind_memory(kind: Kind, lora: LoraSettings, settings: TrainingConfig, work: Work) -> int:
    """`memory_needed` of a training of a kind."""
    return memory_needed(
        kind.shape,
        lora,
        settings,
        work,
        kind.precision,
        on_gpu=kind.machine.is_gpu,
        load_in_4bit=kind.load_in_4bit,
    )


def _guessed_speed(machine: Machine) -> float | None:
    return None if machine.is_gpu else machine.cores * _CPU_OPERATIONS
