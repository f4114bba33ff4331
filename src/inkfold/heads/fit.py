"""Fits the heads of all trials, folds and starts on cached features, in one program.

Heads of one shape are trained side by side on shared minibatches; each leaves out the drawings that its fold holds out, so each
ends as if it had been fitted alone on the same batches. Heads share no parameter and no random draw.
"""

import itertools
import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from inkfold.config.sections import TrainHeadSettings
from inkfold.heads.batched import HeadJob
from inkfold.heads.closed_form import compute_heads
from inkfold.heads.epoch_selection import EpochSelection, select_epochs
from inkfold.heads.fit_group import GroupTrainer, JobRecord, Report
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
        diverged: The epoch, from 0, in which a loss was not finite; None if none was.
        held_out_accuracy: Accuracy on the held-out drawings, as they are, in 0..1; the nested estimate where the best epochs
            were kept; NaN where nothing is held out or there are no heads.
    """

    spec: HeadSpec
    folds: tuple[int, ...]
    heads: dict[str, np.ndarray] | None = None
    curve: tuple[Epoch, ...] = ()
    selection: EpochSelection | None = None
    diverged: int | None = None
    held_out_accuracy: float = math.nan


def fit_trials(
    training_set: TrainingSet,
    trials: Sequence[Trial],
    *,
    device: torch.device | None = None,
    report: Report | None = None,
    progress: Progress = silent,
) -> list[FittedHeads]:
    """Fit every trial in every fold.

    Args:
        training_set: Features, class ids and folds of the drawings.
        trials: Heads and how they are trained; they may differ in every setting.
        device: Where heads are fitted. None takes the CPU, as does a device that is neither CPU nor CUDA: Apple's MPS has no
            float64.
        report: Called with each trial's number, epoch and held-out accuracy after each epoch but the last, from several threads
            at once; returns whether the trial continues.
        progress: Called after each epoch of each group of heads.

    Returns:
        The fitted heads of each trial, in the order of the trials.
    """
    if device is None or device.type != "cuda":
        device = torch.device("cpu")
    groups = list(_groups(training_set, trials, device, report))
    total, done, lock = sum(group.epochs for group in groups), itertools.count(1), threading.Lock()

    def epoch_done() -> None:
        with lock:
            progress("fitting heads", next(done), total)

    records = _run_all(groups, epoch_done)
    return [
        _fitted(training_set, trial, [record for record in records if record.job.trial == i]) for i, trial in enumerate(trials)
    ]


def _groups(
    training_set: TrainingSet, trials: Sequence[Trial], device: torch.device, report: Report | None
) -> Iterator[GroupTrainer]:
    """Group heads of one shape; trials that are reported on stay in one group."""
    by_shape: dict[tuple[object, ...], list[list[HeadJob]]] = {}
    for i, trial in enumerate(trials):
        settings, dropout = trial.settings, trial.spec.dropout
        shape = (trial.spec.without_dropout(), settings.epochs, settings.batch_size, settings.precision, settings.keep)
        folds, starts = range(len(training_set.folds)), range(settings.starts)
        jobs = [HeadJob(i, fold, start, settings, dropout) for fold in folds for start in starts]
        if trial.spec.is_fitted_by_steps:
            by_shape.setdefault(shape, []).append(jobs)
    for (spec, *_), trial_jobs in by_shape.items():
        assert isinstance(spec, HeadSpec)
        size = _group_size(spec, training_set, device)
        partitions = _partitions(trial_jobs, keep_trials=report is not None, by_fold=device.type == "cpu")
        groups = [group for units in partitions for group in _dealt(units, size)]
        _log_groups(spec, groups, device, keep_trials=report is not None)
        for group in groups:
            yield GroupTrainer(training_set, spec, group, device, report)


def _log_groups(spec: HeadSpec, groups: Sequence[Sequence[HeadJob]], device: torch.device, *, keep_trials: bool) -> None:
    memory = f"{CACHE_BYTES >> 20} MiB of cache" if device.type == "cpu" else f"{GPU_SHARE:.0%} of the GPU's free memory"
    reason = f"the weights and optimiser states of a group fit {memory}"
    if keep_trials:
        reason = "trials that may be stopped stay whole"
    elif device.type == "cpu":
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


def _partitions(trial_jobs: Sequence[list[HeadJob]], *, keep_trials: bool, by_fold: bool) -> list[list[list[HeadJob]]]:
    """List units that stay in one group, in partitions that share no group.

    Heads of one fold are best fitted by themselves on a CPU: no product is computed with the drawings that the fold holds out.
    """
    if keep_trials:
        return [list(trial_jobs)]
    units = [[job] for jobs in trial_jobs for job in jobs]
    if not by_fold:
        return [units]
    return [[unit for unit in units if unit[0].fold == fold] for fold in dict.fromkeys(unit[0].fold for unit in units)]


def _dealt(units: Sequence[Sequence[HeadJob]], size: int) -> Iterator[list[HeadJob]]:
    """Deal units out to as few groups of about `size` heads as possible, all of about one length."""
    unit_size = len(units[0])
    count = -(-len(units) * unit_size // max(size, unit_size))
    for part in np.array_split(np.arange(len(units)), count):
        yield [job for unit in part for job in units[unit]]


def _group_size(spec: HeadSpec, training_set: TrainingSet, device: torch.device) -> int:
    """Return how many heads are best fitted side by side: on a CPU what fits its cache, on a GPU what fits its memory."""
    widths = spec.widths(training_set.features.shape[1], training_set.num_classes)
    head_bytes = STATE_BYTES * sum(inputs * outputs for inputs, outputs in itertools.pairwise(widths))
    budget = CACHE_BYTES if device.type == "cpu" else int(GPU_SHARE * torch.cuda.mem_get_info(device)[0])
    return max(1, budget // head_bytes)


def _run_all(groups: Sequence[GroupTrainer], epoch_done: Callable[[], None]) -> list[JobRecord]:
    """Run groups side by side on a CPU, each with its share of the threads; one after the other on a GPU."""
    threads = torch.get_num_threads()
    if groups and groups[0].device.type != "cpu":
        return [record for group in groups for record in group.run(epoch_done)]
    workers = max(1, min(threads, len(groups)))

    def run(group: GroupTrainer) -> list[JobRecord]:
        torch.set_num_threads(max(1, threads // workers))  # of this thread alone
        return group.run(epoch_done)

    try:
        with ThreadPoolExecutor(workers) as pool:
            try:
                return [record for records in pool.map(run, groups) for record in records]
            except BaseException:  # Ctrl-C too: the other groups must not run to their end first
                for group in groups:
                    group.stopping.set()
                raise
    finally:
        torch.set_num_threads(threads)


def _fitted(training_set: TrainingSet, trial: Trial, records: Sequence[JobRecord]) -> FittedHeads:
    """Put a trial's heads, fitted in several groups, together."""
    if not trial.spec.is_fitted_by_steps:
        return _computed(training_set, trial.spec)
    records = sorted(records, key=lambda record: (record.job.fold, record.job.start))
    parts = [record.tensors for record in records if record.tensors is not None]
    complete = len(parts) == len(records)
    curve = _curve(training_set, trial.settings, records)
    selection = None
    if complete and records[0].right:
        selection = select_epochs([np.stack(record.right) for record in records])
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
    )


def _computed(training_set: TrainingSet, spec: HeadSpec) -> FittedHeads:
    """Compute a head that needs no training steps, in every fold."""
    features, targets, folds = training_set.features, training_set.targets, training_set.folds
    heads = compute_heads(spec, features, targets, folds.trained_on, training_set.num_classes)
    right = np.concatenate(
        [head_probs(heads, spec, features[own], fold).argmax(1) == targets[own] for fold, own in enumerate(folds.held_out)]
    )
    accuracy = float(right.mean()) if len(right) else math.nan
    return FittedHeads(spec, tuple(range(len(folds))), heads, held_out_accuracy=accuracy)


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
