"""A network whose parameters lie shared out among processes, for one too large for a device: PyTorch's FSDP2.

Each process keeps its share of every parameter, gradient and moment of the optimiser; a block's parameters are put together
where the block computes, and parted again. Whoever writes or reads them asks for whole tensors, all processes together.
"""

from collections.abc import Mapping, Sequence
from itertools import takewhile

import torch
import torch.distributed as dist

from inkfold.finetune.distributed import ProcessGroup
from inkfold.finetune.network import Network

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def shard(network: Network, world: ProcessGroup, precision: str) -> None:
    """Share a network's parameters out, block by block, then what is left of them.

    Args:
        network: On the CPU, the same in all processes but for its head, which becomes the first one's; changed in place, and
            moved to the world's device a block at a time.
        world: The processes.
        precision: Of forward and backward. Parameters travel in it, gradients in float32. With batch norms parameters travel in
            float32 too: theirs must be of the type of their statistics.

    Source: Zhao et al., "PyTorch FSDP", arXiv 2304.11277.
    """
    from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415 - seconds that one process needn't pay
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard  # noqa: PLC0415

    mesh = init_device_mesh(world.device.type, (world.size,))
    normed = any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in network.modules())
    policy = MixedPrecisionPolicy(None if normed else HALVES.get(precision), torch.float32, cast_forward_inputs=False)
    network.head.to(world.device)
    for values in network.head.parameters():
        dist.broadcast(values.detach(), 0)
    for block in blocks(network.backbone):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(network.head, mesh=mesh)  # it computes in float32
    fully_shard(network, mesh=mesh, mp_policy=policy)


def blocks(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Find the parts of a timm model that compute one after the other, inner ones first.

    Args:
        model: With or without additions; one that timm can't group has none.

    Returns:
        Modules that hold all parameters of one of timm's layer groups; what lies about, as position embeddings do, is in none.
    """
    from timm.models import group_parameters  # noqa: PLC0415 - seconds

    matcher = getattr(model, "group_matcher", None)
    found: dict[str, torch.nn.Module] = {}
    for names in group_parameters(model, matcher(coarse=False)).values() if matcher is not None else ():
        place = _common_place(names)
        module = model.get_submodule(place)
        computes = not isinstance(module, torch.nn.ModuleList | torch.nn.ModuleDict)
        if place and computes and any(model.get_parameter(name).ndim > 1 for name in names):
            found[place] = module
    return [found[place] for place in sorted(found, key=lambda place: -place.count("."))]


def _common_place(names: Sequence[str]) -> str:
    """Name the innermost module that holds all of some parameters."""
    levels = zip(*(name.split(".")[:-1] for name in names), strict=False)
    return ".".join(level[0] for level in takewhile(lambda level: len({*level}) == 1, levels))


def whole(values: torch.Tensor) -> torch.Tensor:
    """Put a tensor together; all processes must ask at once."""
    from torch.distributed.tensor import DTensor  # noqa: PLC0415 - seconds that one process needn't pay

    return values.full_tensor() if isinstance(values, DTensor) else values


def gathered(tensors: Mapping[str, torch.Tensor], *, kept: bool) -> dict[str, torch.Tensor]:
    """Put tensors together, one after the other, so that the device holds one of them at a time.

    Args:
        tensors: By name, in the same order in all processes.
        kept: Whether this process wants them; else it only gives its shares.

    Returns:
        Whole ones on the CPU; none where they aren't kept.
    """
    found = {}
    for name, values in tensors.items():
        together = whole(values)
        if kept:
            found[name] = together.cpu()
    return found


def laid_as(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Lay a whole tensor out as another one is.

    Args:
        values: The same in all processes.
        like: Shared out or not.

    Returns:
        This process's share of it, on the other's device; nothing is sent.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor  # noqa: PLC0415 - seconds

    moved = values.to(like.device, like.dtype)
    return (
        distribute_tensor(moved, like.device_mesh, like.placements, src_data_rank=None) if isinstance(like, DTensor) else moved
    )
