"""Attention of a training on a CPU: row by row where a batch is one sequence, and in float32.

transformers' own attention computes such a sequence as one long row with a mask, which takes the square of
its length. And torch's backward pass of attention on CPUs takes three times as long in bfloat16 as in float32
for rows of 50 tokens, and as long for 500.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_NAME = "sdpa_by_rows"


def attend_by_rows(model: "PreTrainedModel") -> None:
    """Has a model on a CPU attend as this module says, if it uses torch's own attention (`sdpa`)."""
    import torch
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    usual: Any = sdpa_attention_forward

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
        given = (query.float(), key.float(), value.float())
        places = options.get("cu_seq_lens_q")

        def attended(*parts: "torch.Tensor", mask: "torch.Tensor | None") -> "torch.Tensor":
            return usual(module, *parts, mask, **options)[0]  # type: ignore[no-any-return]

        with torch.autocast("cpu", enabled=False):
            if places is not None and _is_each_row_alone(attention_mask, places):
                output = _by_rows(attended, given, places.tolist())
            else:
                output = attended(*given, mask=attention_mask)
        return output.to(query.dtype), None

    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(_NAME, attend)
        AttentionMaskInterface.register(_NAME, sdpa_mask)
        model.set_attn_implementation(_NAME)


def _is_each_row_alone(mask: "torch.Tensor | None", places: "torch.Tensor") -> bool:
    """Whether a mask lets each token see all before it in its row and nothing else.

    A family's own limits, such as a sliding window shorter than a row, leave fewer.
    """
    import torch

    if mask is None or mask.dtype != torch.bool or mask.shape[:2] != (1, 1):
        return False
    rows = places.diff()
    return int(mask.sum()) == int((rows * (rows + 1)).sum()) // 2


def _by_rows(
    attended: "Callable[..., torch.Tensor]", given: "tuple[torch.Tensor, ...]", places: list[int]
) -> "torch.Tensor":
    """The attention of each row by itself; queries, keys and values are heads by tokens."""
    import torch

    return torch.cat(
        [
            attended(*(each[:, :, start:end] for each in given), mask=None)
            for start, end in pairwise(places)
        ],
        dim=1,
    )
