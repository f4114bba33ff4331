"""Trains a backbone and its head end to end, for one fold; killed anywhere, it goes on from its last checkpoint.

An uninterrupted run and a continued one end with the same bits on a CPU: the order of drawings is a function of seed, fold and
epoch, each drawing's view of the curriculum, and what a step draws of seed, fold, epoch and step. No state of any loader or
generator counts.
"""

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, Shaped

from inkfold.augment import IDENTITY
from inkfold.backbone import NetworkInput, keep_freed_memory
from inkfold.checkpoint import load_checkpoint, save_checkpoint
from inkfold.course import epoch_order
from inkfold.curriculum import Curriculum
from inkfold.errors import CacheError, RecipeError
from inkfold.feeder import Feeder
from inkfold.heads import HeadSpec
from inkfold.network import HeadModule, Network, TrainedPart
from inkfold.progress import Progress, silent
from inkfold.settings import TuningSettings, lr_factor
from inkfold.shards import key_digest
from inkfold.training import Epoch
from inkfold.weights import BackboneInfo
from inkfold.world import World

CHECKPOINT_S = 30.0  # at the most so much work is lost
CHECKPOINT_SHARE = 0.05  # of the time may go into writing them
HELD_OUT_BATCH = 64
NAMED = 5  # drawings in a message


@dataclass(frozen=True, slots=True)
class Plan:
    """What is trained, on what, and how; the same for all folds.

    Attributes:
        info: The resolved backbone.
        part: Which part of it is trained.
        spec: The kind of head.
        heads: Where heads start, a member a fold.
        dropout: Of the head's hidden layers.
        settings: How.
        curriculum: Which view each epoch learns from.
        feeder: Of all training drawings.
        targets: Their class ids.
        names: Of the drawings, for messages.
        seed: Of all that is drawn.
    """

    info: BackboneInfo
    part: TrainedPart
    spec: HeadSpec
    heads: Mapping[str, Float32[np.ndarray, "folds rows columns"]]
    dropout: float
    settings: TuningSettings
    curriculum: Curriculum
    feeder: Feeder
    targets: Int64[np.ndarray, " n"]
    names: Shaped[np.ndarray, " n"]
    seed: int


@dataclass(slots=True)
class Outcome:
    """What became of a fold, and, while it is trained, how far it is.

    Attributes:
        epoch: Of the next step.
        step: The next one in it.
        sums: Losses and drawings of the epoch so far.
        curve: A point an epoch.
        right: Who of the held-out drawings was named rightly after each epoch.
        best: The epoch whose weights are kept, where the best one is.
        micro_batch: Drawings a forward.
        notes: What the user should know.
        trained: Drawings that went forwards and backwards in this call.
        changes: What training changed of the backbone, in its own names.
        head: With one member.
    """

    epoch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    curve: list[Epoch] = field(default_factory=list)
    right: list[Bool[np.ndarray, " rows"]] = field(default_factory=list)
    best: int | None = None
    micro_batch: int = 0
    notes: list[str] = field(default_factory=list)
    trained: int = 0
    changes: dict[str, torch.Tensor] = field(default_factory=dict)
    head: dict[str, np.ndarray] = field(default_factory=dict)


class _NotFinite(Exception):  # noqa: N818 - handled here
    """A loss or gradient that is no number."""


class Tuner:
    """The training of one fold.

    Args:
        plan: What, on what, and how.
        own: True where this fold learns from a drawing.
        fold: Its number.
        directory: Where its checkpoints lie.
        world: The processes that train it.
        progress: Told after each step.
    """

    def __init__(
        self,
        plan: Plan,
        own: Bool[np.ndarray, " n"],
        fold: int,
        directory: Path,
        world: World,
        progress: Progress = silent,
    ) -> None:
        self.plan, self.fold, self.world, self.progress = plan, fold, world, progress
        self.settings = plan.settings
        self.own, self.held_out = np.flatnonzero(own), np.flatnonzero(~own)
        self.steps = math.ceil(len(self.own) / self.settings.batch_size)
        self.last, self.best = (directory / f"fold{fold}.{name}.safetensors" for name in ("last", "best"))
        self.identity = self._identity()
        self._input = NetworkInput(plan.info, world.device)
        self._retried = False
        self._build()

    def run(self) -> Outcome:
        """Train to the end, from the last checkpoint where there is one.

        Returns:
            What became of it.

        Raises:
            RecipeError: If the loss isn't a number, also when it is tried a second time.
            CacheError: If the disk is full; what was done is kept.
        """
        with keep_freed_memory():
            self._continue()
            while self.state.epoch < self.settings.epochs:
                try:
                    self._epoch()
                except _NotFinite as error:
                    if self._retried:
                        raise RecipeError(str(error)) from None
                    self._retried = True
                    self._build()
                    self._continue()
        return self._outcome()

    def _build(self) -> None:
        """Start from the beginning."""
        plan, settings, device = self.plan, self.settings, self.world.device
        network = Network(plan.info, HeadModule(plan.spec, plan.heads, self.fold, plan.dropout), plan.part)
        self.network: Network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if settings.checkpointing:
            self.network.backbone.set_grad_checkpointing(True)
        if self.world.size > 1 and device.type == "cuda":
            self.network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.network)  # type: ignore[no-untyped-call]
        groups = self.network.parameter_groups(settings.weight_decay, settings.layer_decay, settings.head_lr_factor)
        self._optimiser = _optimiser(settings, groups)
        self._scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "float16")
        self._averaged = _averaged(self.network, settings.ema)
        self._model: torch.nn.Module = torch.compile(self.network) if settings.compiled else self.network  # type: ignore[assignment]
        if self.world.size > 1:
            ids = [device.index] if device.type == "cuda" else None
            self._model = torch.nn.parallel.DistributedDataParallel(self._model, device_ids=ids)
        self._names = list(self.network.moving())
        self._mixup = _mixup(settings, self._num_classes)
        self.state = Outcome(micro_batch=settings.micro_batch or settings.batch_size)
        self._saved, self._write_s = time.monotonic(), 0.0

    @property
    def _num_classes(self) -> int:
        layer = len(self.plan.spec.hidden)
        return int(self.plan.heads[f"layers.{layer}.weight"].shape[2])

    def _epoch(self) -> None:
        """Go on with an epoch to its end."""
        state, plan = self.state, self.plan
        self.network.train()
        order = self.own[epoch_order(len(self.own), plan.seed, state.epoch * 1000 + self.fold)]
        batches = np.array_split(order, self.steps)[state.step :]
        shares = [self.world.share(batch) for batch in batches]
        shown = plan.feeder.batches(shares, plan.curriculum.view(state.epoch))
        with contextlib.closing(shown):  # type: ignore[type-var]
            for batch, mine, pixels in zip(batches, shares, shown, strict=True):
                self._step(batch, mine, pixels)
                state.step += 1
                done = state.epoch * self.steps + state.step
                self.progress(f"fine-tuning fold {self.fold + 1}", done, self.settings.epochs * self.steps)
                if state.step < self.steps:
                    self._save_now_and_then()
        self._end_epoch()

    def _end_epoch(self) -> None:
        state, settings = self.state, self.settings
        loss, right = examine(self._answering(), self.plan, self.held_out, self.world)
        held_out = max(len(self.held_out), 1)
        figures = (loss / held_out, float(right.sum()) / held_out) if len(self.held_out) else (math.nan, math.nan)
        rate = settings.lr * self._rate_factor(state.epoch, 0)
        state.curve.append(Epoch(rate, state.sums[0] / state.sums[1], *figures))
        state.right.append(right)
        if settings.keep == "best" and (state.best is None or right.sum() > state.right[state.best].sum()):
            state.best = state.epoch
            if self.world.is_first:
                save_checkpoint(self.best, self._values(self._answering()), {"identity": self.identity, "epoch": state.epoch})
        state.epoch, state.step, state.sums = state.epoch + 1, 0, [0.0, 0.0]
        self._save()

    def _step(self, batch: np.ndarray, mine: np.ndarray, pixels: np.ndarray) -> None:
        """Learn from one batch."""
        state, settings = self.state, self.settings
        rate = settings.lr * self._rate_factor(state.epoch, state.step)
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["lr_scale"]
        while True:
            try:
                loss = self._accumulate(len(batch), mine, pixels)
                break
            except torch.OutOfMemoryError:
                self._halve()
        loss = float(self.world.total(np.array(loss)))
        norm = self._update() if math.isfinite(loss) else math.nan
        if not math.isfinite(norm):
            names = ", ".join(str(name) for name in self.plan.names[batch[:NAMED]])
            raise _NotFinite(
                f"fold {self.fold}: the {'gradient' if math.isfinite(loss) else 'loss'} was not finite, twice: epoch "
                f"{state.epoch + 1}, step {state.step + 1} of {self.steps}, at the rate {rate:.3g}, with {names} and "
                f"{max(len(batch) - NAMED, 0)} more. Lower finetune.lr, raise finetune.warmup_epochs, or look at the drawings."
            )
        state.trained += len(batch)
        state.sums = [state.sums[0] + loss * len(batch), state.sums[1] + len(batch)]

    def _accumulate(self, total: int, mine: np.ndarray, pixels: np.ndarray) -> float:
        """Add up the gradient of the batch's mean loss, some drawings at a time."""
        state, settings, device = self.state, self.settings, self.world.device
        self._optimiser.zero_grad(set_to_none=True)
        targets = torch.from_numpy(self.plan.targets[mine]).to(device)
        loss, parts = 0.0, list(range(0, len(mine), state.micro_batch))
        with _seeded((self.plan.seed, 5, self.fold, state.epoch, state.step, self.world.rank), device):
            mixed = None if self._mixup is None else self._mix(self._input.of(pixels), targets)
            for start in parts:
                part = slice(start, start + state.micro_batch)
                images, wanted = (
                    (self._input.of(pixels[part]), targets[part]) if mixed is None else (mixed[0][part], mixed[1][part])
                )
                images = images.contiguous(memory_format=torch.channels_last)
                with self._unshared(last=start == parts[-1]):
                    with autocast(settings.precision, device):
                        scores = self._model(images)
                    part_loss = self._loss(scores.float(), wanted) / (total / self.world.size)
                    self._scaler.scale(part_loss).backward()  # type: ignore[no-untyped-call]
                loss += float(part_loss.detach()) / self.world.size
        return loss

    def _mix(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix drawings in pairs; of an odd number the last one stays alone."""
        even = len(images) // 2 * 2
        classes, smoothing = self._num_classes, self.settings.label_smoothing
        alone = torch.nn.functional.one_hot(targets[even:], classes) * (1 - smoothing) + smoothing / classes
        mixed, wanted = self._mixup(images[:even], targets[:even]) if even else (images[:0], alone[:0])
        return torch.cat([mixed, images[even:]]), torch.cat([wanted, alone.to(wanted.dtype)])

    def _loss(self, scores: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        smoothing = self.settings.label_smoothing if self._mixup is None else 0.0  # timm's mixup smooths by itself
        return torch.nn.functional.cross_entropy(scores, wanted, reduction="sum", label_smoothing=smoothing)

    def _update(self) -> float:
        """Take a step along the gradient; give its norm."""
        self._scaler.unscale_(self._optimiser)
        parameters = [one for group in self._optimiser.param_groups for one in group["params"] if one.grad is not None]
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.settings.clip_norm or math.inf))
        if math.isfinite(norm) or self._scaler.is_enabled():
            self._scaler.step(self._optimiser)
            self._scaler.update()
            if self._averaged is not None:
                self._averaged.update(self.network, step=self.state.epoch * self.steps + self.state.step)
        return 0.0 if self._scaler.is_enabled() else norm  # a scaler leaves out such steps and lowers its scale

    def _answering(self) -> Network:
        """Give the network that predicts: the averaged one where there is one."""
        return self.network if self._averaged is None else self._averaged.module

    def _outcome(self) -> Outcome:
        state, best = self.state, load_checkpoint(self.best)
        if state.best is not None and (best is None or best[1] != {"identity": self.identity, "epoch": state.best}):
            raise CacheError(f"{self.best}: is gone or another training's. Remove {self.last} too and train again.")
        self._put(self.network, self._values(self._answering()) if best is None or state.best is None else best[0])
        state.changes = {name: values.detach().cpu().clone() for name, values in self.network.changes().items()}
        state.head = self.network.head.tensors()
        return state

    def _values(self, network: Network) -> dict[str, torch.Tensor]:
        """Give what training changes, as it lies in a network."""
        there = network.state_dict()
        return {name: there[name] for name in self._names}

    @torch.no_grad()
    def _put(self, network: Network, values: Mapping[str, torch.Tensor]) -> None:
        for name, there in self._values(network).items():
            there.copy_(values[name])

    def _halve(self) -> None:
        state = self.state
        if state.micro_batch == 1 or self.world.size > 1:  # the other processes would wait for this one for ever
            raise RecipeError(
                f"fold {self.fold}: out of memory at {state.micro_batch} drawings a forward. Set finetune.micro_batch lower, "
                "finetune.checkpointing=true, or take a smaller image.size."
            ) from None
        self._optimiser.zero_grad(set_to_none=True)
        if self.world.device.type == "cuda":
            torch.cuda.empty_cache()
        state.micro_batch = min(state.micro_batch, self.settings.batch_size) // 2
        note = f"fold {self.fold}: memory ran out; goes on with {state.micro_batch} drawings a forward, the same batch a step"
        state.notes = [note]

    def _rate_factor(self, epoch: int, step: int) -> float:
        stage = self.plan.curriculum.lr_factors()[epoch]
        return stage * lr_factor(self.settings, epoch * self.steps + step, self.steps)

    def _unshared(self, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Keep gradients to this process until the batch's last part."""
        if last or self.world.size == 1:
            return contextlib.nullcontext()
        return self._model.no_sync()  # type: ignore[operator, no-any-return]

    def _save_now_and_then(self) -> None:
        due = max(CHECKPOINT_S, self._write_s / CHECKPOINT_SHARE)
        if float(self.world.total(np.array(self.world.is_first and time.monotonic() - self._saved >= due))):
            self._save()

    def _save(self) -> None:
        """Write all that the next step depends on."""
        started = time.monotonic()
        if self.world.is_first:
            tensors = {f"network.{name}": values for name, values in self._values(self.network).items()}
            if self._averaged is not None:
                tensors |= {f"averaged.{name}": values for name, values in self._values(self._averaged.module).items()}
            held = self._optimiser.state_dict()["state"]
            tensors |= {
                f"optimiser.{i}.{key}": value for i, of in held.items() for key, value in of.items() if value is not None
            }
            state = self.state
            tensors["right"] = torch.from_numpy(np.array(state.right, np.uint8).reshape(len(state.right), len(self.held_out)))
            plain = {
                "identity": self.identity,
                "curve": [[None if math.isnan(value) else value for value in asdict(one).values()] for one in state.curve],
                "scaler": self._scaler.state_dict(),
                **{name: getattr(state, name) for name in _PLAIN},
            }
            save_checkpoint(self.last, tensors, plain)
        self.world.wait()
        self._saved, self._write_s = time.monotonic(), time.monotonic() - started

    def _continue(self) -> None:
        """Go on from the last checkpoint of this very training."""
        found = load_checkpoint(self.last)
        if found is None or found[1].get("identity") != self.identity:
            return
        tensors, plain = found
        self._put(self.network, _below("network.", tensors))
        if self._averaged is not None:
            self._put(self._averaged.module, _below("averaged.", tensors))
        self._put_optimiser(_below("optimiser.", tensors))
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(plain["scaler"])
        points = [Epoch(*(math.nan if value is None else value for value in one)) for one in plain["curve"]]
        right = [one.astype(bool) for one in tensors["right"].numpy()]
        self.state = Outcome(**{name: plain[name] for name in _PLAIN}, curve=points, right=right)

    def _put_optimiser(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Restore the optimiser; its moments must lie in memory as their parameters do, or fused updates mix them up."""
        parameters = [one for group in self._optimiser.param_groups for one in group["params"]]
        held: dict[int, dict[str, torch.Tensor]] = {}
        for name, values in tensors.items():
            index, _, key = name.partition(".")
            like = parameters[int(index)]
            laid = torch.empty_like(like).copy_(values) if values.shape == like.shape else values
            held.setdefault(int(index), {})[key] = laid.detach()
        self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": held})

    def _identity(self) -> str:
        """Name all that decides what comes out, so that a checkpoint of another training is not gone on from."""
        plan = self.plan
        view_keys = [plan.curriculum.view(epoch).key() for epoch in range(self.settings.epochs)]
        digests = plan.feeder.digests
        return key_digest(
            {
                "backbone": plan.info.key(),
                "part": asdict(plan.part),
                "head": [asdict(plan.spec), plan.dropout, sorted((n, _digest(v)) for n, v in plan.heads.items())],
                "settings": {**asdict(self.settings), "micro_batch": None},
                "views": [view_keys, plan.curriculum.lr_factors()],
                "drawings": [_digest(digests), _digest(plan.targets), _digest(self.own), plan.seed, self.fold],
                "torch": torch.__version__,
            }
        )


@torch.no_grad()
def examine(
    network: Network, plan: Plan, rows: Int64[np.ndarray, " rows"], world: World
) -> tuple[float, Bool[np.ndarray, " rows"]]:
    """Ask a network for drawings as they are.

    Args:
        network: On the world's device.
        plan: Whose drawings, and the precision.
        rows: Which of them.
        world: Each process asks for its share.

    Returns:
        The sum of their losses, and which are named rightly.
    """
    network.eval()
    own = np.arange(world.rank, len(rows), world.size)
    batches = [own[start : start + HELD_OUT_BATCH] for start in range(0, len(own), HELD_OUT_BATCH)]
    loss, right, given = np.zeros(()), np.zeros(len(rows)), NetworkInput(plan.info, world.device)
    for part, pixels in zip(batches, plan.feeder.batches([rows[one] for one in batches], IDENTITY), strict=True):
        with autocast(plan.settings.precision, world.device):
            scores = network(given.of(pixels).contiguous(memory_format=torch.channels_last)).float()
        targets = torch.from_numpy(plan.targets[rows[part]]).to(scores.device)
        loss += float(torch.nn.functional.cross_entropy(scores, targets, reduction="sum"))
        right[part] = (scores.argmax(1) == targets).cpu().numpy()
    return float(world.total(loss)), world.total(right) > 0


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Compute in a precision while the block runs; weights stay in float32."""
    kind = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)
    return torch.autocast(device.type, kind, enabled=kind is not None)


_PLAIN = ("epoch", "step", "sums", "best", "micro_batch", "notes")


def _digest(values: np.ndarray) -> str:
    import hashlib  # noqa: PLC0415

    return hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).hexdigest()


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): values for name, values in tensors.items() if name.startswith(prefix)}


def _optimiser(settings: TuningSettings, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
    if settings.optimiser == "sgd":
        return torch.optim.SGD(list(groups), settings.lr, momentum=0.9, fused=True)
    return torch.optim.AdamW(list(groups), settings.lr, fused=True)


def _averaged(network: Network, decay: float) -> Any:
    if not decay:
        return None
    from timm.utils import ModelEmaV3  # noqa: PLC0415 - seconds

    return ModelEmaV3(network, decay, use_warmup=True)


def _mixup(settings: TuningSettings, num_classes: int) -> Any:
    if not (settings.mixup or settings.cutmix):
        return None
    from timm.data import Mixup  # noqa: PLC0415 - seconds

    return Mixup(settings.mixup, settings.cutmix, label_smoothing=settings.label_smoothing, num_classes=num_classes)


@contextlib.contextmanager
def _seeded(entropy: Sequence[int], device: torch.device) -> Iterator[None]:
    """Let PyTorch and numpy draw from `entropy` while the block runs, and leave their own generators as they were."""
    seed, other = np.random.SeedSequence(list(entropy)).generate_state(2, np.uint64).tolist()
    before = np.random.get_state()  # noqa: NPY002 - timm's mixup draws there
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed >> 1)
        np.random.seed(other % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002
