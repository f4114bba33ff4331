"""Fits the heads of all trials, folds and starts on cached features, in one program.

Members of one shape train side by side on shared minibatches; each leaves out the drawings that it must not see, so each
ends as if it had been fitted alone on the same batches. Members share no parameter and no draw.
"""

import itertools
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
from inkfold.heads.fit_group import GroupTrainer, Record, Report, TrainingSet, held_out_count
from inkfold.heads.head import HeadSpec, head_probs
from inkfold.heads.settings import lr_factor
from inkfold.runtime.progress import Progress, silent

STATE_BYTES = 16  # a weight, its gradient and the optimiser's two means
CACHE_BYTES = 16 << 20
GPU_SHARE = 0.4  # of the free memory; the rest is for what a step computes on the way


@dataclass(frozen=True, slots=True)
class Trial:
    """One way to train a head, in every fold.

    Attributes:
        spec: The head's kind and shape.
        settings: How it is trained, the precision settled: `auto` counts as float32.
    """

    spec: HeadSpec
    settings: TrainHeadSettings


@dataclass(frozen=True, slots=True)
class Epoch:
    """One point of a trial's training curve, over all its members.

    Attributes:
        lr: Learning rate at its start.
        loss: Mean over members of the mean over their own drawings, while they learnt.
        held_out_loss: Mean negative log-likelihood of the drawings that members don't learn from, as they are.
        held_out_accuracy: Share of these that the members name rightly.
    """

    lr: float
    loss: float
    held_out_loss: float
    held_out_accuracy: float


@dataclass(frozen=True, slots=True)
class FittedHeads:
    """What became of a trial.

    Attributes:
        spec: The kind of head.
        folds: Of each member.
        heads: The fitted tensors, as `heads.head_probs` takes them; None if it was stopped or diverged.
        curve: A point an epoch.
        selection: Which epochs were kept, where the best one was asked for.
        diverged: The epoch, from 0, in which a loss was not finite.
        held_out_accuracy: On the drawings that members don't learn from, as they are; where the best epochs were kept, what
            that choice is worth on new drawings; NaN where nothing is held out or there are no heads.
    """

    spec: HeadSpec
    folds: tuple[int, ...]
    heads: dict[str, np.ndarray] | None = None
    curve: tuple[Epoch, ...] = ()
    selection: EpochSelection | None = None
    diverged: int | None = None
    held_out_accuracy: float = math.nan


def fit_trials(
    lessons: TrainingSet,
    trials: Sequence[Trial],
    *,
    device: torch.device | None = None,
    report: Report | None = None,
    progress: Progress = silent,
) -> list[FittedHeads]:
    """Fit every trial in every fold.

    Args:
        lessons: What is learnt from.
        trials: They may differ in everything.
        device: Where; None is the CPU, and so is what is neither CPU nor CUDA: Apple's MPS has no float64.
        report: Told of each trial's number, epoch and held-out accuracy after each epoch but the last, from several threads at
            once; answers whether it goes on.
        progress: Told after each epoch of each group of members.

    Returns:
        In the order of the trials.
    """
    if device is None or device.type != "cuda":
        device = torch.device("cpu")
    courses = list(_courses(lessons, trials, device, report))
    total, done, lock = sum(course.epochs for course in courses), itertools.count(1), threading.Lock()

    def tell() -> None:
        with lock:
            progress("fitting heads", next(done), total)

    records = _run_all(courses, tell)
    return [_fitted(lessons, trial, [one for one in records if one.member.trial == i]) for i, trial in enumerate(trials)]


def _courses(
    lessons: TrainingSet, trials: Sequence[Trial], device: torch.device, report: Report | None
) -> Iterator[GroupTrainer]:
    """Group members of one shape; a trial that is reported on stays in one group."""
    by_shape: dict[tuple[object, ...], list[list[HeadJob]]] = {}
    for i, trial in enumerate(trials):
        one, dropout = trial.settings, trial.spec.dropout
        shape = (trial.spec.without_dropout(), one.epochs, one.batch_size, one.precision, one.keep)
        members = [HeadJob(i, fold, start, one, dropout) for fold in range(len(lessons.folds)) for start in range(one.starts)]
        if trial.spec.is_fitted_by_steps:
            by_shape.setdefault(shape, []).append(members)
    for (spec, *_), of_trials in by_shape.items():
        assert isinstance(spec, HeadSpec)
        size = _group_size(spec, lessons, device)
        for units in _units(of_trials, whole=report is not None, by_fold=device.type == "cpu"):
            for group in _grouped(units, size):
                yield GroupTrainer(lessons, spec, group, device, report)


def _units(of_trials: Sequence[list[HeadJob]], *, whole: bool, by_fold: bool) -> list[list[list[HeadJob]]]:
    """Say what may not be parted, and what is better not mixed: members of one fold need no drawing that it holds out."""
    if whole:
        return [list(of_trials)]
    members = [member for of_trial in of_trials for member in of_trial]
    if not by_fold:
        return [[[member] for member in members]]
    return [[[member] for member in members if member.fold == fold] for fold in dict.fromkeys(one.fold for one in members)]


def _grouped(units: Sequence[Sequence[HeadJob]], size: int) -> Iterator[list[HeadJob]]:
    """Deal units out to as few groups of about `size` members as there can be, all of about one length."""
    each = len(units[0])
    count = -(-len(units) * each // max(size, each))
    for part in np.array_split(np.arange(len(units)), count):
        yield [member for unit in part for member in units[unit]]


def _group_size(spec: HeadSpec, lessons: TrainingSet, device: torch.device) -> int:
    """How many members go well together: on a CPU what its cache holds, on a GPU what its memory holds."""
    widths = spec.widths(lessons.features.shape[1], lessons.num_classes)
    bytes_each = STATE_BYTES * sum(inputs * outputs for inputs, outputs in itertools.pairwise(widths))
    budget = CACHE_BYTES if device.type == "cpu" else int(GPU_SHARE * torch.cuda.mem_get_info(device)[0])
    return max(1, budget // bytes_each)


def _run_all(courses: Sequence[GroupTrainer], tell: Callable[[], None]) -> list[Record]:
    """Run groups side by side, on a CPU each with its share of the threads: single ones wait for nothing."""
    threads = torch.get_num_threads()
    if courses and courses[0].device.type != "cpu":
        return [record for course in courses for record in course.run(tell)]
    workers = max(1, min(threads, len(courses)))

    def run(course: GroupTrainer) -> list[Record]:
        torch.set_num_threads(max(1, threads // workers))  # of this thread alone
        return course.run(tell)

    try:
        with ThreadPoolExecutor(workers) as pool:
            try:
                return [record for records in pool.map(run, courses) for record in records]
            except BaseException:  # Ctrl-C too: nobody waits for the others' last epoch
                for course in courses:
                    course.stopping.set()
                raise
    finally:
        torch.set_num_threads(threads)


def _fitted(lessons: TrainingSet, trial: Trial, records: Sequence[Record]) -> FittedHeads:
    """Put a trial's members together again."""
    if not trial.spec.is_fitted_by_steps:
        return _computed(lessons, trial.spec)
    records = sorted(records, key=lambda record: (record.member.fold, record.member.start))
    parts = [record.tensors for record in records if record.tensors is not None]
    whole = len(parts) == len(records)
    curve = _curve(lessons, trial.settings, records)
    selection = select_epochs([np.stack(record.right) for record in records]) if whole and records[0].right else None
    last = curve[-1].held_out_accuracy if whole else math.nan
    return FittedHeads(
        spec=trial.spec,
        folds=tuple(record.member.fold for record in records),
        heads={name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if whole else None,
        curve=curve,
        selection=selection,
        diverged=min((record.diverged for record in records if record.diverged is not None), default=None),
        held_out_accuracy=last if selection is None else selection.nested_accuracy,
    )


def _computed(lessons: TrainingSet, spec: HeadSpec) -> FittedHeads:
    """Compute a head that no steps are needed for, in every fold."""
    heads = compute_heads(spec, lessons.features, lessons.targets, lessons.folds, lessons.num_classes)
    right = [
        head_probs(heads, spec, lessons.features[~own], fold).argmax(1) == lessons.targets[~own]
        for fold, own in enumerate(lessons.folds)
    ]
    answers = np.concatenate(right)
    accuracy = float(answers.mean()) if len(answers) else math.nan
    return FittedHeads(spec, tuple(range(len(lessons.folds))), heads, held_out_accuracy=accuracy)


def _curve(lessons: TrainingSet, settings: TrainHeadSettings, records: Sequence[Record]) -> tuple[Epoch, ...]:
    steps = math.ceil(len(lessons.targets) / settings.batch_size)
    count = sum(held_out_count(lessons, record) for record in records)
    curve = []
    for epoch in range(min(len(record.held_out) for record in records)):
        stage = 1.0 if lessons.schooling is None else lessons.schooling.lr_factors[epoch]
        losses = [record.losses[epoch][0] / (record.losses[epoch][1] or 1) for record in records]
        held_out = [record.held_out[epoch] for record in records]
        loss, right = (sum(values) / count if count else math.nan for values in zip(*held_out, strict=True))
        curve.append(
            Epoch(settings.lr * stage * lr_factor(settings, epoch * steps, steps), sum(losses) / len(losses), loss, right)
        )
    return tuple(curve)
