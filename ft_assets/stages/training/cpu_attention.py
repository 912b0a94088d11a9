"""Attention of bfloat16 models on a CPU, computed in float32.

torch's backward pass of attention on CPUs takes three times as long in bfloat16 as in float32 for rows of 50
tokens, and as long for 500: 12% of a training on short rows.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_NAME = "sdpa_in_float32"


def attend_in_float32(model: "PreTrainedModel") -> None:
    """Has a bfloat16 model on a CPU compute its attention in float32, if it uses torch's own (`sdpa`)."""
    import torch
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def attend(
        module: "torch.nn.Module",
        query: "torch.Tensor",
        key: "torch.Tensor",
        value: "torch.Tensor",
        attention_mask: "torch.Tensor | None",
        **options: Any,
    ) -> "tuple[torch.Tensor, None]":
        if attention_mask is not None and attention_mask.is_floating_point():
            attention_mask = attention_mask.float()
        with torch.autocast("cpu", enabled=False):
            output, weights = sdpa_attention_forward(
                module, query.float(), key.float(), value.float(), attention_mask, **options
            )
        return output.to(query.dtype), weights

    is_sdpa = model.config._attn_implementation == "sdpa"
    if model.device.type != "cpu" or model.dtype != torch.bfloat16 or not is_sdpa:
        return
    AttentionInterface.register(_NAME, attend)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    model.set_attn_implementation(_NAME)
