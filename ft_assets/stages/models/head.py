"""The head of a language model, which turns hidden states into logits."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@contextmanager
def scoring_only(head: Any, places: "torch.Tensor") -> Iterator[None]:
    """While it is open, a forward pass gives the logits of some places only, as one row.

    `places` is an index or a mask of the tokens of a batch, counted through its rows without their last
    token. Logits of every place would take most of the memory: 16 GiB for 16,000 tokens of Llama 3. The
    model's own forward continues with fewer places, so a family's own changes to the logits (scaling,
    soft caps) still apply.
    """
    hook = head.register_forward_pre_hook(
        lambda _, given: (given[0][:, :-1].flatten(0, 1)[places][None],)
    )
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def scoring_apart(head: Any) -> Iterator[None]:
    """While it is open, the head is given its inputs in memory of their own.

    Generation scores the last token of each prompt, a view into all of them. For such a view torch copies the
    head's weights once for each prompt: 1.8 GB for 32 prompts to a model of 135 million parameters.
    """
    hook = head.register_forward_pre_hook(lambda _, given: (given[0].contiguous(),))
    try:
        yield
    finally:
        hook.remove()
