"""Depthwise convolutions that learn quickly on a CPU, where two of PyTorch's own gradients take tens of times the forward pass.

oneDNN, which PyTorch computes them with, has no kernel for a kernel's gradient that is wider than 3, and none in bfloat16 for
the gradient of a strided convolution's input; what it falls back to is most of a training step of EfficientNet. Both have a
quick way round: the kernel's gradient is made in strips of two and three columns, the input's in float32.
`benchmarks/depthwise.py` measures it.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch.autograd.function import once_differentiable

STRIP = 3  # columns of a kernel's gradient that oneDNN has a kernel for


class DepthwiseConv2d(torch.nn.Conv2d):
    """A depthwise convolution as another one was, with the same parameters.

    Args:
        given: What it takes the place of: PyTorch's own or timm's with TensorFlow's padding.
    """

    def __init__(self, given: torch.nn.Conv2d) -> None:
        sides: dict[str, Any] = {"kernel_size": given.kernel_size, "stride": given.stride, "padding": given.padding}
        channels, bias = given.in_channels, given.bias is not None
        super().__init__(channels, channels, groups=channels, bias=bias, device="meta", **sides)
        self.weight, self.bias = given.weight, given.bias
        self._same = type(given) is not torch.nn.Conv2d
        self.train(given.training)

    def forward(self, input: Float[torch.Tensor, "n c h w"]) -> Float[torch.Tensor, "n c new_h new_w"]:  # noqa: A002 - PyTorch's name
        """Convolve."""
        if self._same:
            from timm.layers import pad_same  # noqa: PLC0415 - seconds

            input = pad_same(input, self.kernel_size, self.stride)  # noqa: A001
        weight, bias = self.weight, self.bias
        if torch.is_autocast_enabled("cpu"):
            kind = torch.get_autocast_dtype("cpu")
            input, weight, bias = input.to(kind), weight.to(kind), None if bias is None else bias.to(kind)  # noqa: A001
        return _Convolved.apply(input, weight, bias, self.stride, self.padding)  # type: ignore[no-any-return, no-untyped-call]


def learn_quickly(model: torch.nn.Module) -> None:
    """Replace a model's depthwise convolutions by such, in place; names and parameters stay.

    Args:
        model: To be trained on a CPU.
    """
    from timm.layers import Conv2dSame  # noqa: PLC0415 - seconds

    for name, module in list(model.named_modules()):
        if type(module) in (torch.nn.Conv2d, Conv2dSame) and _can_be(module):
            model.set_submodule(name, DepthwiseConv2d(module))


def _can_be(given: torch.nn.Conv2d) -> bool:
    depthwise = given.groups == given.in_channels == given.out_channels > 1
    plain = given.padding_mode == "zeros" and not isinstance(given.padding, str) and set(given.dilation) == {1}
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
        wanted = ctx.needs_input_grad
        of_x = _of_input(gradient, x, weight, ctx.stride, ctx.padding) if wanted[0] else None
        of_weight = _of_weight(gradient, x, weight, ctx.stride, ctx.padding) if wanted[1] else None
        of_bias = gradient.sum((0, 2, 3)) if wanted[2] else None
        return of_x, of_weight, of_bias, None, None


def _of_input(
    gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> torch.Tensor:
    """Give the gradient of what was convolved."""
    if max(stride) == 1 or x.dtype != torch.bfloat16:
        return _gradients(gradient, x, weight, stride, padding, 0)
    like = torch.empty_like(x, dtype=torch.float32)  # its values don't count
    return _gradients(gradient.float(), like, weight.float(), stride, padding, 0).to(x.dtype)


def _of_weight(
    gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> torch.Tensor:
    """Give the kernel's gradient, in strips of two and three columns where it is wider."""
    width, reach = weight.shape[3], (gradient.shape[3] - 1) * stride[1]
    if width <= STRIP:
        return _gradients(gradient, x, weight, stride, padding, 1)
    padded = torch.nn.functional.pad(x, (padding[1], padding[1], padding[0], padding[0])) if max(padding) else x
    strips = []
    for columns in torch.arange(width).tensor_split(-(-width // STRIP)):
        first, count = int(columns[0]), len(columns)
        seen = padded[..., first : first + reach + count].contiguous(memory_format=torch.channels_last)
        strips.append(_gradients(gradient, seen, weight[..., :count], stride, (0, 0), 1))
    return torch.cat(strips, 3)


def _gradients(
    gradient: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    which: int,
) -> torch.Tensor:
    """Give PyTorch's own gradient of the input (0) or the kernel (1)."""
    mask = [which == 0, which == 1, False]
    found: tuple[torch.Tensor, ...] = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, (1, 1), False, (0, 0), len(weight), mask
    )
    return found[which]
