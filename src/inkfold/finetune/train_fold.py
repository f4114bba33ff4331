"""Trains a backbone and its head end to end, for one fold; after a kill at any moment it resumes from its last checkpoint.

An uninterrupted and a resumed training end with the same bits on a CPU: the order of drawings is a function of seed, fold and
epoch, each drawing's view one of the curriculum, and what a step draws one of seed, fold, epoch and step. No state of a loader
or random generator matters.
"""

import contextlib
import logging
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inkfold.augment.views import IDENTITY
from inkfold.data.splits import Folds
from inkfold.errors import CacheError, RecipeError
from inkfold.evaluation.tensorboard import FOLD_EVENTS, append_events
from inkfold.finetune.checkpoint import FoldState, load_checkpoint, save_checkpoint
from inkfold.finetune.distillation import relation_loss
from inkfold.finetune.distributed import ProcessGroup
from inkfold.finetune.mixup import Mixing, seeded
from inkfold.finetune.plan import FinetunePlan
from inkfold.finetune.train_state import HELD_OUT_BATCH, TrainState, evaluate, release_memory
from inkfold.heads.fit import Epoch
from inkfold.heads.fit_group import epoch_order
from inkfold.heads.settings import cool_down_factor, cool_down_start, lr_factor
from inkfold.models.backbone import NetworkInput, keep_freed_memory
from inkfold.runtime.progress import Progress, silent

CHECKPOINTS = "checkpoints"
CHECKPOINT_S = 30.0  # at most so many seconds of work are lost
CHECKPOINT_SHARE = 0.05  # of the time may go into writing them
NAMED = 5  # drawings in a message
log = logging.getLogger("inkfold.finetune")


class _NotFinite(Exception):  # noqa: N818 - handled here
    """A loss or gradient is infinite or NaN."""


class FoldTrainer:
    """Fine-tunes a backbone and its head on the training drawings of one fold.

    Args:
        plan: What is trained, on which drawings, and how.
        folds: Which drawings each fold trains on, and which it holds out.
        fold: Number of the fold, from 0.
        out: The run's directory, for the fold's checkpoints and its curve, which TensorBoard can read meanwhile.
        process_group: The processes that train it together.
        progress: Called after each step.

    Raises:
        RecipeError: If batches have fewer drawings than there are processes, or memory doesn't suffice for the network.
    """

    train_state: TrainState

    def __init__(
        self,
        plan: FinetunePlan,
        folds: Folds,
        fold: int,
        out: Path,
        process_group: ProcessGroup,
        progress: Progress = silent,
    ) -> None:
        self.plan, self.fold, self.process_group, self.progress = plan, fold, process_group, progress
        self.settings = plan.settings
        self.own, self.held_out = np.flatnonzero(folds.trained_on[fold]), np.flatnonzero(folds.held_out[fold])
        self.steps = math.ceil(len(self.own) / self.settings.batch_size)
        self._directory, self.last = out / CHECKPOINTS, out / CHECKPOINTS / f"fold{fold}.last.safetensors"
        self._events = out / FOLD_EVENTS.format(fold)
        if len(self.own) // self.steps < process_group.size:
            raise RecipeError(
                f"finetune.batch_size: {process_group.size} processes can't share batches of {len(self.own) // self.steps} "
                "drawings. Raise it, or start fewer processes."
            )
        self._stages = plan.curriculum.lr_factors()
        self.identity = plan.identity(self.own, fold)
        self._input = NetworkInput(plan.info, process_group.device)
        self._mixing = Mixing(self.settings, plan.num_classes) if self.settings.mixup or self.settings.cutmix else None
        self._retried, self._micro_batch = False, self.settings.micro_batch or self.settings.batch_size
        self._start()

    def run(self) -> FoldState:
        """Train to the end, from the last checkpoint where there is one.

        Returns:
            The trained tensors and the curve.

        Raises:
            RecipeError: If a loss isn't finite, also when the training is tried a second time, or memory doesn't suffice.
            CacheError: If the disk is full; the work up to the last checkpoint is kept.
        """
        with keep_freed_memory():
            self._resume()
            self._find_micro_batch()
            if self.fold_state.epoch < self.settings.trained_epochs:
                self._log_settings()
            while self.fold_state.epoch < self.settings.trained_epochs:
                try:
                    self._epoch()
                except _NotFinite as error:
                    if self._retried:
                        raise RecipeError(str(error)) from None
                    log.info("fold %d: a loss or gradient was not finite; trying again from the last checkpoint", self.fold)
                    self._retried = True
                    self._start()
                    self._resume()
        return self._finish()

    def _start(self) -> None:
        """Build the network as it is before the first step."""
        if hasattr(self, "train_state"):  # two networks might be too much for the memory
            del self.train_state
            release_memory(self.process_group.device)
        self.fold_state = FoldState(micro_batch=self._micro_batch)
        try:
            self.train_state = TrainState(self.plan, self.fold, self.process_group)
        except torch.OutOfMemoryError:
            raise self._out_of_memory() from None
        self._saved, self._write_s = time.monotonic(), 0.0

    def _log_settings(self) -> None:
        log.info(
            "fold %d: %d drawings, %d held out; %d epochs of %d steps in %s, batches of %d, at most %d drawings a forward pass",
            *(self.fold, len(self.own), len(self.held_out), self.settings.trained_epochs, self.steps, self.settings.precision),
            *(math.ceil(len(self.own) / self.steps), self._forward_size),
        )

    def _epoch(self) -> None:
        """Train an epoch, or the rest of it, to its end."""
        state, plan = self.fold_state, self.plan
        self.train_state.network.train()
        order = self.own[epoch_order(len(self.own), plan.seed, state.epoch * 1000 + self.fold)]
        batches = np.array_split(order, self.steps)[state.step :]
        shares = [self.process_group.share(batch) for batch in batches]
        loaded = plan.loader.batches(shares, plan.curriculum.view(state.epoch))
        with contextlib.closing(loaded):
            for batch, share, pixels in zip(batches, shares, loaded, strict=True):
                self._step(batch, share, pixels)
                state.step += 1
                done = state.epoch * self.steps + state.step
                self.progress(f"fine-tuning fold {self.fold + 1}", done, self.settings.trained_epochs * self.steps)
                if state.step < self.steps:
                    self._save_if_due()
        self._end_epoch()

    def _end_epoch(self) -> None:
        state, settings, network = self.fold_state, self.settings, self.train_state.prediction_network
        batch_size = min(HELD_OUT_BATCH, 4 * state.micro_batch)  # without gradients a drawing takes a fraction of the memory
        loss, right = evaluate(network, self.plan, self.held_out, self.process_group, batch_size)
        held_out = max(len(self.held_out), 1)
        figures = (loss / held_out, float(right.sum()) / held_out) if len(self.held_out) else (math.nan, math.nan)
        rate = settings.lr * self._rate_factor(state.epoch, 0)
        state.curve.append(Epoch(rate, state.sums[0] / state.sums[1], *figures))
        state.right.append(right)
        if settings.keep == "best" and (state.best is None or right.sum() > state.right[state.best].sum()):
            state.best = state.epoch
            values = self.train_state.trained_values(network)
            if self.process_group.is_first:
                save_checkpoint(self._best_path(state.epoch), values, self._best_mark())
        state.epoch, state.step, state.sums = state.epoch + 1, 0, [0.0, 0.0]
        self._save()
        self._remove_old_best()
        self._write_curve()

    def _write_curve(self) -> None:
        """Append to TensorBoard's curve, only after the checkpoint with the same epochs, so that none comes twice."""
        stage, curve = self.plan.curriculum.stage, self.fold_state.curve
        if self.process_group.is_first:
            points = [{"epoch": epoch, "stage": stage(epoch), **asdict(point)} for epoch, point in enumerate(curve)]
            append_events(self._events, {"epochs": points})

    def _step(self, batch: np.ndarray, share: np.ndarray, pixels: np.ndarray) -> None:
        """Train on one batch, of which this process has a share."""
        state = self.fold_state
        rate = self.settings.lr * self._rate_factor(state.epoch, state.step)
        while True:
            try:
                loss = self._accumulate(len(batch), share, pixels)
                break
            except torch.OutOfMemoryError:
                if self.process_group.size > 1:  # the others wait for this one
                    raise self._out_of_memory() from None
                self._halve_micro_batch()
        loss = float(self.process_group.total(np.array(loss)))
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
            return self.train_state.update(rate, self.fold_state.epoch * self.steps + self.fold_state.step)
        except torch.OutOfMemoryError:  # some of the weights have moved already
            raise self._out_of_memory() from None

    def _accumulate(self, batch_size: int, share: np.ndarray, pixels: np.ndarray) -> float:
        """Add up the gradient of the batch's mean loss, a micro-batch at a time."""
        state, train_state, group, device = self.fold_state, self.train_state, self.process_group, self.process_group.device
        train_state.zero_grad()
        targets, teacher_features = torch.from_numpy(self.plan.targets[share]).to(device), self._teacher_features(share)
        loss, starts = 0.0, range(0, math.ceil(batch_size / group.size), state.micro_batch)  # as many in each process
        with seeded((self.plan.seed, 5, self.fold, state.epoch, state.step, group.rank), device):
            mixed = None if self._mixing is None else self._mixing.mixed(self._input.of(pixels), targets)
            for start in starts:
                counts = start < len(share)  # else a drawing of weight 0 stands in: the others wait for a forward pass
                part = slice(start, start + state.micro_batch) if counts else slice(0, 1)
                images, labels = (
                    (self._input.of(pixels[part]), targets[part]) if mixed is None else (mixed[0][part], mixed[1][part])
                )
                with train_state.gradients_kept_local(last=start == starts[-1]):
                    part_loss = self._loss(images, labels, teacher_features[part]) * counts / (batch_size / group.size)
                    train_state.backward(part_loss)
                loss += float(part_loss.detach()) / group.size
        return loss

    def _loss(self, images: torch.Tensor, labels: torch.Tensor, teacher_features: torch.Tensor) -> torch.Tensor:
        smoothing = self.settings.label_smoothing if self._mixing is None else 0.0  # timm's mixup smooths by itself
        scores, features = self.train_state.forward(images)
        loss = torch.nn.functional.cross_entropy(scores, labels, reduction="sum", label_smoothing=smoothing)
        teacher = self.plan.teacher
        return loss if teacher is None else loss + teacher.weight * relation_loss(features, teacher_features)

    def _teacher_features(self, rows: np.ndarray) -> torch.Tensor:
        """Read the teacher's features of drawings under the epoch's view; of width 0 without a teacher."""
        teacher = self.plan.teacher
        if teacher is None:
            return torch.empty(len(rows), 0)
        features = teacher.features.read(self.plan.curriculum.view(self.fold_state.epoch))[rows]
        return torch.from_numpy(features).to(self.process_group.device).float()

    def _finish(self) -> FoldState:
        """Add the trained tensors to the state."""
        state, train_state = self.fold_state, self.train_state
        kept = train_state.trained_values(train_state.prediction_network)
        if state.best is not None:
            path = self._best_path(state.best)
            best = load_checkpoint(path)
            if best is None or best[1] != self._best_mark():
                raise CacheError(f"{path}: is gone or another training's. Remove {self.last} too and train again.")
            kept = best[0]
            log.info("fold %d: kept the weights of epoch %d of %d", self.fold, state.best + 1, self.settings.epochs)
        network = train_state.full_network(kept)
        state.changes = {name: values.detach().cpu().clone() for name, values in network.changes().items()}
        state.head = network.head.tensors()
        return state

    def _best_path(self, epoch: int) -> Path:
        """Name the file of an epoch's weights: the best ones so far stay until the checkpoint knows of better ones."""
        return self._directory / f"fold{self.fold}.best{epoch}.safetensors"

    def _remove_old_best(self) -> None:
        if self.process_group.is_first and self.fold_state.best is not None:
            for path in self._directory.glob(f"fold{self.fold}.best*.safetensors"):
                if path != self._best_path(self.fold_state.best):
                    path.unlink(missing_ok=True)

    def _best_mark(self) -> dict[str, Any]:
        """Return what distinguishes this training's best weights from others."""
        return {"identity": self.identity, "epoch": self.fold_state.best}

    def _find_micro_batch(self) -> None:
        """Halve the micro-batch until it fits the memory of every process.

        Within a step of several processes it is too late to do so, as they wait for each other. A sharded network can't be
        tried, as it takes all processes.
        """
        while not self.train_state.sharded and (self.process_group.size > 1 or self.process_group.device.type == "cuda"):
            (pixels,) = self.plan.loader.batches([self.own[: self._forward_size]], IDENTITY)
            fits = self.train_state.fits_memory(self._input.of(pixels))
            if not self.process_group.total(np.array(float(not fits))):
                break
            self._halve_micro_batch()

    @property
    def _forward_size(self) -> int:
        """Most drawings that a process takes in one forward pass."""
        return min(self.fold_state.micro_batch, math.ceil(self.settings.batch_size / self.process_group.size))

    def _halve_micro_batch(self) -> None:
        state = self.fold_state
        if self._forward_size == 1:
            raise self._out_of_memory()
        self.train_state.zero_grad()
        release_memory(self.process_group.device)
        state.micro_batch = self._forward_size // 2
        note = (
            f"fold {self.fold}: memory ran out; continues with {state.micro_batch} drawings per forward pass, "
            "with as many per step as before"
        )
        log.info("%s", note)
        state.notes = [*(older for older in state.notes if "memory ran out" not in older), note]

    def _out_of_memory(self) -> RecipeError:
        return RecipeError(
            f"fold {self.fold}: out of memory at {self._forward_size} drawings per forward pass. Set finetune.micro_batch "
            "lower, finetune.checkpointing=true, with several processes finetune.shard=full, or take a smaller image.size."
        )

    def _rate_factor(self, epoch: int, step: int) -> float:
        number = epoch * self.steps + step
        factor = lr_factor(self.settings, number, self.steps) * cool_down_factor(self.settings, number, self.steps)
        return self._stages[epoch] * factor

    def _save_if_due(self) -> None:
        interval = max(CHECKPOINT_S, self._write_s / CHECKPOINT_SHARE)
        due = self.process_group.is_first and time.monotonic() - self._saved >= interval
        if float(self.process_group.total(np.array(due))):
            self._save()

    def _save(self) -> None:
        """Write all that the next step depends on."""
        started = time.monotonic()
        tensors, scaler = self.train_state.save()
        if self.process_group.is_first:
            right, plain = self.fold_state.to_checkpoint(len(self.held_out))
            tensors["right"] = right
            about = {"identity": self.identity, "stop_epoch": self.settings.stop_epoch, "steps": self.steps, "scaler": scaler}
            save_checkpoint(self.last, tensors, {**about, **plain})
        self.process_group.wait()
        self._saved, self._write_s = time.monotonic(), time.monotonic() - started

    def _resume(self) -> None:
        """Continue from the last checkpoint of this training, if there is one."""
        checkpoint = load_checkpoint(self.last)
        if checkpoint is not None and checkpoint[1].get("identity") != self.identity:
            reason = "the checkpoint there was of another training (other data, weights or PyTorch)"
            self.fold_state.notes.append(f"fold {self.fold}: {reason}, so it is trained from the beginning")
            checkpoint = None
        epoch, step = (-1, -1) if checkpoint is None else (checkpoint[1]["epoch"], checkpoint[1]["step"])
        self._check_agreement(epoch, step)
        if checkpoint is None:
            return
        tensors, plain = checkpoint
        self._check_cool_down(plain.get("stop_epoch"), epoch * self.steps + step)
        log.info("fold %d: continues %s after %d epochs and %d steps", self.fold, self.last, epoch, step)
        self.train_state.restore(tensors, plain["scaler"])
        self.fold_state = FoldState.from_checkpoint(tensors["right"], plain)
        self.fold_state.micro_batch = min(self.fold_state.micro_batch, self._micro_batch)
        self._write_curve()

    def _check_cool_down(self, stop_epoch: int | None, done: int) -> None:
        """Raise an error if a checkpoint had cooled down by then to end after other epochs, or should have cooled down."""
        if stop_epoch == self.settings.stop_epoch:
            return
        before = self.settings.model_copy(update={"stop_epoch": stop_epoch})
        starts = [cool_down_start(settings, self.steps) for settings in (before, self.settings)]
        if any(start is not None and done > start for start in starts):
            raise RecipeError(
                f"finetune.stop_epoch: fold {self.fold} was trained for {done / self.steps:.1f} epochs with "
                f"{stop_epoch or 'none'}, and its rates differ from those with {self.settings.stop_epoch or 'none'} by then. "
                f"Set it as before, or later, or remove {self.last} to train the fold from the beginning."
            )

    def _check_agreement(self, epoch: int, step: int) -> None:
        """Raise an error unless all processes continue from the same step."""
        own = np.array((epoch, step), float)
        if not np.array_equal(self.process_group.total(own), own * self.process_group.size):
            raise CacheError(
                f"{self.last}: not all processes found the same checkpoint. out= must lie on a directory that all machines see."
            )
