"""LoRA layers computed in fewer operations, for machines without a GPU.

PEFT computes the frozen layer, the adapter, its scale and their sum one by one, each with a step of its own
backward. On short rows these small operations take a tenth of a training on a CPU. Here a layer is one
operation with the same result.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_ADAPTER = "default"


@contextmanager
def fused_lora(model: Any) -> Iterator[None]:
    """While it is open, the LoRA layers of a model on a CPU are computed as one operation each.

    Layers with dropout, DoRA, a bias or quantised weights stay as they are.
    """
    layers = [each for each in model.modules() if _can_be_fused(each)]
    if model.device.type == "cpu":
        operation = _operation()
        for layer in layers:
            layer.forward = _forward(layer, operation)
    try:
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _can_be_fused(layer: Any) -> bool:
    import torch
    from peft.tuners.lora import Linear

    if type(layer) is not Linear:
        return False
    base: Any = layer.base_layer
    if type(base) is not torch.nn.Linear:
        return False
    has_bias: bool = getattr(base, "bias", None) is not None
    return (
        not has_bias
        and layer.active_adapters == [_ADAPTER]
        and not layer.use_dora[_ADAPTER]
        and isinstance(layer.lora_dropout[_ADAPTER], torch.nn.Identity)
    )


def _forward(layer: Any, operation: Any) -> Any:
    import torch

    weight, scale = layer.base_layer.weight, layer.scaling[_ADAPTER]
    down, up = layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight

    def forward(inputs: "torch.Tensor") -> "torch.Tensor":
        is_autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if is_autocast else inputs.dtype
        with torch.autocast("cpu", enabled=False):
            given = (inputs.to(dtype), weight.to(dtype), down, up)
            return operation.apply(*given, scale)  # type: ignore[no-any-return]

    return forward


def _operation() -> Any:
    import torch

    class FusedLora(torch.autograd.Function):
        """y = x W' + scale (x A') B', with the gradients of x, A and B; W is frozen."""

        @staticmethod
        def forward(
            context: Any,
            inputs: "torch.Tensor",
            weight: "torch.Tensor",
            down: "torch.Tensor",
            up: "torch.Tensor",
            scale: float,
        ) -> "torch.Tensor":
            flat = inputs.reshape(-1, inputs.shape[-1])
            small_down, small_up = down.to(flat.dtype), up.to(flat.dtype)
            inner = flat @ small_down.t()
            output = flat @ weight.t()
            output.addmm_(inner, small_up.t(), alpha=scale)
            context.save_for_backward(flat, weight, small_down, small_up, inner)
            context.scale, context.shape, context.dtype = scale, inputs.shape, down.dtype
            return output.view(*inputs.shape[:-1], -1)

        @staticmethod
        def backward(context: Any, *gradients: "torch.Tensor") -> Any:
            flat, weight, down, up, inner = context.saved_tensors
            gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
            inner_gradient = gradient @ up
            of_inputs = None
            if context.needs_input_grad[0]:
                of_inputs = gradient @ weight
                of_inputs.addmm_(inner_gradient, down, alpha=context.scale)
                of_inputs = of_inputs.view(context.shape)
            of_down = (inner_gradient.t() @ flat).to(context.dtype).mul_(context.scale)
            of_up = (gradient.t() @ inner).to(context.dtype).mul_(context.scale)
            return of_inputs, None, of_down, of_up, None

    return FusedLora
