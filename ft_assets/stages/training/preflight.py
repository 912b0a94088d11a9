"""What is checked before a base model is trained, so that nothing is paid for that ends in an error.

First what its small files tell, before weights are downloaded. The packed pair (`packing_probe.py`) and the
longest batch (`longest_batch.py`) need the loaded model: `sft.py` calls them.
"""

from importlib.util import find_spec
from pathlib import Path

from ft_assets.config import ExportConfig, ModelConfig, TrainingConfig
from ft_assets.errors import UserError
from ft_assets.stages.export.convertible import check_convertible
from ft_assets.stages.job import Report
from ft_assets.stages.models.base_model import BaseModel, fetch_base_model, is_hub_id
from ft_assets.stages.training.base_checks import (
    check_context,
    check_modules,
    check_not_quantized,
    check_vocabulary,
    config_of,
)
from ft_assets.stages.training.gpus import say_emulation, use_gpus
from ft_assets.stages.training.lora_trial import check_lora_convertible


def checked_base(
    model: ModelConfig,
    training: TrainingConfig,
    export: ExportConfig,
    dataset: Path,
    longest: int,
    processes: int,
    report: Report,
) -> BaseModel:
    """The base model, fetched once it is known that it can be trained and become the files that `export` names.

    `longest` is the tokens of the longest training row in `dataset`, `processes` how many will train. Raises UserError with what to change if it cannot.
    """
    _check_bitsandbytes(model, training)
    use_gpus(processes, report)
    say_emulation(training.precision, report)
    is_far = is_hub_id(model.base)
    base = fetch_base_model(model.base, model.revision, weights=not is_far)
    config = config_of(base.folder)
    check_not_quantized(base.folder)
    check_modules(config, model.lora)
    check_vocabulary(config, dataset)
    check_context(config, longest)
    if export.gguf or export.lora_gguf:
        check_convertible(base.folder, report)
    if export.lora_gguf:
        check_lora_convertible(base.folder, model.lora, report)
    return fetch_base_model(model.base, base.revision) if is_far else base


def _check_bitsandbytes(model: ModelConfig, training: TrainingConfig) -> None:
    """Raises UserError if a setting needs bitsandbytes and it is not there, as on some platforms."""
    if find_spec("bitsandbytes"):
        return
    keys = {
        "model.load_in_4bit: true": model.load_in_4bit,
        f"training.optim: {training.optim}": "8bit" in training.optim or "paged" in training.optim,
    }
    for key, needs in keys.items():
        if needs:
            raise UserError(
                f"{key} needs bitsandbytes, which is not installed: pip install bitsandbytes"
            )
