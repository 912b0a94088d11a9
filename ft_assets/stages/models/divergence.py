"""How far the probabilities of two models are from each other."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def divergence(wanted: "torch.Tensor", found: "torch.Tensor") -> tuple[float, int]:
    """The Kullback-Leibler divergence of `found` from `wanted` in nats, summed over tokens, and at how many of
    them both have the same first choice.

    Both are logits, or logarithms of probabilities: tokens x vocabulary. An embedding may have more rows than
    the vocabulary, in either: only what both have is compared.
    """
    size = min(wanted.shape[1], found.shape[1])
    ours, theirs = (each[:, :size].log_softmax(-1) for each in (wanted, found))
    kl = float((ours.exp() * (ours - theirs)).sum())
    return kl, int((ours.argmax(-1) == theirs.argmax(-1)).sum())
