"""The matrix products of many members side by side, forwards and backwards, in layouts that processors are fast in.

PyTorch's own batched product copies transposed bfloat16 matrices on a CPU, which took half of an MLP's step; here weights
lie as (members, out, in), every product of a member is a plain one, and its result is written where it belongs.
"""

from typing import Any

import torch


def linear(x: torch.Tensor, weight: torch.Tensor, *, rounded: bool) -> torch.Tensor:
    """Multiply each member's inputs with its weights.

    Args:
        x: (batch, in), the same for all members, or (members, batch, in).
        weight: (members, out, in).
        rounded: Round what is multiplied to bfloat16; results go on in float32.

    Returns:
        (members, batch, out), float32.
    """
    product: torch.Tensor = _Linear.apply(x, weight, torch.bfloat16 if rounded else torch.float32)  # type: ignore[no-untyped-call]
    return product


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        members, outputs, inputs = weight.shape
        x, weight = x.to(dtype), weight.to(dtype)
        ctx.save_for_backward(x, weight)
        if x.ndim == 2:  # one product for all members
            return (x @ weight.view(-1, inputs).T).view(-1, members, outputs).transpose(0, 1).float()
        return _products(x, weight.transpose(1, 2)).float()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor, None]:
        x, weight = ctx.saved_tensors
        members, outputs, inputs = weight.shape
        gradient = gradients[0].to(x.dtype)
        if x.ndim == 2:
            together = gradient.transpose(0, 1).reshape(-1, members * outputs)
            of_weight = (together.T @ x).view(members, outputs, inputs)
            return (together @ weight.view(-1, inputs)).float() if ctx.needs_input_grad[0] else None, of_weight.float(), None
        of_weight = _products(gradient.transpose(1, 2), x)
        return _products(gradient, weight).float() if ctx.needs_input_grad[0] else None, of_weight.float(), None


def _products(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Multiply (members, a, b) with (members, b, c)."""
    if first.device.type != "cpu":
        return torch.bmm(first, second)
    result = torch.empty(len(first), first.shape[1], second.shape[2], dtype=first.dtype)
    for one, other, out in zip(first, second, result, strict=True):
        torch.mm(one, other, out=out)
    return result
