"""Fine-tunes every fold, chooses how far to go from the start's weights, and writes each fold's changes to a file."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Shaped
from safetensors.torch import save as to_safetensors

from inkfold.data.splits import Folds
from inkfold.errors import CacheError
from inkfold.evaluation.tensorboard import FOLD_EVENTS
from inkfold.finetune.checkpoint import FoldState, load_checkpoint, save_checkpoint
from inkfold.finetune.distributed import ProcessGroup
from inkfold.finetune.network import HeadModule, Network, interpolated, pretrained_values
from inkfold.finetune.plan import FinetunePlan
from inkfold.finetune.train_fold import CHECKPOINTS, FoldTrainer
from inkfold.finetune.train_state import evaluate, release_memory
from inkfold.heads.epoch_selection import EpochSelection, select_epochs
from inkfold.heads.fit import Epoch, FittedHeads
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.files import write_bytes

WEIGHTS, START = "weights/fold{}.safetensors", f"{CHECKPOINTS}/start.safetensors"
log = logging.getLogger("inkfold.finetune")


@dataclass(frozen=True, slots=True)
class Interpolation:
    """How far training's weights were taken from the start's.

    Attributes:
        shares: The shares of the way that were tried, in 0..1; 0 is the start, with the head fitted on frozen features.
        accuracy: Accuracy of each share on the held-out drawings of all folds, in 0..1.
        taken: The share that was taken: 0 is the weights before training, 1 those after it.
        nested_accuracy: Accuracy where each half of the drawings chooses the share for the other half: an estimate of the
            choice's accuracy on new drawings.
        nested_right: For each fold, which of its held-out drawings are predicted rightly at the share that the other half of
            all held-out drawings chooses.
    """

    shares: tuple[float, ...]
    accuracy: tuple[float, ...]
    taken: float
    nested_accuracy: float
    nested_right: tuple[Bool[np.ndarray, " rows"], ...] = field(default=(), compare=False, repr=False)

    @property
    def optimism(self) -> float:
        """By how much the accuracy of the share that was taken is optimistic."""
        return self.accuracy[self.shares.index(self.taken)] - self.nested_accuracy


@dataclass(frozen=True, slots=True)
class FinetuneJob:
    """A fine-tuning, as each of the processes that train together gets it.

    Attributes:
        plan: What is trained, on which drawings, and how.
        folds: Which drawings each fold trains on, and which it holds out.
        out: The run's directory, which all machines see under this path.
        shares: Shares of the way from the start's weights to the trained ones that are tried, in 0..1.
        device: `cpu` or `cuda`, for processes that are still to be started.
    """

    plan: FinetunePlan
    folds: Folds
    out: Path
    shares: Sequence[float]
    device: str


@dataclass(frozen=True, slots=True)
class FinetunedFolds:
    """The result of fine-tuning every fold.

    Attributes:
        fitted: The trained heads and the mean of the folds' curves.
        files: Each fold's file with the changes to the backbone, relative to the run's directory.
        interpolation: Which share of the way was taken; None unless several were tried.
        notes: Sentences for the user about what training changed by itself, in the order of the folds; empty without any.
        trained: Drawings that went forwards and backwards in this call.
        waited_s: Seconds that training waited for drawings, in the first process.
    """

    fitted: FittedHeads
    files: tuple[str, ...]
    interpolation: Interpolation | None
    notes: tuple[str, ...]
    trained: int
    waited_s: float


def settle_start(
    out: Path, heads: Mapping[str, Shaped[np.ndarray, "folds ..."]], source: str, process_group: ProcessGroup
) -> dict[str, np.ndarray]:
    """Keep the heads that training starts from, and return the kept ones when it resumes.

    Heads that are fitted again on another machine could differ in their last bits. Where more or fewer parts are held out than
    before, the folds that both have start from the kept heads.

    Args:
        out: The run's directory, in which the heads are kept; all processes see it.
        heads: The heads as they were fitted now, one per fold.
        source: Digest of what they were fitted on; kept heads of another source are replaced.
        process_group: The processes that train together; all of them start from the first one's heads.

    Returns:
        The heads to start from.

    Raises:
        CacheError: If the disk is full, or this process doesn't see the first one's files.
    """
    path, mark = out / START, {"made_of": source}
    count = len(next(iter(heads.values())))
    kept = load_checkpoint(path)
    known = kept[0] if kept is not None and kept[1] == mark else {name: torch.empty(0) for name in heads}
    before = len(next(iter(known.values())))
    if process_group.is_first and before < count:
        further = {name: torch.from_numpy(np.array(values[before:])) for name, values in heads.items()}
        save_checkpoint(path, {name: torch.cat([known[name], own]) if before else own for name, own in further.items()}, mark)
    process_group.wait()
    kept = load_checkpoint(path)
    if kept is None or kept[1] != mark:
        raise CacheError(f"{path}: isn't what the first process wrote. out= must lie on a directory that all machines see.")
    return {name: values.numpy()[:count] for name, values in kept[0].items()}


def train_folds(job: FinetuneJob, process_group: ProcessGroup, progress: Progress = silent) -> FinetunedFolds:
    """Train every fold, from the last checkpoint where an earlier call was killed.

    Args:
        job: What is trained, and where its files lie.
        process_group: The processes that train together; the first one writes the files.
        progress: Called after each step.

    Returns:
        The trained heads, the files with the changes to the backbone, and what was chosen.

    Raises:
        RecipeError: If a loss isn't finite, or memory doesn't suffice.
        CacheError: If the disk is full.
    """
    plan, folds, shares = job.plan, job.folds, job.shares

    def trained(fold: int) -> FoldState:
        fold_progress = _progress_of_fold(progress, fold, len(folds))
        state = FoldTrainer(plan, folds, fold, job.out, process_group, fold_progress).run()
        release_memory(process_group.device)
        return state

    states: list[FoldState] = []
    right: list[np.ndarray] = []
    for fold, held_out in enumerate(folds.held_out):
        state = trained(fold)
        if len(shares) > 1:
            right.append(_right_by_share(job, state, fold, np.flatnonzero(held_out), process_group))
        else:
            state.head = _write(job, state, fold, shares[0], process_group)
        states.append(state)
        state.changes = {}  # they are large, and on the disk
    interpolation = _chosen(shares, right) if len(shares) > 1 else None
    if interpolation is not None:
        for fold, state in enumerate(states):
            state.head = _write(job, trained(fold), fold, interpolation.taken, process_group)
    if process_group.is_first:
        _remove_other_folds(job.out, len(folds))
    process_group.wait()
    return FinetunedFolds(
        fitted=_as_fitted(plan, states, interpolation),
        files=tuple(WEIGHTS.format(fold) for fold in range(len(folds))),
        interpolation=interpolation,
        notes=tuple(note for state in states for note in state.notes),
        trained=sum(state.trained for state in states),
        waited_s=plan.loader.waited_s,
    )


def _remove_other_folds(out: Path, count: int) -> None:
    """Remove what an earlier call left of folds beyond the first ones, when more parts were held out."""
    kept = {*(WEIGHTS.format(fold) for fold in range(count)), *(FOLD_EVENTS.format(fold) for fold in range(count))}
    for path in (*out.glob(WEIGHTS.format("*")), *out.glob(FOLD_EVENTS.format("*"))):
        if path.relative_to(out).as_posix() not in kept:
            path.unlink(missing_ok=True)


def _progress_of_fold(progress: Progress, fold: int, folds: int) -> Progress:
    """Report a fold's steps as part of all folds' steps."""
    return lambda stage, done, total: progress(stage, fold * total + done, folds * total)


class _Way:
    """The way from a fold's start to its trained weights: the backbone's changed tensors, and the head."""

    def __init__(self, plan: FinetunePlan, state: FoldState, fold: int) -> None:
        self._end_changes, self._end_head = state.changes, state.head
        self._changes = pretrained_values(plan.info, state.changes)
        self._head = HeadModule(plan.spec, plan.heads, fold).tensors()

    def at_share(self, share: float) -> tuple[dict[str, torch.Tensor], dict[str, np.ndarray]]:
        if share == 1.0:
            return self._end_changes, self._end_head
        head = {name: self._head[name] + np.float32(share) * (end - self._head[name]) for name, end in self._end_head.items()}
        return interpolated(self._changes, self._end_changes, share), head


def _right_by_share(
    job: FinetuneJob, state: FoldState, fold: int, rows: np.ndarray, process_group: ProcessGroup
) -> Bool[np.ndarray, "shares rows"]:
    """Return which held-out drawings are predicted rightly at each share of the way."""
    plan, way = job.plan, _Way(job.plan, state, fold)
    network = Network(plan.info, HeadModule(plan.spec, state.head))
    network = network.to(device=process_group.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    right = []
    for share in job.shares:
        changes, head = way.at_share(share)
        network.backbone.load_state_dict(changes, strict=False)
        network.head = HeadModule(plan.spec, head).to(process_group.device)
        right.append(evaluate(network, plan, rows, process_group)[1])
    return np.stack(right)


def _chosen(shares: Sequence[float], right: Sequence[Bool[np.ndarray, "shares rows"]]) -> Interpolation:
    """Choose one share for all folds, by the held-out drawings of all of them."""
    together = np.concatenate(right, axis=1)
    selection = select_epochs([together])
    accuracy = tuple(float(mean) for mean in together.mean(1))
    taken = shares[selection.epochs[0]]
    log.info(
        "took a share of %g of the way from the start's weights, of %s with the accuracy %s", taken, [*shares], [*accuracy]
    )
    nested_right = np.split(selection.nested_right[0], np.cumsum([own.shape[1] for own in right])[:-1])
    return Interpolation(tuple(shares), accuracy, taken, selection.nested_accuracy, tuple(nested_right))


def _write(job: FinetuneJob, state: FoldState, fold: int, share: float, process_group: ProcessGroup) -> dict[str, np.ndarray]:
    """Write a fold's changes at a share of the way; return its head there."""
    changes, head = (state.changes, state.head) if share == 1.0 else _Way(job.plan, state, fold).at_share(share)
    path = job.out / WEIGHTS.format(fold)
    if process_group.is_first:
        data = to_safetensors({name: values.contiguous() for name, values in changes.items()})
        try:
            write_bytes(path, data)
        except OSError as error:
            raise CacheError(f"{path}: {error.strerror}. Free some space and run again: nothing is trained twice.") from None
    return head


def _as_fitted(plan: FinetunePlan, states: Sequence[FoldState], interpolation: Interpolation | None) -> FittedHeads:
    """Put the folds' heads and curves together.

    Where epochs and the share were both chosen, no drawing is predicted by a choice that other drawings made.
    """
    heads = {name: np.concatenate([state.head[name] for state in states]) for name in states[0].head}
    curve = [_mean([state.curve[epoch] for state in states]) for epoch in range(plan.settings.trained_epochs)]
    selection: EpochSelection | None = None
    if plan.settings.keep == "best":
        selection = select_epochs([np.stack(state.right) for state in states])
    last = curve[-1].held_out_accuracy if selection is None else selection.nested_accuracy
    choices = [choice for choice in (selection, interpolation) if choice is not None]
    return FittedHeads(
        spec=plan.spec,
        folds=tuple(range(len(states))),
        heads=heads,
        curve=tuple(curve),
        selection=selection,
        held_out_accuracy=last,
        nested_right=choices[0].nested_right if len(choices) == 1 else None,
    )


def _mean(points: Sequence[Epoch]) -> Epoch:
    return Epoch(*(sum(values) / len(values) for values in zip(*map(astuple, points), strict=True)))
