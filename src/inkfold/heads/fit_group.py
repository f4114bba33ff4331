"""Fits one group of heads of one shape, from the first epoch to the last: steps, held-out accuracy, kept weights."""

import logging
import math
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int64

from inkfold.evaluation.scores import ACCURACY, Metric
from inkfold.heads.batched import BatchedHeads, HeadJob
from inkfold.heads.head import HeadSpec
from inkfold.heads.randomness import StepRandomness
from inkfold.heads.settings import lr_factor
from inkfold.heads.training_set import TrainingSet

if TYPE_CHECKING:
    from scipy.sparse import csr_array

HELD_OUT_ROWS = 2048
log = logging.getLogger("inkfold.heads")


@dataclass(slots=True)
class JobRecord:
    """What is kept of one head while and after it is fitted.

    Attributes:
        job: The fold, start and trial of the head, and how it is trained.
        losses: Sum of losses and sum of weights of each epoch.
        held_out: Sum of losses and number of right predictions on the held-out drawings after each epoch.
        right: Which held-out drawings were predicted rightly after each epoch; empty unless the best epoch is kept.
        statistics: The metric's statistics of the held-out drawings after each epoch, or the last one alone unless the best
            epoch is kept; empty where accuracy chooses.
        scores: The metric after each epoch, greater for better ones; likewise.
        tensors: The head's tensors; None before it is fitted, and if its trial diverged or was stopped.
        diverged: The epoch, from 0, in which a loss was not finite.
        stopped: Whether it is fitted no further, as its trial was stopped.
    """

    job: HeadJob
    losses: list[tuple[float, float]] = field(default_factory=list)
    held_out: list[tuple[float, int]] = field(default_factory=list)
    right: list[np.ndarray] = field(default_factory=list)
    statistics: list["csr_array"] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    tensors: dict[str, np.ndarray] | None = None
    diverged: int | None = None
    stopped: bool = False

    @property
    def is_unfinished(self) -> bool:
        """Whether the head has epochs before it."""
        return not self.stopped and self.diverged is None and len(self.held_out) < self.job.settings.epochs


class Stopped(Exception):  # noqa: N818 - ends a thread after `stopping` was set; caught by no caller
    """The group was stopped because another one failed."""


class GroupTrainer:
    """Fits one group of heads of one shape.

    Args:
        training_set: The features, class ids and folds that the heads are trained on.
        spec: Kind, widths and scaling that all of the heads have.
        jobs: The heads; those of one trial lie next to each other, and all have the same epochs and batch size.
        device: Where heads and features lie and are computed: a CPU or a GPU.
        metric: What the score is, and what chooses the best epoch.
    """

    def __init__(
        self,
        training_set: TrainingSet,
        spec: HeadSpec,
        jobs: Sequence[HeadJob],
        device: torch.device,
        metric: Metric = ACCURACY,
    ) -> None:
        self.training_set, self.spec, self.device, self.metric = training_set, spec, device, metric
        self.records = [JobRecord(job) for job in jobs]
        self._active, self._epoch = self.records, 0
        self._heads: BatchedHeads | None = None
        self.settings = jobs[0].settings
        self.epochs = self.settings.epochs
        folds = {job.fold for job in jobs}
        self.fold = folds.pop() if len(folds) == 1 else None
        self.stopping = threading.Event()
        self.steps = math.ceil(len(training_set.targets) / self.settings.batch_size)

    def run(self, epoch_done: Callable[[], None], until: int | None = None) -> list[JobRecord]:
        """Fit the heads from where they are to an epoch.

        Args:
            epoch_done: Called after each epoch, also where no head is left to fit.
            until: Number of epochs that have been fitted when it returns; None fits the heads to their end.

        Returns:
            A record of each head, in the order of the jobs.
        """
        if self._epoch == 0 and self._active:
            self._heads = BatchedHeads(self.spec, [record.job for record in self._active], self.training_set, self.device)
        end = self.epochs if until is None else min(until, self.epochs)
        for epoch in range(self._epoch, end):
            if self._heads is not None and self._active:
                self._train_epoch(self._heads, self._active, epoch)
                self._evaluate(self._heads, self._active)
                self._keep_active(self._heads, epoch)
            epoch_done()
        self._epoch = max(self._epoch, end)
        if self._epoch == self.epochs:
            self._finish()
        return self.records

    def stop(self, trials: Collection[int]) -> None:
        """Fit no further the heads of the trials of these numbers, and drop what they were fitted to."""
        for record in self._active:
            record.stopped = record.stopped or record.job.trial in trials
        self._drop(trials)

    def _finish(self) -> None:
        """Copy the heads that have no better epoch than the last, and free the memory of all."""
        for i, record in enumerate(self._active):
            if record.tensors is None and self._heads is not None:
                record.tensors = self._heads.fitted([i])
        self._heads = None

    def _train_epoch(self, heads: BatchedHeads, active: Sequence[JobRecord], epoch: int) -> None:
        training_set, batch = self.training_set, self.settings.batch_size
        features, factor = training_set.epoch_features(epoch), training_set.epoch_lr_factor(epoch)
        order = epoch_order(len(training_set.targets), training_set.seed, epoch)
        settings = list({record.job.trial: record.job.settings for record in active}.values())
        sums = torch.zeros(2, len(active), device=self.device)
        for step in range(self.steps):
            if self.stopping.is_set():
                raise Stopped
            rates = [own.lr * factor * lr_factor(own, epoch * self.steps + step, self.steps) for own in settings]
            rows = order[step * batch : (step + 1) * batch]
            used = self._used_positions(rows)
            randomness = StepRandomness(
                training_set.seed, epoch, step, batch_size=len(rows), device=self.device, used_positions=used
            )
            rows = rows if used is None else rows[used]
            targets = torch.from_numpy(training_set.targets[rows]).to(self.device)
            mask = heads.mask[:, torch.from_numpy(rows).to(self.device)]
            sums += torch.stack(heads.step(self._tensor(features[rows]), targets, mask, rates, randomness))
        for record, (loss, weight) in zip(active, sums.T.tolist(), strict=True):
            record.losses.append((loss, weight))

    def _used_positions(self, rows: np.ndarray) -> np.ndarray | None:
        """Leave out drawings that no head is trained on, where all are of one fold; one stays, so that a step is a step."""
        if self.fold is None:
            return None
        used = np.flatnonzero(self.training_set.folds.trained_on[self.fold][rows])
        return used if len(used) else np.zeros(1, np.int64)

    @torch.no_grad()
    def _evaluate(self, heads: BatchedHeads, active: Sequence[JobRecord]) -> None:
        """Predict the held-out drawings of every head."""
        for fold in dict.fromkeys(record.job.fold for record in active):
            own_heads = [i for i, record in enumerate(active) if record.job.fold == fold]
            probs = None if self.metric.is_accuracy else list[np.ndarray]()
            losses, right = self._held_out_predictions(heads, fold, own_heads, probs)
            for i, loss, own_right in zip(own_heads, losses, right, strict=True):
                active[i].held_out.append((float(loss), int(own_right.sum())))
                if self.settings.keep == "best":
                    active[i].right.append(own_right)
            if probs:
                self._score(fold, [active[i] for i in own_heads], np.concatenate(probs, axis=1))

    def _score(self, fold: int, records: Sequence[JobRecord], probs: np.ndarray) -> None:
        """Measure each head's held-out predictions (heads, rows, classes) by the metric."""
        targets = self.training_set.targets[self.training_set.folds.held_out[fold]]
        for record, own in zip(records, probs, strict=True):
            statistics = self.metric.statistics(own, targets)
            if self.settings.keep != "best":
                record.statistics.clear()
            record.statistics.append(statistics)
            record.scores.append(self.metric.signed(float(self.metric.value(statistics.sum(0)))))

    def _held_out_predictions(
        self, heads: BatchedHeads, fold: int, own_heads: list[int], probs: list[np.ndarray] | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return each head's sum of losses (heads) and which drawings it predicts rightly (heads, rows).

        Their class probabilities are added to `probs`, part by part.
        """
        rows = np.flatnonzero(self.training_set.folds.held_out[fold])
        losses, right = np.zeros(len(own_heads)), [np.zeros((len(own_heads), 0), bool)]
        for start in range(0, len(rows), HELD_OUT_ROWS):
            part = rows[start : start + HELD_OUT_ROWS]
            scores = heads.scores(self._tensor(self.training_set.features[part]), only=own_heads)
            targets = torch.from_numpy(self.training_set.targets[part]).to(self.device)
            log_probs = torch.log_softmax(scores, -1).gather(2, targets[None, :, None].expand(len(own_heads), -1, 1))
            losses -= log_probs.double().sum((1, 2)).cpu().numpy()
            right.append((scores.argmax(2) == targets).cpu().numpy())
            if probs is not None:
                probs.append(torch.softmax(scores, -1).cpu().numpy())
        return losses, np.concatenate(right, axis=1)

    def _keep_active(self, heads: BatchedHeads, epoch: int) -> None:
        """Copy heads that are the best so far, and drop the trials that diverged."""
        if self.settings.keep == "best":
            for i, record in enumerate(self._active):
                counts = record.scores or [count for _, count in record.held_out]
                if self.training_set.held_out_count(record.job.fold) and counts[-1] > max(counts[:-1], default=-math.inf):
                    record.tensors = heads.fitted([i])
        self._drop({record.job.trial for record in self._active if self._has_diverged(record, epoch)})

    def _drop(self, trials: Collection[int]) -> None:
        kept = [i for i, record in enumerate(self._active) if record.job.trial not in trials]
        for record in self._active:
            record.tensors = None if record.job.trial in trials else record.tensors
        if len(kept) < len(self._active) and self._heads is not None:
            if kept:
                self._heads.keep(kept)
            else:
                self._heads = None
        self._active = [self._active[i] for i in kept]

    def _has_diverged(self, record: JobRecord, epoch: int) -> bool:
        if math.isfinite(record.losses[-1][0]) and math.isfinite(record.held_out[-1][0]):
            return False
        record.diverged = epoch
        job = record.job
        log.info("trial %d diverged in epoch %d of fold %d, at the rate %g", job.trial, epoch + 1, job.fold, job.settings.lr)
        return True

    def _tensor(self, features: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(features).to(self.device, torch.float32)


def epoch_order(n: int, seed: int, epoch: int) -> Int64[np.ndarray, " n"]:
    """Shuffle rows as a function of seed and epoch alone, so that a resumed training continues in the same order.

    Args:
        n: Number of rows to shuffle, at least 0.
        seed: The recipe's seed, 0 to 2**32 - 1.
        epoch: Number of the epoch, from 0; each has an order of its own.

    Returns:
        Each row's number once.
    """
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 2, epoch])))
    return generator.permutation(n)


def held_out_accuracy(training_set: TrainingSet, records: Sequence[JobRecord]) -> float:
    """Compute the accuracy of heads on their held-out drawings after the last epoch.

    Args:
        training_set: Says which drawings each head's fold holds out.
        records: Heads with at least one epoch.

    Returns:
        Share of right predictions over all heads, in 0..1; NaN where nothing is held out.
    """
    right = sum(record.held_out[-1][1] for record in records)
    count = sum(training_set.held_out_count(record.job.fold) for record in records)
    return right / count if count else math.nan


def held_out_score(training_set: TrainingSet, records: Sequence[JobRecord], metric: Metric) -> float:
    """Compute a metric of heads on their held-out drawings after the last epoch, greater for better heads.

    Args:
        training_set: Says which drawings each head's fold holds out.
        records: Heads with at least one epoch.
        metric: The metric that they were fitted with.

    Returns:
        The score over all heads; NaN where nothing is held out.
    """
    if metric.is_accuracy:
        return held_out_accuracy(training_set, records)
    sums = [record.statistics[-1].sum(0) for record in records if record.statistics]
    return metric.signed(float(metric.value(np.sum(sums, axis=0)))) if sums else math.nan
