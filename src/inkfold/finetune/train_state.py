"""A network in training: its trained part, optimiser and moving average, and all of that as tensors to continue from."""

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
from inkfold.finetune.fsdp import full_tensor, gather, shard, shard_like
from inkfold.finetune.network import HeadModule, Network, recompute_activations
from inkfold.finetune.plan import FinetunePlan
from inkfold.models.backbone import NetworkInput
from inkfold.models.depthwise import learn_quickly

HELD_OUT_BATCH = 64


class TrainState:
    """One fold's network, optimiser and moving average while the fold is trained.

    Args:
        plan: Network, drawings and settings, the same for all folds.
        fold: Number of the fold, from 0, whose head the network starts with.
        process_group: The processes that train it together.

    Attributes:
        network: The backbone with its head, on the device, with the weights of the latest step.
        sharded: Whether each process holds only a share of the network.
    """

    def __init__(self, plan: FinetunePlan, fold: int, process_group: ProcessGroup) -> None:
        settings, device = plan.settings, process_group.device
        self._process_group, self._settings, self._new_network = process_group, settings, partial(_network, plan, fold)
        self.sharded = settings.shard == "full" and process_group.size > 1
        self.network = self._new_network()
        if device.type == "cpu":
            learn_quickly(self.network.backbone)
        if settings.checkpointing:
            recompute_activations(self.network.backbone, plan.info.name)
        if process_group.size > 1 and device.type == "cuda":
            self.network = synchronised(self.network)
        self._averaged = _averaged(self.network, settings.ema, foreach=not self.sharded)
        for network in [self.network] if self._averaged is None else [self.network, self._averaged.module]:
            if self.sharded:
                shard(network, process_group, settings.precision)
            else:
                network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        groups = self.network.parameter_groups(settings.weight_decay, settings.layer_decay, settings.head_lr_factor)
        self._optimiser = _optimiser(settings, groups, sharded=self.sharded)
        self._parameters = [parameter for group in groups for parameter in group["params"]]
        self._scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "float16")
        self._local: torch.nn.Module = torch.compile(self.network) if settings.compiled else self.network  # type: ignore[assignment]
        self._model = self._local
        if process_group.size > 1 and not self.sharded:
            ids = [device.index] if device.type == "cuda" else None
            self._model = torch.nn.parallel.DistributedDataParallel(self._local, device_ids=ids)
        self._names = list(self.network.trained_tensors())
        self._statistics = [values for name, values in self.network.named_buffers() if name in self._names]

    @property
    def prediction_network(self) -> Network:
        """The network that predicts: the moving average where there is one, else the trained network."""
        return self.network if self._averaged is None else self._averaged.module

    def zero_grad(self) -> None:
        """Drop all gradients."""
        self._optimiser.zero_grad(set_to_none=True)

    def forward(
        self, images: Float32[torch.Tensor, "n channels size size"]
    ) -> tuple[Float32[torch.Tensor, "n classes"], Float32[torch.Tensor, "n d"]]:
        """Compute class scores and features of normalised drawings, for a loss."""
        with autocast(self._settings.precision, self._process_group.device):
            scores, features = self._model(images.contiguous(memory_format=torch.channels_last))
        return scores.float(), features

    def backward(self, loss: torch.Tensor) -> None:
        """Add a loss's gradient to the gradients so far."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def fits_memory(self, images: Float32[torch.Tensor, "n channels size size"]) -> bool:
        """Try whether memory suffices for a step, without the other processes, and leave no trace.

        It goes forwards and backwards twice: the second time gradients exist already, as in a step of several parts. Room for
        the optimiser's moments, which the first step creates, is taken too. Batch norms are in evaluation mode, so that they
        neither change nor wait for other processes.

        Args:
            images: Normalised drawings, as many as go forwards at once.

        Returns:
            Whether memory sufficed.
        """
        try:
            for module in self.network.train().modules():
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    module.eval()
            moments = [torch.empty_like(values) for values in self._parameters for _ in range(self._missing_moments)]
            for _ in range(2):
                with autocast(self._settings.precision, self._process_group.device):
                    scores, _ = self._local(images.contiguous(memory_format=torch.channels_last))
                self.backward(scores.float().square().mean())
            del moments
        except torch.OutOfMemoryError:
            return False
        finally:
            self.zero_grad()
            self.network.train()
        return True

    def gradients_kept_local(self, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Don't send gradients to the other processes while the block runs, unless it is the batch's last part."""
        if last or self._process_group.size == 1 or self.sharded:  # a sharded network has no room for full gradients
            return contextlib.nullcontext()
        return self._model.no_sync()  # type: ignore[operator, no-any-return]

    def update(self, rate: float, step: int) -> float:
        """Take a step along the gradient.

        Args:
            rate: Learning rate of the backbone's last layers, at least 0.
            step: Number of the step, from 0, over all epochs.

        Returns:
            The gradient's norm; where it isn't finite, nothing was changed. With float16's scaler always 0, as it leaves such
            steps out by itself.
        """
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["lr_scale"]
        self._scaler.unscale_(self._optimiser)
        parameters = [parameter for parameter in self._parameters if parameter.grad is not None]
        length = torch.nn.utils.clip_grad_norm_(parameters, self._settings.clip_norm or math.inf)
        norm = float(full_tensor(length) if self.sharded else length)
        if math.isfinite(norm) or self._scaler.is_enabled():
            self._scaler.step(self._optimiser)
            self._scaler.update()
            self._broadcast_statistics()
            if self._averaged is not None:
                self._averaged.update(self.network, step=step)
        return 0.0 if self._scaler.is_enabled() else norm

    def trained_values(self, network: Network) -> dict[str, torch.Tensor]:
        """Return the full tensors that training changes in a network, by name; all processes must call it together."""
        tensors = self._trained_tensors(network)
        return gather(tensors, keep=True) if self.sharded else tensors

    def full_network(self, values: Mapping[str, torch.Tensor]) -> Network:
        """Return a network with the given trained values that isn't sharded; no training may follow."""
        network = self._new_network() if self.sharded else self.network
        self._load(network, values)
        return network

    def save(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return all that the next step depends on; all processes must call it together, and the first one gets the tensors.

        Returns:
            Tensors by name, and the state of float16's scaler as JSON values.
        """
        tensors = {f"network.{name}": values for name, values in self._trained_tensors(self.network).items()}
        if self._averaged is not None:
            tensors |= {f"averaged.{name}": values for name, values in self._trained_tensors(self._averaged.module).items()}
        states = self._optimiser.state_dict()["state"]
        tensors |= {f"optimiser.{i}.{key}": x for i, state in states.items() for key, x in state.items() if x is not None}
        if self.sharded:
            tensors = gather(tensors, keep=self._process_group.is_first)
        return tensors, self._scaler.state_dict()

    def restore(self, tensors: Mapping[str, torch.Tensor], scaler: dict[str, Any]) -> None:
        """Continue from what `save` returned.

        The optimiser's moments must lie in memory as their parameters do, or fused updates mix them up.

        Args:
            tensors: The full tensors by name, as `save` returned them.
            scaler: State of float16's scaler; ignored in other precisions.
        """
        self._load(self.network, _below("network.", tensors))
        if self._averaged is not None:
            self._load(self._averaged.module, _below("averaged.", tensors))
        states: dict[int, dict[str, torch.Tensor]] = {}
        for name, values in _below("optimiser.", tensors).items():
            index, _, key = name.partition(".")
            states.setdefault(int(index), {})[key] = self._like_parameter(values, self._parameters[int(index)]).detach()
        self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": states})
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(scaler)

    @property
    def _missing_moments(self) -> int:
        """Tensors per parameter that the optimiser creates in its first step."""
        return 0 if self._optimiser.state else {"adamw": 2, "sgd": 1}[self._settings.optimiser]

    def _like_parameter(self, values: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
        if values.shape != parameter.shape:  # a count of steps
            return values
        return shard_like(values, parameter) if self.sharded else torch.empty_like(parameter).copy_(values)

    def _trained_tensors(self, network: Network) -> dict[str, torch.Tensor]:
        tensors = network.state_dict()
        return {name: tensors[name] for name in self._names}

    @torch.no_grad()
    def _load(self, network: Network, values: Mapping[str, torch.Tensor]) -> None:
        for name, target in self._trained_tensors(network).items():
            target.copy_(shard_like(values[name], target) if self.sharded else values[name])

    def _broadcast_statistics(self) -> None:
        """Take the first process's statistics, as DDP does; on GPUs batch norms are synchronised instead."""
        if self.sharded and self._process_group.device.type == "cpu":
            for values in self._statistics:
                dist.broadcast(values, 0)


@torch.no_grad()
def evaluate(
    network: Network,
    plan: FinetunePlan,
    rows: Int64[np.ndarray, " rows"],
    process_group: ProcessGroup,
    batch_size: int = HELD_OUT_BATCH,
) -> tuple[float, Bool[np.ndarray, " rows"]]:
    """Predict drawings as they are, with all processes together.

    Args:
        network: The network, on the process's device.
        plan: Has the drawings, their classes and the precision.
        rows: Row of each drawing to predict, among the training drawings.
        process_group: The processes; each predicts its share.
        batch_size: Drawings per forward pass, at least 1.

    Returns:
        The sum of their losses, and whether each was predicted rightly.
    """
    network.eval()
    # Positions beyond the last wrap around, so that each process makes as many forward passes.
    own = np.arange(len(rows) + -len(rows) % process_group.size)[process_group.rank :: process_group.size]
    batches = [own[start : start + batch_size] for start in range(0, len(own), batch_size)]
    loaded = plan.loader.batches([rows[batch % len(rows)] for batch in batches], IDENTITY)
    loss, right, to_input = np.zeros(()), np.zeros(len(rows)), NetworkInput(plan.info, process_group.device)
    for batch, pixels in zip(batches, loaded, strict=True):
        with autocast(plan.settings.precision, process_group.device):
            scores = network(to_input.of(pixels).contiguous(memory_format=torch.channels_last))[0].float()
        part = batch[batch < len(rows)]
        targets = torch.from_numpy(plan.targets[rows[part]]).to(scores.device)
        loss += float(torch.nn.functional.cross_entropy(scores[: len(part)], targets, reduction="sum"))
        right[part] = (scores[: len(part)].argmax(1) == targets).cpu().numpy()
    return float(process_group.total(loss)), process_group.total(right) > 0


def release_memory(device: torch.device) -> None:
    """Free networks that are no longer used: sharded ones have reference cycles, which only Python's collector finds."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def synchronised(network: Network) -> Network:
    """Synchronise batch norms between processes, by timm's conversion: PyTorch's loses the activations inside timm's norms."""
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


def _averaged(network: Network, decay: float, *, foreach: bool) -> Any:
    if not decay:
        return None
    from timm.utils import ModelEmaV3  # noqa: PLC0415 - seconds

    return ModelEmaV3(network, decay, use_warmup=True, foreach=foreach)
