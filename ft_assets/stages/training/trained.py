"""The weights that a training changes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def trained_weights(model: Any) -> "Iterator[tuple[str, torch.nn.Parameter]]":
    """The parameters that are trained, by name; one that is shared comes once."""
    return ((name, each) for name, each in model.named_parameters() if each.requires_grad)
