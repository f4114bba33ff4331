"""Depthwise convolutions that train quickly on a CPU, where two of PyTorch's own gradients take tens of times the forward pass.

oneDNN, which PyTorch computes them with, has kernels for depthwise convolutions that don't cover the gradient of a kernel wider
than 3, nor in bfloat16 that of a strided convolution's input; the general ones that it takes there are most of a training step
of EfficientNet. Both have a quick way round: the kernel's gradient is made in strips of two and three columns, the input's in
float32. `benchmarks/depthwise.py` measures it.
"""

import math
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch.autograd.function import once_differentiable

STRIP = 3  # columns of a kernel's gradient that oneDNN has a kernel for


class DepthwiseConv2d(torch.nn.Conv2d):
    """A depthwise convolution with the parameters of another one and faster gradients.

    Args:
        original: The convolution that it replaces: PyTorch's own, or timm's with TensorFlow's padding.
    """

    def __init__(self, original: torch.nn.Conv2d) -> None:
        sides: dict[str, Any] = {"kernel_size": original.kernel_size, "stride": original.stride, "padding": original.padding}
        channels, bias = original.in_channels, original.bias is not None
        super().__init__(channels, channels, groups=channels, bias=bias, device="meta", **sides)
        self.weight, self.bias = original.weight, original.bias
        self._same = type(original) is not torch.nn.Conv2d
        self.train(original.training)

    def forward(self, input: Float[torch.Tensor, "n c h w"]) -> Float[torch.Tensor, "n c new_h new_w"]:  # noqa: A002 - PyTorch's name
        """Convolve each channel of a batch with its own filter."""
        if self._same:
            from timm.layers import pad_same  # noqa: PLC0415 - seconds

            input = pad_same(input, self.kernel_size, self.stride)  # noqa: A001
        weight, bias = self.weight, self.bias
        if torch.is_autocast_enabled("cpu"):
            kind = torch.get_autocast_dtype("cpu")
            input, weight, bias = input.to(kind), weight.to(kind), None if bias is None else bias.to(kind)  # noqa: A001
        return _Convolved.apply(input, weight, bias, self.stride, self.padding)  # type: ignore[no-any-return, no-untyped-call]


def learn_quickly(model: torch.nn.Module) -> None:
    """Replace a model's depthwise convolutions by `DepthwiseConv2d`, in place; names and parameters stay.

    Args:
        model: A model that is trained on a CPU; it is changed in place.
    """
    from timm.layers import Conv2dSame  # noqa: PLC0415 - seconds

    for name, module in list(model.named_modules()):
        if type(module) in (torch.nn.Conv2d, Conv2dSame) and _can_be(module):
            model.set_submodule(name, DepthwiseConv2d(module))


def _can_be(original: torch.nn.Conv2d) -> bool:
    depthwise = original.groups == original.in_channels == original.out_channels > 1
    plain = original.padding_mode == "zeros" and not isinstance(original.padding, str) and set(original.dilation) == {1}
    return depthwise and plain


class _Convolved(torch.autograd.Function):
    """A depthwise convolution with its own gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return torch.nn.functional.conv2d(x, weight, bias, stride, padding, 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, (of_x, of_weight, of_bias, *_) = ctx.stride, ctx.padding, ctx.needs_input_grad
        in_float32 = of_x and x.dtype == torch.bfloat16 and max(stride) > 1
        in_strips = of_weight and weight.shape[3] > STRIP
        for_x, for_weight = _gradients(
            gradient, x, weight, stride, padding, (of_x and not in_float32, of_weight and not in_strips)
        )
        if in_float32:
            like = torch.empty_like(x, dtype=torch.float32)  # its values don't count
            for_x, _ = _gradients(gradient.float(), like, weight.float(), stride, padding, (True, False))
            for_x = for_x.to(x.dtype)
        if in_strips:
            for_weight = _of_wide_kernel(gradient, x, weight, stride, padding)
        return for_x, for_weight, gradient.sum((0, 2, 3)) if of_bias else None, None, None


def _of_wide_kernel(
    gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> torch.Tensor:
    """Compute the kernel's gradient in strips of two and three columns, each from its part of the input."""
    width, reach = weight.shape[3], (gradient.shape[3] - 1) * stride[1]
    padded = torch.nn.functional.pad(x, (padding[1], padding[1], padding[0], padding[0])) if max(padding) else x
    strips, parts = [], math.ceil(width / STRIP)
    for first, end in pairwise(math.ceil(width * i / parts) for i in range(parts + 1)):
        seen = padded[..., first : end + reach].contiguous(memory_format=torch.channels_last)
        _, strip = _gradients(gradient, seen, weight[..., : end - first], stride, (0, 0), (False, True))
        strips.append(strip)
    return torch.cat(strips, 3)


def _gradients(
    gradient: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    wanted: tuple[bool, bool],
) -> tuple[Any, Any]:
    """Compute PyTorch's own gradients of the input and the kernel; None for one that isn't wanted."""
    for_x, for_weight, _ = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, (1, 1), False, (0, 0), len(weight), (*wanted, False)
    )
    return for_x, for_weight
