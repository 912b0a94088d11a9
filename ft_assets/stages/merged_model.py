"""The adapter merged into its base: a Hugging Face folder that does not need PEFT."""

from pathlib import Path
from typing import Any

from ft_assets.stages.job import Check, Job, Outcome, Report, versions
from ft_assets.stages.models.mtp import forget_missing_head
from ft_assets.stages.models.tokenizer import save_tokenizer, tokenizer_of
from ft_assets.stages.models.tuned_model import adapter_base, load_model
from ft_assets.stages.scoring.merged import MERGED_ANSWERS, merged_metrics, merged_verdict

MERGE_CHANGES_NOTHING = Check("merge_changes_nothing", "Merging does not change the logits.")
CHECKS = (MERGE_CHANGES_NOTHING, MERGED_ANSWERS)
TOLERANCE = 0.01
"""The largest change of a logit allowed by merging in fp32; 1e-4 is usual, merging in bf16 gives 1.4."""


def merge_adapter(adapter: Path, output: Path) -> float:
    """Merges in float32 and saves in the base checkpoint's own dtype.

    Returns the largest change of any logit of one prompt, measured before the cast. Raises the error of
    PEFT's safe merge if the adapter contains values that are not numbers.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoConfig

    folder = adapter_base(adapter).folder
    tokenizer = tokenizer_of(adapter)
    base = load_model(folder, torch.float32)
    model = PeftModel.from_pretrained(base, adapter).eval()
    before = _logits(model, tokenizer)
    merged: Any = model.merge_and_unload(safe_merge=True)
    change = float((_logits(merged, tokenizer) - before).abs().max())
    dtype = AutoConfig.from_pretrained(folder).dtype
    merged.to(dtype or torch.float32).save_pretrained(output)
    forget_missing_head(output)
    save_tokenizer(tokenizer, folder, output)
    return change


def _logits(model: Any, tokenizer: Any) -> Any:
    import torch

    ids = tokenizer("The quick brown fox jumps over the lazy dog.", return_tensors="pt")
    with torch.no_grad():
        return model(input_ids=ids["input_ids"].to(model.device)).logits.float()


def build(job: Job, report: Report) -> Outcome:
    """Builds `merged_model`, and asks the saved model what the adapter was asked."""
    change = merge_adapter(job.inputs["adapter"], job.output)
    most = job.manifests["evaluation"].settings["evaluation.max_new_tokens"]
    metrics = merged_metrics(
        job.output, job.inputs["adapter"], job.inputs["evaluation"], int(str(most)), report
    )
    said = f"merging changes a logit by at most {change:.2g}"
    return Outcome(
        counts={"max_logit_change": change, **metrics},
        checks={
            **MERGE_CHANGES_NOTHING.verdict(change <= TOLERANCE, said),
            **merged_verdict(metrics),
        },
        tools=versions("torch", "transformers", "peft"),
    )
