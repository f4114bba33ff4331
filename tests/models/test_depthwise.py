import copy

import pytest
import torch

from inkfold.models.depthwise import DepthwiseConv2d, learn_quickly
from inkfold.models.torchvision_compat import declare_missing_operators

declare_missing_operators()

from timm.layers import Conv2dSame  # noqa: E402 - after the operators

CHANNELS = 8


def convolution(
    kernel: int = 5, stride: int = 2, padding: int = 0, *, kind: type = torch.nn.Conv2d, bias: bool = True
) -> torch.nn.Conv2d:
    torch.manual_seed(kernel * 100 + stride * 10 + padding)
    made: torch.nn.Conv2d = kind(CHANNELS, CHANNELS, kernel, stride, padding, groups=CHANNELS, bias=bias)
    return made


def gradients(module: torch.nn.Module, x: torch.Tensor, kind: torch.dtype = torch.float32) -> list[torch.Tensor]:
    x = x.clone().requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
        y = module(x)
    assert y.dtype == kind
    y.float().sin().sum().backward()
    return [y.float().detach(), x.grad, *(one.grad for one in module.parameters())]


def drawings(height: int = 19, width: int = 14) -> torch.Tensor:
    torch.manual_seed(7)
    return torch.randn(3, CHANNELS, height, width)


@pytest.mark.parametrize("kind", [torch.nn.Conv2d, Conv2dSame])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 7, 9])
def test_learns_as_pytorchs_own(kernel: int, stride: int, kind: type) -> None:
    padding = kernel // 2 if kind is torch.nn.Conv2d else 0
    own = convolution(kernel, stride, padding, kind=kind)
    quick = DepthwiseConv2d(copy.deepcopy(own))
    for ours, theirs in zip(gradients(quick, drawings()), gradients(own, drawings()), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_learns_in_bfloat16_as_pytorchs_own(padding: int) -> None:
    own = convolution(5, 2, padding)
    quick = DepthwiseConv2d(copy.deepcopy(own))
    ours, theirs = gradients(quick, drawings(), torch.bfloat16), gradients(own, drawings(), torch.bfloat16)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02 * float(other.abs().max()))


@pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning")  # PyTorch's own doing
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_torch_compile_takes_it_whole(kind: torch.dtype) -> None:
    module = DepthwiseConv2d(convolution(7, 2, 3))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(module, backend="aot_eager")
    expected = gradients(module, drawings(), kind)
    module.zero_grad()
    for one, other in zip(gradients(compiled, drawings(), kind), expected, strict=True):
        torch.testing.assert_close(one, other)
    assert not torch._dynamo.utils.counters["graph_break"]


def test_learns_with_strides_and_kernels_that_differ_by_side() -> None:
    own = torch.nn.Conv2d(CHANNELS, CHANNELS, (3, 5), (1, 2), (0, 2), groups=CHANNELS, bias=False)
    quick = DepthwiseConv2d(copy.deepcopy(own))
    for ours, theirs in zip(gradients(quick, drawings()), gradients(own, drawings()), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_makes_no_gradient_that_nobody_wants() -> None:
    module = DepthwiseConv2d(convolution())
    module.weight.requires_grad_(False)
    x = drawings().requires_grad_(True)
    module(x).sum().backward()
    assert module.weight.grad is None
    assert x.grad is not None
    module(drawings()).sum().backward()  # the bias alone
    with torch.no_grad():
        assert not module(drawings()).requires_grad


def test_replaces_depthwise_convolutions_alone() -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(CHANNELS, CHANNELS, 3),
        torch.nn.Sequential(convolution(), convolution(kind=Conv2dSame)),
        torch.nn.Conv2d(CHANNELS, 2 * CHANNELS, 3, groups=CHANNELS),
        torch.nn.Conv2d(2 * CHANNELS, 2 * CHANNELS, 3, groups=CHANNELS),
        torch.nn.Conv2d(2 * CHANNELS, 2 * CHANNELS, 3, groups=2 * CHANNELS, dilation=2),
        torch.nn.Conv2d(2 * CHANNELS, 2 * CHANNELS, 3, groups=2 * CHANNELS, padding="same"),
        torch.nn.Conv2d(2 * CHANNELS, 2 * CHANNELS, 3, groups=2 * CHANNELS, padding=1, padding_mode="reflect"),
    ).eval()
    before = dict(model.named_parameters())
    learn_quickly(model)
    assert [name for name, module in model.named_modules() if isinstance(module, DepthwiseConv2d)] == ["1.0", "1.1"]
    assert {name: id(values) for name, values in model.named_parameters()} == {name: id(one) for name, one in before.items()}
    assert not any(module.training for module in model.modules())


def test_a_copy_has_weights_of_its_own() -> None:
    module = DepthwiseConv2d(convolution())
    other = copy.deepcopy(module)
    with torch.no_grad():
        other.weight.zero_()
        other.bias.zero_()
        assert not other(drawings()).any()
        assert module(drawings()).any()
