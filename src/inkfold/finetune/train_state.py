"""A network in training: what is trained of it, its optimiser and its average, and all of that as tensors to go on from."""

import contextlib
import gc
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Bool, Float32, Int64

from inkfold.augment.views import IDENTITY
from inkfold.config.sections import FinetuneSettings
from inkfold.finetune.distributed import ProcessGroup
from inkfold.finetune.fsdp import gathered, laid_as, shard, whole
from inkfold.finetune.network import HeadModule, Network, recompute_activations
from inkfold.finetune.plan import FinetunePlan
from inkfold.models.backbone import NetworkInput
from inkfold.models.depthwise import learn_quickly

HELD_OUT_BATCH = 64


class TrainState:
    """One fold's network while it is trained.

    Args:
        plan: What is trained, and how.
        fold: Whose head it starts with.
        world: The processes that train it.

    Attributes:
        sharded: Whether each process holds a share of the network.
    """

    def __init__(self, plan: FinetunePlan, fold: int, world: ProcessGroup) -> None:
        settings, device = plan.settings, world.device
        self._world, self._settings, self._fresh = world, settings, partial(_network, plan, fold)
        self.sharded = settings.shard == "full" and world.size > 1
        self.network = self._fresh()
        if device.type == "cpu":
            learn_quickly(self.network.backbone)
        if settings.checkpointing:
            recompute_activations(self.network.backbone, plan.info.name)
        if world.size > 1 and device.type == "cuda":
            self.network = synchronised(self.network)
        self._averaged = _averaged(self.network, settings.ema, together=not self.sharded)
        networks = [self.network] if self._averaged is None else [self.network, self._averaged.module]
        for network in networks:
            if self.sharded:
                shard(network, world, settings.precision)
            else:
                network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        groups = self.network.parameter_groups(settings.weight_decay, settings.layer_decay, settings.head_lr_factor)
        self._optimiser = _optimiser(settings, groups, sharded=self.sharded)
        self._parameters = [one for group in groups for one in group["params"]]
        self._scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "float16")
        self._alone: torch.nn.Module = torch.compile(self.network) if settings.compiled else self.network  # type: ignore[assignment]
        self._model = self._alone
        if world.size > 1 and not self.sharded:
            ids = [device.index] if device.type == "cuda" else None
            self._model = torch.nn.parallel.DistributedDataParallel(self._alone, device_ids=ids)
        self._names = list(self.network.moving())
        self._statistics = [values for name, values in self.network.named_buffers() if name in self._names]

    @property
    def answering(self) -> Network:
        """The network that predicts: the averaged one where there is one."""
        return self.network if self._averaged is None else self._averaged.module

    def forget(self) -> None:
        """Drop gradients."""
        self._optimiser.zero_grad(set_to_none=True)

    def answer(
        self, images: Float32[torch.Tensor, "n channels size size"]
    ) -> tuple[Float32[torch.Tensor, "n classes"], Float32[torch.Tensor, "n d"]]:
        """Give scores and features of normalised drawings, for a loss."""
        with autocast(self._settings.precision, self._world.device):
            scores, features = self._model(images.contiguous(memory_format=torch.channels_last))
        return scores.float(), features

    def backward(self, loss: torch.Tensor) -> None:
        """Add a loss's gradient."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def rehearse(self, images: Float32[torch.Tensor, "n channels size size"]) -> bool:
        """Go forwards and backwards as a step does, this process for itself, and leave nothing behind.

        Twice: the second time gradients lie there already, as in a step of several parts. The optimiser's moments, which come
        with the first step, have their room too. Batch norms rest, so that they neither learn nor meet the other processes'.

        Args:
            images: Normalised drawings, as many as go forwards at once.

        Returns:
            Whether memory sufficed.
        """
        try:
            for module in self.network.train().modules():
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    module.eval()
            moments = [torch.empty_like(one) for one in self._parameters for _ in range(self._moments_to_come)]
            for _ in range(2):
                with autocast(self._settings.precision, self._world.device):
                    scores, _ = self._alone(images.contiguous(memory_format=torch.channels_last))
                self.backward(scores.float().square().mean())
            del moments
        except torch.OutOfMemoryError:
            return False
        finally:
            self.forget()
            self.network.train()
        return True

    def unshared(self, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Keep gradients to this process until the batch's last part."""
        if last or self._world.size == 1 or self.sharded:  # whole gradients of all parts are what doesn't fit
            return contextlib.nullcontext()
        return self._model.no_sync()  # type: ignore[operator, no-any-return]

    def update(self, rate: float, step: int) -> float:
        """Take a step along the gradient.

        Args:
            rate: Of the backbone's last layers.
            step: From 0, over all epochs.

        Returns:
            The gradient's norm; where it isn't finite, nothing was changed. 0 with a scaler, which leaves such steps out.
        """
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["lr_scale"]
        self._scaler.unscale_(self._optimiser)
        parameters = [one for one in self._parameters if one.grad is not None]
        length = torch.nn.utils.clip_grad_norm_(parameters, self._settings.clip_norm or math.inf)
        norm = float(whole(length) if self.sharded else length)
        if math.isfinite(norm) or self._scaler.is_enabled():
            self._scaler.step(self._optimiser)
            self._scaler.update()
            self._agree()
            if self._averaged is not None:
                self._averaged.update(self.network, step=step)
        return 0.0 if self._scaler.is_enabled() else norm

    def values(self, network: Network) -> dict[str, torch.Tensor]:
        """Give what training changes, as it lies in a network; all processes must ask at once."""
        return gathered(self._held(network), kept=True) if self.sharded else self._held(network)

    @torch.no_grad()
    def put(self, network: Network, values: Mapping[str, torch.Tensor]) -> None:
        """Put such values in their place."""
        for name, there in self._held(network).items():
            there.copy_(laid_as(values[name], there) if self.sharded else values[name])

    def whole_network(self, values: Mapping[str, torch.Tensor]) -> Network:
        """Give a network with such values that isn't shared out; nothing is trained after that."""
        network = self._fresh() if self.sharded else self.network
        self.put(network, values)
        return network

    def save(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Give all that the next step depends on, tensors and plain values; the first process has them, all must ask."""
        tensors = {f"network.{name}": values for name, values in self._held(self.network).items()}
        if self._averaged is not None:
            tensors |= {f"averaged.{name}": values for name, values in self._held(self._averaged.module).items()}
        held = self._optimiser.state_dict()["state"]
        tensors |= {f"optimiser.{i}.{key}": value for i, of in held.items() for key, value in of.items() if value is not None}
        if self.sharded:
            tensors = gathered(tensors, kept=self._world.is_first)
        return tensors, self._scaler.state_dict()

    def restore(self, tensors: Mapping[str, torch.Tensor], scaler: dict[str, Any]) -> None:
        """Take up what `save` gave.

        The optimiser's moments must lie in memory as their parameters do, or fused updates mix them up.
        """
        self.put(self.network, _below("network.", tensors))
        if self._averaged is not None:
            self.put(self._averaged.module, _below("averaged.", tensors))
        held: dict[int, dict[str, torch.Tensor]] = {}
        for name, values in _below("optimiser.", tensors).items():
            index, _, key = name.partition(".")
            held.setdefault(int(index), {})[key] = self._laid(values, self._parameters[int(index)]).detach()
        self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": held})
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(scaler)

    @property
    def _moments_to_come(self) -> int:
        """Tensors a parameter that the optimiser will hold and doesn't yet."""
        return 0 if self._optimiser.state else {"adamw": 2, "sgd": 1}[self._settings.optimiser]

    def _laid(self, values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        if values.shape != like.shape:  # a count of steps
            return values
        return laid_as(values, like) if self.sharded else torch.empty_like(like).copy_(values)

    def _held(self, network: Network) -> dict[str, torch.Tensor]:
        there = network.state_dict()
        return {name: there[name] for name in self._names}

    def _agree(self) -> None:
        """Take the first process's statistics, as DDP does; on GPUs batch norms agree by themselves."""
        if self.sharded and self._world.device.type == "cpu":
            for values in self._statistics:
                dist.broadcast(values, 0)


@torch.no_grad()
def examine(
    network: Network, plan: FinetunePlan, rows: Int64[np.ndarray, " rows"], world: ProcessGroup, at_once: int = HELD_OUT_BATCH
) -> tuple[float, Bool[np.ndarray, " rows"]]:
    """Ask a network for drawings as they are.

    Args:
        network: On the world's device.
        plan: Whose drawings, and the precision.
        rows: Which of them.
        world: Each process asks for its share.
        at_once: Drawings a forward, at the most.

    Returns:
        The sum of their losses, and which are named rightly.
    """
    network.eval()
    asked = np.arange(len(rows) + -len(rows) % world.size)[world.rank :: world.size]  # as many forwards in each process
    batches = [asked[start : start + at_once] for start in range(0, len(asked), at_once)]
    shown = plan.feeder.batches([rows[one % len(rows)] for one in batches], IDENTITY)
    loss, right, given = np.zeros(()), np.zeros(len(rows)), NetworkInput(plan.info, world.device)
    for batch, pixels in zip(batches, shown, strict=True):
        with autocast(plan.settings.precision, world.device):
            scores = network(given.of(pixels).contiguous(memory_format=torch.channels_last))[0].float()
        part = batch[batch < len(rows)]
        targets = torch.from_numpy(plan.targets[rows[part]]).to(scores.device)
        loss += float(torch.nn.functional.cross_entropy(scores[: len(part)], targets, reduction="sum"))
        right[part] = (scores[: len(part)].argmax(1) == targets).cpu().numpy()
    return float(world.total(loss)), world.total(right) > 0


def release_memory(device: torch.device) -> None:
    """Free a network that nobody holds any more: sharded ones hold themselves, and only Python's collector finds that."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def synchronised(network: Network) -> Network:
    """Let batch norms of several processes agree, by timm's own way: PyTorch's loses the activations that timm's norms hold."""
    from timm.layers import convert_sync_batchnorm  # noqa: PLC0415 - seconds

    converted: Network = convert_sync_batchnorm(network)
    return converted


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Compute in a precision while the block runs; weights stay in float32."""
    kind = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)
    return torch.autocast(device.type, kind, enabled=kind is not None)


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): values for name, values in tensors.items() if name.startswith(prefix)}


def _optimiser(settings: FinetuneSettings, groups: Sequence[dict[str, Any]], *, sharded: bool) -> torch.optim.Optimizer:
    if settings.optimiser == "sgd":
        return torch.optim.SGD(list(groups), settings.lr, momentum=0.9, fused=not sharded)  # PyTorch 2.13 has no fused one then
    return torch.optim.AdamW(list(groups), settings.lr, fused=True)


def _network(plan: FinetunePlan, fold: int) -> Network:
    return Network(plan.info, HeadModule(plan.spec, plan.heads, fold, plan.spec.dropout), plan.settings, plan.seed)


def _averaged(network: Network, decay: float, *, together: bool) -> Any:
    if not decay:
        return None
    from timm.utils import ModelEmaV3  # noqa: PLC0415 - seconds

    return ModelEmaV3(network, decay, use_warmup=True, foreach=together)
