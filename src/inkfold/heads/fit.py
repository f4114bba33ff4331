"""Fits the heads of all trials, folds and starts on cached features, in one program.

Heads of one shape are trained side by side on shared minibatches; each leaves out the drawings that its fold holds out, so each
ends as if it had been fitted alone on the same batches. Heads share no parameter and no random draw.
"""

import itertools
import logging
import math
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool

from inkfold.config.sections import TrainHeadSettings
from inkfold.data.splits import Folds
from inkfold.evaluation.scores import ACCURACY, Metric
from inkfold.heads.batched import HeadJob
from inkfold.heads.closed_form import compute_heads
from inkfold.heads.epoch_selection import EpochSelection, select_epochs, select_epochs_by
from inkfold.heads.fit_group import GroupTrainer, JobRecord, held_out_score
from inkfold.heads.head import HeadSpec, head_probs
from inkfold.heads.settings import lr_factor
from inkfold.heads.training_set import TrainingSet
from inkfold.runtime.progress import Progress, silent

STATE_BYTES = 16  # a weight, its gradient and the optimiser's two means
CACHE_BYTES = 16 << 20
GPU_SHARE = 0.4  # of the free memory; a step's temporary tensors need the rest
log = logging.getLogger("inkfold.heads")


@dataclass(frozen=True, slots=True)
class Trial:
    """A head and how it is trained, in every fold.

    Attributes:
        spec: The head's kind, widths, activation and scaling.
        settings: How it is trained; the precision `auto` must be resolved, else it counts as float32.
    """

    spec: HeadSpec
    settings: TrainHeadSettings


@dataclass(frozen=True, slots=True)
class Epoch:
    """One point of a training curve, over all heads of a trial.

    Attributes:
        lr: Learning rate at the epoch's start.
        loss: Mean training loss of the epoch: for each head over its own drawings, then over the heads.
        held_out_loss: Mean negative log-likelihood of the held-out drawings, as they are, after the epoch.
        held_out_accuracy: Share of the held-out drawings that are predicted rightly, in 0..1.
    """

    lr: float
    loss: float
    held_out_loss: float
    held_out_accuracy: float


@dataclass(frozen=True, slots=True)
class FittedHeads:
    """The fitted heads of a trial, or of a fine-tuning.

    Attributes:
        spec: The heads' kind, widths, activation and scaling.
        folds: The fold that each head belongs to, from 0, in the order of the tensors' first axis.
        heads: The fitted tensors in the form that `heads.head_probs` predicts with; None if the trial was stopped or diverged.
        curve: One point per epoch; empty for heads that are computed.
        selection: Which epochs were kept; None unless the best ones are.
        nested_right: For each head, which of its fold's held-out drawings, in the training set's order, it predicts rightly as
            they are, where whatever was chosen by held-out drawings (epochs, the share of fine-tuned weights) is chosen by
            other drawings; None where nothing was chosen so.
        diverged: The epoch, from 0, in which a loss was not finite; None if none was.
        held_out_accuracy: Accuracy on the held-out drawings, as they are, in 0..1; the nested estimate where the best epochs
            were kept; NaN where nothing is held out or there are no heads.
        held_out_score: The same of the metric that trials are compared by, greater for better ones; None for accuracy.
    """

    spec: HeadSpec
    folds: tuple[int, ...]
    heads: dict[str, np.ndarray] | None = None
    curve: tuple[Epoch, ...] = ()
    selection: EpochSelection | None = None
    diverged: int | None = None
    held_out_accuracy: float = math.nan
    nested_right: tuple[Bool[np.ndarray, " rows"], ...] | None = None
    held_out_score: float | None = None

    @property
    def score(self) -> float:
        """What trials are compared by: the metric, greater for better ones."""
        return self.held_out_accuracy if self.held_out_score is None else self.held_out_score


class TrialFitting:
    """Heads of several trials while they are fitted in every fold; trials can be stopped on the way.

    Args:
        training_set: Features, class ids and folds of the drawings.
        trials: Heads and how they are trained; they may differ in every setting.
        device: Where heads are fitted. None takes the CPU, as does a device that is neither CPU nor CUDA: Apple's MPS has no
            float64.
        threads_per_group: Number of threads that fit a group of heads on a CPU, at least 1. None shares all threads out; with
            1 the heads are the same to the bit however many threads there are, as sums have one order.
        folds_together: Whether the heads of all folds of small trials share groups on a CPU too: fewer steps, each of which
            also computes with drawings that some folds hold out. For many small heads, time is in the number of steps.
        progress: Called after each epoch of each group of heads.
        metric: What trials are compared by, and what chooses the best epoch where it is kept.
    """

    def __init__(
        self,
        training_set: TrainingSet,
        trials: Sequence[Trial],
        *,
        device: torch.device | None = None,
        threads_per_group: int | None = None,
        folds_together: bool = False,
        progress: Progress = silent,
        metric: Metric = ACCURACY,
    ) -> None:
        if device is None or device.type != "cuda":
            device = torch.device("cpu")
        self._training_set, self._trials, self._threads = training_set, trials, threads_per_group
        self._metric = metric
        self._groups = list(_groups(training_set, trials, device, metric, folds_together=folds_together))
        self._progress, self._total = progress, sum(group.epochs for group in self._groups)
        self._done, self._lock = itertools.count(1), threading.Lock()

    def run(self, until: Callable[[int], int] | None = None) -> None:
        """Fit all heads for more epochs; a trial of which one head diverges is stopped.

        Args:
            until: Returns after how many epochs a trial pauses, given its number of epochs; None fits all to their end.
        """
        threads = self._threads or _threads_of_each(len(self._groups), self._training_set.folds)
        _run_all(self._groups, until, threads, self._epoch_done)
        self.stop({record.job.trial for record in self._records() if record.diverged is not None})

    def scores(self) -> dict[int, float]:
        """Return each trial's metric on its held-out drawings after its last epoch, greater for better ones, by its number.

        Trials that were stopped, diverged or are at their end, and those whose heads need no steps, are left out.
        """
        by_trial: dict[int, list[JobRecord]] = {}
        for record in self._records():
            by_trial.setdefault(record.job.trial, []).append(record)
        return {
            trial: held_out_score(self._training_set, records, self._metric)
            for trial, records in sorted(by_trial.items())
            if all(record.is_unfinished for record in records)
        }

    def stop(self, trials: Collection[int]) -> None:
        """Fit no further the heads of the trials of these numbers."""
        for group in self._groups:
            group.stop(trials)

    def fitted(self) -> list[FittedHeads]:
        """Return each trial's heads, in the order of the trials; trials that were stopped have none."""
        return [
            _fitted(self._training_set, trial, [record for record in self._records() if record.job.trial == i], self._metric)
            for i, trial in enumerate(self._trials)
        ]

    def _records(self) -> Iterator[JobRecord]:
        return itertools.chain.from_iterable(group.records for group in self._groups)

    def _epoch_done(self) -> None:
        with self._lock:
            self._progress("fitting heads", next(self._done), self._total)


def fit_trials(
    training_set: TrainingSet,
    trials: Sequence[Trial],
    *,
    device: torch.device | None = None,
    threads_per_group: int | None = None,
    progress: Progress = silent,
    metric: Metric = ACCURACY,
) -> list[FittedHeads]:
    """Fit every trial in every fold to its end.

    Args:
        training_set: Features, class ids and folds of the drawings; each fold's heads are fitted on those that it trains on.
        trials: Heads and how they are trained, at least one; they may differ in every setting.
        device: Where heads are fitted: a CUDA device, or the CPU, which None and all other devices take.
        threads_per_group: Number of threads that fit a group of heads on a CPU, at least 1; None shares all threads out.
        progress: Called after each epoch of each group of heads.
        metric: What trials are compared by, and what chooses the best epoch where it is kept.

    Returns:
        The fitted heads of each trial, in the order of the trials.
    """
    fitting = TrialFitting(
        training_set, trials, device=device, threads_per_group=threads_per_group, progress=progress, metric=metric
    )
    fitting.run()
    return fitting.fitted()


def state_bytes(training_set: TrainingSet, trial: Trial) -> int:
    """Return the memory in bytes of all of a trial's heads while they are fitted: weights, gradients, the optimiser's means."""
    if not trial.spec.is_fitted_by_steps:
        return 0
    return len(training_set.folds) * trial.settings.starts * _head_bytes(trial.spec, training_set)


def _groups(
    training_set: TrainingSet, trials: Sequence[Trial], device: torch.device, metric: Metric, *, folds_together: bool
) -> Iterator[GroupTrainer]:
    """Group heads of one shape."""
    by_shape: dict[tuple[object, ...], list[HeadJob]] = {}
    for i, trial in enumerate(trials):
        settings, dropout = trial.settings, trial.spec.dropout
        shape = (trial.spec.without_dropout(), settings.epochs, settings.batch_size, settings.precision, settings.keep)
        folds, starts = range(len(training_set.folds)), range(settings.starts)
        jobs = [HeadJob(i, fold, start, settings, dropout) for fold in folds for start in starts]
        if trial.spec.is_fitted_by_steps:
            by_shape.setdefault(shape, []).extend(jobs)
    for (spec, *_), shape_jobs in by_shape.items():
        assert isinstance(spec, HeadSpec)
        size = _group_size(spec, training_set, device)
        by_fold = device.type == "cpu" and not (folds_together and size >= len(training_set.folds))
        groups = [group for jobs in _partitions(shape_jobs, by_fold=by_fold) for group in _dealt(jobs, size)]
        _log_groups(spec, groups, device, by_fold=by_fold)
        for group in groups:
            yield GroupTrainer(training_set, spec, group, device, metric)


def _log_groups(spec: HeadSpec, groups: Sequence[Sequence[HeadJob]], device: torch.device, *, by_fold: bool) -> None:
    memory = f"{CACHE_BYTES >> 20} MiB of cache" if device.type == "cpu" else f"{GPU_SHARE:.0%} of the GPU's free memory"
    reason = f"the weights and optimiser states of a group fit {memory}"
    if by_fold:
        reason += ", and its heads hold out the same fold"
    log.info(
        "fitting %d %s heads on %s in %s, at most %d at once in each of %d groups: %s",
        sum(map(len, groups)),
        spec.kind,
        device,
        groups[0][0].settings.precision,
        max(map(len, groups)),
        len(groups),
        reason,
    )


def _partitions(jobs: Sequence[HeadJob], *, by_fold: bool) -> list[list[HeadJob]]:
    """Part jobs that share no group.

    Heads of one fold are best fitted by themselves on a CPU: no product is computed with the drawings that the fold holds out.
    """
    if not by_fold:
        return [list(jobs)]
    return [[job for job in jobs if job.fold == fold] for fold in dict.fromkeys(job.fold for job in jobs)]


def _dealt(jobs: Sequence[HeadJob], size: int) -> Iterator[list[HeadJob]]:
    """Deal jobs out to as few groups of at most `size` heads as possible, all of about one length."""
    for part in np.array_split(np.arange(len(jobs)), -(-len(jobs) // size)):
        yield [jobs[i] for i in part]


def _group_size(spec: HeadSpec, training_set: TrainingSet, device: torch.device) -> int:
    """Return how many heads are best fitted side by side: on a CPU what fits its cache, on a GPU what fits its memory."""
    budget = CACHE_BYTES if device.type == "cpu" else int(GPU_SHARE * torch.cuda.mem_get_info(device)[0])
    return max(1, budget // _head_bytes(spec, training_set))


def _head_bytes(spec: HeadSpec, training_set: TrainingSet) -> int:
    widths = spec.widths(training_set.features.shape[1], training_set.num_classes)
    return STATE_BYTES * sum(inputs * outputs for inputs, outputs in itertools.pairwise(widths))


def _threads_of_each(groups: int, folds: Folds) -> int:
    """Share the threads out among groups, as if all parts were held out: heads then don't depend on how many are."""
    threads = torch.get_num_threads()
    together = groups * (folds.k or len(folds)) // max(len(folds), 1)
    return max(1, threads // max(1, min(threads, together)))


def _run_all(
    groups: Sequence[GroupTrainer],
    until: Callable[[int], int] | None,
    threads_per_group: int,
    epoch_done: Callable[[], None],
) -> None:
    """Run groups side by side on a CPU, each with its share of the threads; one after the other on a GPU."""

    def run(group: GroupTrainer) -> None:
        group.run(epoch_done, None if until is None else until(group.epochs))

    threads = torch.get_num_threads()
    if groups and groups[0].device.type != "cpu":
        for group in groups:
            run(group)
        return
    workers = max(1, min(threads, len(groups)))

    def run_in_thread(group: GroupTrainer) -> None:
        torch.set_num_threads(threads_per_group)  # of this thread alone
        run(group)

    try:
        with ThreadPoolExecutor(workers) as pool:
            try:
                list(pool.map(run_in_thread, groups))
            except BaseException:  # Ctrl-C too: the other groups must not run to their end first
                for group in groups:
                    group.stopping.set()
                raise
    finally:
        torch.set_num_threads(threads)


def _fitted(training_set: TrainingSet, trial: Trial, records: Sequence[JobRecord], metric: Metric) -> FittedHeads:
    """Put a trial's heads, fitted in several groups, together."""
    if not trial.spec.is_fitted_by_steps:
        return _computed(training_set, trial.spec, metric)
    records = sorted(records, key=lambda record: (record.job.fold, record.job.start))
    parts = [record.tensors for record in records if record.tensors is not None]
    complete = len(parts) == len(records)
    curve = _curve(training_set, trial.settings, records)
    selection = None
    if complete and records[0].right:
        right = [np.stack(record.right) for record in records]
        by_epoch = [record.statistics for record in records]
        selection = select_epochs(right) if metric.is_accuracy else select_epochs_by(metric, right, by_epoch)
        log.info("best epochs kept: %s of %d", ", ".join(str(epoch + 1) for epoch in selection.epochs), len(curve))
    last = curve[-1].held_out_accuracy if complete else math.nan
    return FittedHeads(
        spec=trial.spec,
        folds=tuple(record.job.fold for record in records),
        heads={name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if complete else None,
        curve=curve,
        selection=selection,
        diverged=min((record.diverged for record in records if record.diverged is not None), default=None),
        held_out_accuracy=last if selection is None else selection.nested_accuracy,
        nested_right=None if selection is None else selection.nested_right,
        held_out_score=_score(training_set, records, selection, metric) if complete and not metric.is_accuracy else None,
    )


def _score(training_set: TrainingSet, records: Sequence[JobRecord], selection: EpochSelection | None, metric: Metric) -> float:
    if selection is None or selection.nested_score is None:
        return held_out_score(training_set, records, metric)
    return metric.signed(selection.nested_score)


def _computed(training_set: TrainingSet, spec: HeadSpec, metric: Metric) -> FittedHeads:
    """Compute a head that needs no training steps, in every fold."""
    features, targets, folds = training_set.features, training_set.targets, training_set.folds
    heads = compute_heads(spec, features, targets, folds.trained_on, training_set.num_classes, training_set.blocks)
    probs = np.concatenate([head_probs(heads, spec, features[own], fold) for fold, own in enumerate(folds.held_out)])
    held_out = np.concatenate([targets[own] for own in folds.held_out])
    accuracy = float((probs.argmax(1) == held_out).mean()) if len(held_out) else math.nan
    score = None if metric.is_accuracy or not len(held_out) else metric.signed(metric.score(probs, held_out))
    return FittedHeads(spec, tuple(range(len(folds))), heads, held_out_accuracy=accuracy, held_out_score=score)


def _curve(training_set: TrainingSet, settings: TrainHeadSettings, records: Sequence[JobRecord]) -> tuple[Epoch, ...]:
    steps = math.ceil(len(training_set.targets) / settings.batch_size)
    count = sum(training_set.held_out_count(record.job.fold) for record in records)
    curve = []
    for epoch in range(min(len(record.held_out) for record in records)):
        rate = settings.lr * training_set.epoch_lr_factor(epoch) * lr_factor(settings, epoch * steps, steps)
        losses = [record.losses[epoch][0] / (record.losses[epoch][1] or 1) for record in records]
        held_out = [record.held_out[epoch] for record in records]
        loss, right = (sum(values) / count if count else math.nan for values in zip(*held_out, strict=True))
        curve.append(Epoch(rate, sum(losses) / len(losses), loss, right))
    return tuple(curve)
