"""A lack of memory, in words: what to lower."""

from collections.abc import Iterator
from contextlib import contextmanager

from ft_assets.config import TrainingConfig
from ft_assets.errors import StageError
from ft_assets.stages.models.memory import is_out_of_memory, memory_in_words


@contextmanager
def training_memory(settings: TrainingConfig, *, load_in_4bit: bool = False) -> Iterator[None]:
    """Turns an error that says that memory is used up into a StageError that says what to lower."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise StageError(
            f"training needs more memory than {memory_in_words()}: "
            f"{advice(settings, load_in_4bit=load_in_4bit)}"
        ) from error


def advice(settings: TrainingConfig, *, load_in_4bit: bool) -> str:
    """What to lower if a training needs more memory than there is."""
    batch = settings.per_device_train_batch_size or 1
    ways = []
    if batch > 1:
        ways.append(
            f"lower training.per_device_train_batch_size (now {batch}) and raise "
            "training.gradient_accumulation_steps by the same factor"
        )
    if not settings.gradient_checkpointing:
        ways.append("set training.gradient_checkpointing to true")
    if not load_in_4bit:
        ways.append("set model.load_in_4bit to true, which is slower")
    ways.append(f"lower training.max_length (now {settings.max_length}), which cuts longer rows")
    ways.append("choose a smaller model.base")
    return "; or ".join(ways)
