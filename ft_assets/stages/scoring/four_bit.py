"""How far an adapter beside the 4-bit base that it was trained on is from the merged model.

Merging adds the adapter to the full-precision weights, which it never saw in training. Each of the two gives
the answers of the merged model; this says how much of them the four bits account for.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_assets.stages.job import Report
from ft_assets.stages.models.divergence import divergence
from ft_assets.stages.models.precision import precision_of
from ft_assets.stages.models.tuned_model import adapter_base, load_model
from ft_assets.stages.scoring.perplexity import text_perplexity

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TOKENS = 256
"""Of the general text: their logits are in memory at once, 150 MB for a vocabulary of 150,000."""


def text_logits(
    model: "PeftModel | PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", text: str
) -> "torch.Tensor":
    """The logits at the first tokens of a text: tokens x vocabulary, float32, in the machine's memory."""
    import torch

    ids = tokenizer(text, add_special_tokens=False)["input_ids"][:_TOKENS]
    with torch.no_grad():
        given: Any = model(input_ids=torch.tensor([ids]).to(model.device), use_cache=False)
    return given.logits[0].float().cpu()  # type: ignore[no-any-return]


def four_bit_metrics(
    adapter: Path,
    merged_logits: "torch.Tensor",
    tokenizer: "PreTrainedTokenizerBase",
    text: str,
    report: Report,
) -> dict[str, float]:
    """`four_bit_kl`, `four_bit_top1` and `four_bit_general_perplexity`.

    KL divergence and top-1 agreement are of the merged model, from the adapter beside its 4-bit base.
    """
    from peft import PeftModel

    report("the merged model beside the 4-bit base with its adapter")
    base = load_model(adapter_base(adapter).folder, precision_of("auto"), four_bit=True)
    model = PeftModel.from_pretrained(base, adapter).eval()
    kl, same = divergence(text_logits(model, tokenizer, text), merged_logits)
    perplexity = text_perplexity(model, tokenizer, text)
    return {
        "four_bit_kl": kl / len(merged_logits),
        "four_bit_top1": same / len(merged_logits),
        "four_bit_general_perplexity": perplexity,
    }
