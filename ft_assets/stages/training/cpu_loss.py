"""The SFT loss computed over labelled positions only, for machines without a GPU."""

from typing import TYPE_CHECKING, Any

from ft_assets.stages.models.head import scoring_only
from ft_assets.stages.templates.tokenization import IGNORED

if TYPE_CHECKING:
    import torch


def _real_tokens(inputs: "dict[str, torch.Tensor]") -> int:
    """The number of tokens in a batch that are not padding.

    A batch in one sequence has no mask; in it each token of padding is a row by itself, and no row to learn
    from is as short.
    """
    if (mask := inputs.get("attention_mask")) is not None:
        return int(mask.sum())
    rows = inputs["cu_seq_lens_q"].diff()
    return int(rows[rows > 1].sum())


def cpu_trainer() -> type:
    """SFTTrainer with the same loss, computed more cheaply without a GPU.

    Without its GPU kernel, TRL's fused head scores every position three times, even those without a
    label. Here only the labelled positions are scored: 1.5 times as fast on the demo.
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
            routers = {"output_router_logits": True} if self.aux_loss_enabled else {}
            with scoring_only(head, trained.flatten()):
                outputs = model(**inputs, **routers, use_cache=False)
            logits = outputs.logits[0].float()
            loss = torch.nn.functional.cross_entropy(logits, labels[trained], reduction="sum")
            processes = self.accelerator.num_processes
            if self.model.training:
                tokens = torch.tensor(_real_tokens(inputs))
                if processes > 1:
                    tokens = self.accelerator.gather(tokens).sum()
                self._total_train_tokens += int(tokens)
                self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
            if num_items_in_batch is None:
                loss = loss / trained.sum().clamp(min=1)
            else:
                # The count is that of all processes, and their gradients' mean is taken, not the sum.
                loss = loss * processes / torch.as_tensor(num_items_in_batch).clamp(min=1)
            if routers:  # balances the experts of a mixture: a mean over each batch, as in TRL
                parts = self.current_gradient_accumulation_steps if num_items_in_batch else 1
                loss = loss + self.router_aux_loss_coef * outputs.aux_loss / parts
            return loss

    return CPUTrainer
