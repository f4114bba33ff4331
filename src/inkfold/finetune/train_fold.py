"""Trains a backbone and its head end to end, for one fold; killed anywhere, it goes on from its last checkpoint.

An uninterrupted run and a continued one end with the same bits on a CPU: the order of drawings is a function of seed, fold and
epoch, each drawing's view of the curriculum, and what a step draws of seed, fold, epoch and step. No state of any loader or
generator counts.
"""

import contextlib
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from inkfold.augment.views import IDENTITY
from inkfold.errors import CacheError, RecipeError
from inkfold.evaluation.tensorboard import FOLD_EVENTS, append_events
from inkfold.finetune.checkpoint import FoldState, load_checkpoint, save_checkpoint
from inkfold.finetune.distillation import relation_loss
from inkfold.finetune.distributed import ProcessGroup
from inkfold.finetune.mixup import Mixing, seeded
from inkfold.finetune.plan import FinetunePlan
from inkfold.finetune.train_state import HELD_OUT_BATCH, TrainState, examine, release_memory
from inkfold.heads.fit import Epoch
from inkfold.heads.fit_group import epoch_order
from inkfold.heads.settings import lr_factor
from inkfold.models.backbone import NetworkInput, keep_freed_memory
from inkfold.runtime.progress import Progress, silent

CHECKPOINTS = "checkpoints"
CHECKPOINT_S = 30.0  # at the most so much work is lost
CHECKPOINT_SHARE = 0.05  # of the time may go into writing them
NAMED = 5  # drawings in a message


class _NotFinite(Exception):  # noqa: N818 - handled here
    """A loss or gradient that is no number."""


class FoldTrainer:
    """The training of one fold.

    Args:
        plan: What, on what, and how.
        own: True where this fold learns from a drawing.
        fold: Its number.
        out: The run's directory: its checkpoints lie there, and its curve for those who look on.
        world: The processes that train it.
        progress: Told after each step.
    """

    engine: TrainState

    def __init__(
        self,
        plan: FinetunePlan,
        own: Bool[np.ndarray, " n"],
        fold: int,
        out: Path,
        world: ProcessGroup,
        progress: Progress = silent,
    ) -> None:
        self.plan, self.fold, self.world, self.progress = plan, fold, world, progress
        self.settings = plan.settings
        self.own, self.held_out = np.flatnonzero(own), np.flatnonzero(~own)
        self.steps = math.ceil(len(self.own) / self.settings.batch_size)
        self._directory, self.last = out / CHECKPOINTS, out / CHECKPOINTS / f"fold{fold}.last.safetensors"
        self._events = out / FOLD_EVENTS.format(fold)
        if len(self.own) // self.steps < world.size:
            raise RecipeError(
                f"finetune.batch_size: {world.size} processes can't share batches of {len(self.own) // self.steps} drawings. "
                "Raise it, or start fewer processes."
            )
        self._stages = plan.curriculum.lr_factors()
        self.identity = plan.identity(self.own, fold)
        self._input = NetworkInput(plan.info, world.device)
        self._mixing = Mixing(self.settings, plan.num_classes) if self.settings.mixup or self.settings.cutmix else None
        self._retried, self._micro_batch = False, self.settings.micro_batch or self.settings.batch_size
        self._begin()

    def run(self) -> FoldState:
        """Train to the end, from the last checkpoint where there is one.

        Returns:
            What became of it.

        Raises:
            RecipeError: If the loss isn't a number, also when it is tried a second time.
            CacheError: If the disk is full; what was done is kept.
        """
        with keep_freed_memory():
            self._continue()
            self._rehearse()
            while self.state.epoch < self.settings.epochs:
                try:
                    self._epoch()
                except _NotFinite as error:
                    if self._retried:
                        raise RecipeError(str(error)) from None
                    self._retried = True
                    self._begin()
                    self._continue()
        return self._outcome()

    def _begin(self) -> None:
        """Start from the beginning."""
        if hasattr(self, "engine"):  # two of them might be too much for the memory
            del self.engine
            release_memory(self.world.device)
        self.state = FoldState(micro_batch=self._micro_batch)
        try:
            self.engine = TrainState(self.plan, self.fold, self.world)
        except torch.OutOfMemoryError:
            raise self._no_room() from None
        self._saved, self._write_s = time.monotonic(), 0.0

    def _epoch(self) -> None:
        """Go on with an epoch to its end."""
        state, plan = self.state, self.plan
        self.engine.network.train()
        order = self.own[epoch_order(len(self.own), plan.seed, state.epoch * 1000 + self.fold)]
        batches = np.array_split(order, self.steps)[state.step :]
        shares = [self.world.share(batch) for batch in batches]
        shown = plan.feeder.batches(shares, plan.curriculum.view(state.epoch))
        with contextlib.closing(shown):
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
        at_once = min(HELD_OUT_BATCH, 4 * state.micro_batch)  # without gradients a drawing takes a fraction of the memory
        loss, right = examine(self.engine.answering, self.plan, self.held_out, self.world, at_once)
        held_out = max(len(self.held_out), 1)
        figures = (loss / held_out, float(right.sum()) / held_out) if len(self.held_out) else (math.nan, math.nan)
        rate = settings.lr * self._rate_factor(state.epoch, 0)
        state.curve.append(Epoch(rate, state.sums[0] / state.sums[1], *figures))
        state.right.append(right)
        if settings.keep == "best" and (state.best is None or right.sum() > state.right[state.best].sum()):
            state.best = state.epoch
            values = self.engine.values(self.engine.answering)
            if self.world.is_first:
                save_checkpoint(self._best(state.epoch), values, self._best_mark())
        state.epoch, state.step, state.sums = state.epoch + 1, 0, [0.0, 0.0]
        self._save()
        self._remove_old_best()
        self._show_curve()

    def _show_curve(self) -> None:
        """Let others look on; never before the checkpoint that has the same epochs, so that none of them comes twice."""
        stage, curve = self.plan.curriculum.stage, self.state.curve
        if self.world.is_first:
            points = [{"epoch": epoch, "stage": stage(epoch), **asdict(point)} for epoch, point in enumerate(curve)]
            append_events(self._events, {"epochs": points})

    def _step(self, batch: np.ndarray, mine: np.ndarray, pixels: np.ndarray) -> None:
        """Learn from one batch."""
        state, settings = self.state, self.settings
        rate = settings.lr * self._rate_factor(state.epoch, state.step)
        while True:
            try:
                loss = self._accumulate(len(batch), mine, pixels)
                break
            except torch.OutOfMemoryError:
                if self.world.size > 1:  # the others wait for this one
                    raise self._no_room() from None
                self._halve()
        loss = float(self.world.total(np.array(loss)))
        norm = self._update(rate) if math.isfinite(loss) else math.nan
        if not math.isfinite(norm):
            names = ", ".join(str(name) for name in self.plan.names[batch[:NAMED]])
            raise _NotFinite(
                f"fold {self.fold}: the {'gradient' if math.isfinite(loss) else 'loss'} was not finite, twice: epoch "
                f"{state.epoch + 1}, step {state.step + 1} of {self.steps}, at the rate {rate:.3g}, with {names} and "
                f"{max(len(batch) - NAMED, 0)} more. Lower finetune.lr, raise finetune.warmup_epochs, or look at the drawings."
            )
        state.trained += len(batch)
        state.sums = [state.sums[0] + loss * len(batch), state.sums[1] + len(batch)]

    def _update(self, rate: float) -> float:
        try:
            return self.engine.update(rate, self.state.epoch * self.steps + self.state.step)
        except torch.OutOfMemoryError:  # some of the weights have moved already
            raise self._no_room() from None

    def _accumulate(self, total: int, mine: np.ndarray, pixels: np.ndarray) -> float:
        """Add up the gradient of the batch's mean loss, some drawings at a time."""
        state, engine, device = self.state, self.engine, self.world.device
        engine.forget()
        targets, taught = torch.from_numpy(self.plan.targets[mine]).to(device), self._taught(mine)
        loss, parts = 0.0, range(0, math.ceil(total / self.world.size), state.micro_batch)  # as many in each process
        with seeded((self.plan.seed, 5, self.fold, state.epoch, state.step, self.world.rank), device):
            mixed = None if self._mixing is None else self._mixing.mixed(self._input.of(pixels), targets)
            for start in parts:
                there = start < len(mine)  # else a drawing that counts nothing stands in: the others wait for a forward
                part = slice(start, start + state.micro_batch) if there else slice(0, 1)
                images, wanted = (
                    (self._input.of(pixels[part]), targets[part]) if mixed is None else (mixed[0][part], mixed[1][part])
                )
                with engine.unshared(last=start == parts[-1]):
                    part_loss = self._loss(images, wanted, taught[part]) * there / (total / self.world.size)
                    engine.backward(part_loss)
                loss += float(part_loss.detach()) / self.world.size
        return loss

    def _loss(self, images: torch.Tensor, wanted: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
        smoothing = self.settings.label_smoothing if self._mixing is None else 0.0  # timm's mixup smooths by itself
        scores, features = self.engine.answer(images)
        loss = torch.nn.functional.cross_entropy(scores, wanted, reduction="sum", label_smoothing=smoothing)
        return loss if self.plan.teacher is None else loss + self.plan.teacher.weight * relation_loss(features, taught)

    def _taught(self, rows: np.ndarray) -> torch.Tensor:
        """Give what the teacher says of drawings under the epoch's view; nothing without one."""
        teacher = self.plan.teacher
        if teacher is None:
            return torch.empty(len(rows), 0)
        features = teacher.features.read(self.plan.curriculum.view(self.state.epoch))[rows]
        return torch.from_numpy(features).to(self.world.device).float()

    def _outcome(self) -> FoldState:
        state, engine = self.state, self.engine
        kept = engine.values(engine.answering)
        if state.best is not None:
            path = self._best(state.best)
            best = load_checkpoint(path)
            if best is None or best[1] != self._best_mark():
                raise CacheError(f"{path}: is gone or another training's. Remove {self.last} too and train again.")
            kept = best[0]
        network = engine.whole_network(kept)
        state.changes = {name: values.detach().cpu().clone() for name, values in network.changes().items()}
        state.head = network.head.tensors()
        return state

    def _best(self, epoch: int) -> Path:
        """Name the file of an epoch's weights: the best one's so far stays until the checkpoint knows of a better one."""
        return self._directory / f"fold{self.fold}.best{epoch}.safetensors"

    def _remove_old_best(self) -> None:
        if self.world.is_first and self.state.best is not None:
            for path in self._directory.glob(f"fold{self.fold}.best*.safetensors"):
                if path != self._best(self.state.best):
                    path.unlink(missing_ok=True)

    def _best_mark(self) -> dict[str, Any]:
        """Tell this training's best weights from others."""
        return {"identity": self.identity, "epoch": self.state.best}

    def _rehearse(self) -> None:
        """Find out what fits, moments included: within a step of processes that wait for each other it is too late.

        A process can't go through a sharded network by itself.
        """
        while not self.engine.sharded and (self.world.size > 1 or self.world.device.type == "cuda"):
            (pixels,) = self.plan.feeder.batches([self.own[: self._at_once]], IDENTITY)
            short = not self.engine.rehearse(self._input.of(pixels))
            if not self.world.total(np.array(float(short))):
                break
            self._halve()

    @property
    def _at_once(self) -> int:
        """Drawings that a process takes forwards at once, at the most."""
        return min(self.state.micro_batch, math.ceil(self.settings.batch_size / self.world.size))

    def _halve(self) -> None:
        """Take half as many drawings at once from now on."""
        state = self.state
        if self._at_once == 1:
            raise self._no_room()
        self.engine.forget()
        release_memory(self.world.device)
        state.micro_batch = self._at_once // 2
        note = f"fold {self.fold}: memory ran out; goes on with {state.micro_batch} drawings a forward, the same batch a step"
        state.notes = [*(one for one in state.notes if "memory ran out" not in one), note]

    def _no_room(self) -> RecipeError:
        return RecipeError(
            f"fold {self.fold}: out of memory at {self._at_once} drawings a forward. Set finetune.micro_batch lower, "
            "finetune.checkpointing=true, with several processes finetune.shard=full, or take a smaller image.size."
        )

    def _rate_factor(self, epoch: int, step: int) -> float:
        return self._stages[epoch] * lr_factor(self.settings, epoch * self.steps + step, self.steps)

    def _save_now_and_then(self) -> None:
        due = max(CHECKPOINT_S, self._write_s / CHECKPOINT_SHARE)
        if float(self.world.total(np.array(self.world.is_first and time.monotonic() - self._saved >= due))):
            self._save()

    def _save(self) -> None:
        """Write all that the next step depends on."""
        started = time.monotonic()
        tensors, scaler = self.engine.save()
        if self.world.is_first:
            right, plain = self.state.kept(len(self.held_out))
            tensors["right"] = right
            save_checkpoint(self.last, tensors, {"identity": self.identity, "scaler": scaler, **plain})
        self.world.wait()
        self._saved, self._write_s = time.monotonic(), time.monotonic() - started

    def _continue(self) -> None:
        """Go on from the last checkpoint of this very training."""
        found = load_checkpoint(self.last)
        if found is not None and found[1].get("identity") != self.identity:
            note = "the checkpoint there was of another training (other data, weights or PyTorch), so this one began anew"
            self.state.notes.append(f"fold {self.fold}: {note}")
            found = None
        self._agree_on((-1, -1) if found is None else (found[1]["epoch"], found[1]["step"]))
        if found is None:
            return
        tensors, plain = found
        self.engine.restore(tensors, plain["scaler"])
        self.state = FoldState.of(tensors["right"], plain)
        self.state.micro_batch = min(self.state.micro_batch, self._micro_batch)
        self._show_curve()

    def _agree_on(self, place: tuple[int, int]) -> None:
        """Make sure that all processes go on from one place.

        Raises:
            CacheError: If they don't.
        """
        own = np.array(place, float)
        if not np.array_equal(self.world.total(own), own * self.world.size):
            raise CacheError(
                f"{self.last}: not all processes found the same checkpoint. out= must lie on a directory that all machines see."
            )
