"""Whether the adapter to be trained can become a GGUF file, found before it is trained.

An adapter of rank 1 without content is made for the model without weights, and converted. So llama.cpp's
converter sees the name and the shape of everything that LoRA will reach. It takes some ten seconds.
"""

import tempfile
from pathlib import Path
from typing import Any

from ft_assets.config import LoraSettings
from ft_assets.errors import StageError
from ft_assets.extras import missing
from ft_assets.stages.export.lora import convert_lora
from ft_assets.stages.job import Report
from ft_assets.stages.models.pinned_packages import llama_cpp_folder
from ft_assets.stages.training.base_checks import without_weights
from ft_assets.stages.training.lora import configure_lora


def check_lora_convertible(base: Path, lora: LoraSettings, report: Report) -> None:
    """Raises UserError if an adapter with these settings for the model in `base`, whose weights may be missing,
    cannot become a GGUF file.

    If that cannot be found out on this machine, it only says so.
    """
    try:
        if names := missing("gguf"):
            raise StageError(f"the extra 'gguf' is not installed (no module {', '.join(names)})")
        llama_cpp_folder()
        with tempfile.TemporaryDirectory(prefix="ft-assets-trial-") as scratch:
            trial = Path(scratch)
            _write_empty_adapter(base, lora, trial)
            convert_lora(trial, base, trial / "trial.gguf")
    except StageError as error:
        why = str(error).splitlines()[0]
        report(f"not checked whether the adapter can become a GGUF file: {why}")


def _write_empty_adapter(base: Path, lora: LoraSettings, folder: Path) -> None:
    import torch
    from peft import get_peft_model, get_peft_model_state_dict
    from safetensors.torch import save_file
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    small = lora.model_copy(update={"r": 1, "lora_dropout": 0.0})
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = without_weights(config)
        adapter: Any = get_peft_model(model, configure_lora(model, small))
    adapter.peft_config["default"].save_pretrained(folder)
    shapes = get_peft_model_state_dict(adapter, save_embedding_layers=False)
    empty = {name: torch.zeros(each.shape) for name, each in shapes.items()}
    save_file(empty, folder / "adapter_model.safetensors")
