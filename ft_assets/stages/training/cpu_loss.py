"""The SFT loss taken over labelled positions alone, for machines without a GPU."""

from typing import TYPE_CHECKING, Any

from ft_assets.stages.templates.tokenization import IGNORED

if TYPE_CHECKING:
    import torch


def _real_tokens(inputs: "dict[str, torch.Tensor]") -> int:
    """How many tokens of a batch are no padding; a packed batch has no mask and no padding."""
    mask = inputs.get("attention_mask")
    return int(inputs["input_ids"].numel() if mask is None else mask.sum())


def cpu_trainer() -> type:
    """SFTTrainer with the same loss, taken a cheaper way where there is no GPU.

    TRL's fused head scores every position three times over without its GPU kernel, those without
    a label included. Here the vocabulary is met at the labelled positions alone.
    """
    import torch
    from trl import SFTTrainer

    class CPUTrainer(SFTTrainer):  # type: ignore[misc]
        def compute_loss(
            self,
            model: Any,
            inputs: "dict[str, torch.Tensor]",
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            inputs = dict(inputs)
            labels = inputs.pop("labels")[:, 1:]
            trained = labels != IGNORED
            head = self.accelerator.unwrap_model(model).get_output_embeddings()
            # The model's own forward goes on with fewer positions, so whatever a family does to
            # its logits afterwards (scaling, soft caps) is done here too.
            hook = head.register_forward_pre_hook(
                lambda _, given: (given[0][:, :-1][trained][None],)
            )
            try:
                logits = model(**inputs, use_cache=False).logits[0]
            finally:
                hook.remove()
            loss = torch.nn.functional.cross_entropy(
                logits.float(), labels[trained], reduction="sum"
            )
            self._total_train_tokens += _real_tokens(inputs)
            self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
            count = trained.sum() if num_items_in_batch is None else num_items_in_batch
            return loss / torch.as_tensor(count).clamp(min=1)

    return CPUTrainer
