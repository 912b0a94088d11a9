"""A GGUF model converted to a Hugging Face folder: `python -m ft_assets.stages.models.from_gguf GGUF FOLDER`.

Run in a process of its own, since it needs torch, which its caller may never need.
"""

import sys
from pathlib import Path

from ft_assets.children import restrict
from ft_assets.stages.models.gguf_tokenizer import write_tokenizer


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Writes a GGUF model as a Hugging Face folder: bfloat16 safetensors and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    model.save_pretrained(folder)
    write_tokenizer(gguf, folder)


if __name__ == "__main__":
    restrict("converter")
    convert_gguf(Path(sys.argv[1]), Path(sys.argv[2]))
