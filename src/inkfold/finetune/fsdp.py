"""Sharding of a network that is too large for one device, by PyTorch's FSDP2.

Each process keeps its share of every parameter, gradient and moment of the optimiser; a block's parameters are gathered where
the block computes, and freed again. Reading or writing full tensors is a collective operation: all processes call it together.
"""

from collections.abc import Mapping, Sequence
from itertools import takewhile

import torch
import torch.distributed as dist

from inkfold.finetune.distributed import ProcessGroup
from inkfold.finetune.network import Network

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def shard(network: Network, process_group: ProcessGroup, precision: str) -> None:
    """Shard a network's parameters, block by block, then those that are in no block.

    Args:
        network: The network on the CPU, the same in all processes but for its head, which the first process sends the others;
            changed in place, and moved to the process's device a block at a time.
        process_group: The processes, each of which then holds a share of every parameter.
        precision: Precision of the forward and backward pass, in which parameters are sent; gradients are sent in float32. With
            batch norms parameters are sent in float32 too, as theirs must have the type of their statistics.

    Source: Zhao et al., "PyTorch FSDP", arXiv 2304.11277.
    """
    from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415 - seconds that one process needn't pay
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard  # noqa: PLC0415

    mesh = init_device_mesh(process_group.device.type, (process_group.size,))
    normed = any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in network.modules())
    policy = MixedPrecisionPolicy(None if normed else HALVES.get(precision), torch.float32, cast_forward_inputs=False)
    network.head.to(process_group.device)
    for values in network.head.parameters():
        dist.broadcast(values.detach(), 0)
    for block in blocks(network.backbone):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(network.head, mesh=mesh)  # it computes in float32
    fully_shard(network, mesh=mesh, mp_policy=policy)


def blocks(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Find the modules of a timm model that compute one after the other, inner ones first.

    Args:
        model: timm's model, with or without LoRA's additions.

    Returns:
        Modules that hold all parameters of one of timm's layer groups; parameters outside of such modules, such as position
        embeddings, are in none. Empty for a model that timm can't group.
    """
    from timm.models import group_parameters  # noqa: PLC0415 - seconds

    matcher = getattr(model, "group_matcher", None)
    modules: dict[str, torch.nn.Module] = {}
    for names in group_parameters(model, matcher(coarse=False)).values() if matcher is not None else ():
        place = _common_module(names)
        module = model.get_submodule(place)
        computes = not isinstance(module, torch.nn.ModuleList | torch.nn.ModuleDict)
        if place and computes and any(model.get_parameter(name).ndim > 1 for name in names):
            modules[place] = module
    return [modules[place] for place in sorted(modules, key=lambda place: -place.count("."))]


def _common_module(names: Sequence[str]) -> str:
    """Return the name of the innermost module that holds all of some parameters."""
    levels = zip(*(name.split(".")[:-1] for name in names), strict=False)
    return ".".join(level[0] for level in takewhile(lambda level: len({*level}) == 1, levels))


def full_tensor(values: torch.Tensor) -> torch.Tensor:
    """Gather a sharded tensor in every process; one that isn't sharded is returned as it is."""
    from torch.distributed.tensor import DTensor  # noqa: PLC0415 - seconds that one process needn't pay

    return values.full_tensor() if isinstance(values, DTensor) else values


def gather(tensors: Mapping[str, torch.Tensor], *, keep: bool) -> dict[str, torch.Tensor]:
    """Gather tensors one after the other, so that the device holds only one of them in full.

    Args:
        tensors: Tensors by name, in the same order in all processes.
        keep: Whether this process needs the result; else it only contributes its shares.

    Returns:
        Full tensors on the CPU; empty unless they are kept.
    """
    gathered = {}
    for name, values in tensors.items():
        full = full_tensor(values)
        if keep:
            gathered[name] = full.cpu()
    return gathered


def shard_like(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Shard a full tensor as another one is.

    Args:
        values: The full tensor, the same in all processes.
        like: A tensor of the same shape, sharded or not, whose form the result has.

    Returns:
        The values on the device and in the type of `like`, this process's share of them where that is sharded; nothing is sent.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor  # noqa: PLC0415 - seconds

    moved = values.to(like.device, like.dtype)
    return (
        distribute_tensor(moved, like.device_mesh, like.placements, src_data_rank=None) if isinstance(like, DTensor) else moved
    )
