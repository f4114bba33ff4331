"""Fine-tunes every fold, chooses how far to go from the start's weights, and leaves a file of changes a fold."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Shaped
from safetensors.torch import save as to_safetensors

from inkfold.errors import CacheError
from inkfold.finetune.checkpoint import FoldState, load_checkpoint, save_checkpoint
from inkfold.finetune.distributed import ProcessGroup
from inkfold.finetune.network import HeadModule, Network, interpolated, start_of
from inkfold.finetune.plan import FinetunePlan
from inkfold.finetune.train_fold import CHECKPOINTS, FoldTrainer
from inkfold.finetune.train_state import examine, release_memory
from inkfold.heads.epoch_selection import EpochSelection, select_epochs
from inkfold.heads.fit import Epoch, FittedHeads
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.files import write_bytes

WEIGHTS, START = "weights/fold{}.safetensors", f"{CHECKPOINTS}/start.safetensors"

Weights = tuple[dict[str, torch.Tensor], dict[str, np.ndarray]]  # a backbone's changed tensors, and a head


@dataclass(frozen=True, slots=True)
class Interpolation:
    """How far from the start's weights to the trained ones was gone.

    Attributes:
        shares: That were tried; 0 is the start, with the head that was fitted on frozen features.
        accuracy: Of each, on the drawings that folds hold out.
        taken: The share that was taken.
        nested_accuracy: Where half of the drawings choose for the other half: what the choice is worth on new drawings.
    """

    shares: tuple[float, ...]
    accuracy: tuple[float, ...]
    taken: float
    nested_accuracy: float

    @property
    def optimism(self) -> float:
        """By how much the accuracy of the share that was taken flatters."""
        return self.accuracy[self.shares.index(self.taken)] - self.nested_accuracy


@dataclass(frozen=True, slots=True)
class FinetuneJob:
    """What all processes that train together do.

    Attributes:
        plan: What is trained, on what, and how.
        folds: True where a fold learns from a drawing.
        out: The run's directory, which all machines see under this path.
        shares: Of the way from the start's weights to the trained ones.
        device: `cpu` or `cuda`, for processes that are still to be started.
    """

    plan: FinetunePlan
    folds: Bool[np.ndarray, "folds n"]
    out: Path
    shares: Sequence[float]
    device: str


@dataclass(frozen=True, slots=True)
class FinetunedFolds:
    """What became of all folds.

    Attributes:
        fitted: Their heads and curves.
        files: Of changes to the backbone, below the run's directory.
        interpolation: Where more than one share was tried.
        notes: What the user should know.
        trained: Drawings that went forwards and backwards in this call.
        waited_s: For drawings, in the first process.
    """

    fitted: FittedHeads
    files: tuple[str, ...]
    interpolation: Interpolation | None
    notes: tuple[str, ...]
    trained: int
    waited_s: float


def settle_start(
    out: Path, heads: Mapping[str, Shaped[np.ndarray, "folds ..."]], made_of: str, world: ProcessGroup
) -> dict[str, np.ndarray]:
    """Take the heads that a training first started from: fitted again elsewhere, they would differ in their last bits.

    Args:
        out: The run's directory.
        heads: As they were fitted now.
        made_of: Names what they were fitted on.
        world: All processes take those of the first one.

    Returns:
        The heads to start from.

    Raises:
        CacheError: If the disk is full, or this process doesn't see the first one's files.
    """
    path, mark = out / START, {"made_of": made_of}
    found = load_checkpoint(path)
    if world.is_first and (found is None or found[1] != mark):
        save_checkpoint(path, {name: torch.from_numpy(np.array(values)) for name, values in heads.items()}, mark)
    world.wait()
    found = load_checkpoint(path)
    if found is None or found[1] != mark:
        raise CacheError(f"{path}: isn't what the first process wrote. out= must lie on a directory that all machines see.")
    return {name: values.numpy() for name, values in found[0].items()}


def train_folds(job: FinetuneJob, world: ProcessGroup, progress: Progress = silent) -> FinetunedFolds:
    """Train every fold, or go on where a killed call was.

    Args:
        job: What to do.
        world: The processes that train together.
        progress: Told after each step.

    Returns:
        What became of them; the files are written by the first process.

    Raises:
        RecipeError: If a loss isn't a number, or memory doesn't suffice.
        CacheError: If the disk is full.
    """
    plan, folds, out, shares = job.plan, job.folds, job.out, job.shares

    def trained(fold: int) -> FoldState:
        outcome = FoldTrainer(plan, folds[fold], fold, out, world, _of_fold(progress, fold, len(folds))).run()
        release_memory(world.device)
        return outcome

    outcomes: list[FoldState] = []
    right: list[np.ndarray] = []
    for fold, own in enumerate(folds):
        outcome = trained(fold)
        if len(shares) > 1:
            right.append(_right_at(plan, outcome, fold, ~own, shares, world))
        else:
            outcome.head = _write(plan, outcome, fold, shares[0], out, world)
        outcomes.append(outcome)
        outcome.changes = {}  # they lie on the disk, and are large
    interpolation = _chosen(shares, right) if len(shares) > 1 else None
    if interpolation is not None:
        for fold, outcome in enumerate(outcomes):
            outcome.head = _write(plan, trained(fold), fold, interpolation.taken, out, world)
    world.wait()
    files = tuple(WEIGHTS.format(fold) for fold in range(len(folds)))
    notes = tuple(note for outcome in outcomes for note in outcome.notes)
    count = sum(outcome.trained for outcome in outcomes)
    return FinetunedFolds(_as_fitted(plan, outcomes), files, interpolation, notes, count, plan.feeder.waited_s)


def _of_fold(progress: Progress, fold: int, folds: int) -> Progress:
    """Tell one bar over all folds."""
    return lambda stage, done, total: progress(stage, fold * total + done, folds * total)


def _start(plan: FinetunePlan, outcome: FoldState, fold: int) -> Weights:
    """Give what the fold started from, of all that training changed."""
    return start_of(plan.info, outcome.changes), HeadModule(plan.spec, plan.heads, fold).tensors()


def _between(start: Weights, outcome: FoldState, share: float) -> Weights:
    """Give changes and head a share of the way from the start."""
    changes, head = start
    return interpolated(changes, outcome.changes, share), {
        name: head[name] + np.float32(share) * (values - head[name]) for name, values in outcome.head.items()
    }


def _right_at(
    plan: FinetunePlan,
    outcome: FoldState,
    fold: int,
    held_out: Bool[np.ndarray, " n"],
    shares: Sequence[float],
    world: ProcessGroup,
) -> Bool[np.ndarray, "shares rows"]:
    """Say who is named rightly at each share."""
    rows, start = np.flatnonzero(held_out), _start(plan, outcome, fold)
    network = Network(plan.info, HeadModule(plan.spec, outcome.head))
    network = network.to(device=world.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    answers = []
    for share in shares:
        changes, head = (outcome.changes, outcome.head) if share == 1.0 else _between(start, outcome, share)
        network.backbone.load_state_dict(changes, strict=False)
        network.head = HeadModule(plan.spec, head).to(world.device)
        answers.append(examine(network, plan, rows, world)[1])
    return np.stack(answers)


def _chosen(shares: Sequence[float], right: Sequence[Bool[np.ndarray, "shares rows"]]) -> Interpolation:
    """Take one share for all folds, by all held-out drawings."""
    together = np.concatenate(right, axis=1)
    selection = select_epochs([together])
    accuracy = tuple(float(one) for one in together.mean(1))
    return Interpolation(tuple(shares), accuracy, shares[selection.epochs[0]], selection.nested_accuracy)


def _write(
    plan: FinetunePlan, outcome: FoldState, fold: int, share: float, out: Path, world: ProcessGroup
) -> dict[str, np.ndarray]:
    """Write a fold's changes; give its head."""
    changes, head = outcome.changes, outcome.head
    if share != 1.0:
        changes, head = _between(_start(plan, outcome, fold), outcome, share)
    path = out / WEIGHTS.format(fold)
    if world.is_first:
        data = to_safetensors({name: values.contiguous() for name, values in changes.items()})
        try:
            write_bytes(path, data)
        except OSError as error:
            raise CacheError(f"{path}: {error.strerror}. Free some space and run again: nothing is trained twice.") from None
    return head


def _as_fitted(plan: FinetunePlan, outcomes: Sequence[FoldState]) -> FittedHeads:
    """Put the folds' heads and curves together."""
    heads = {name: np.concatenate([outcome.head[name] for outcome in outcomes]) for name in outcomes[0].head}
    curve = [_mean([outcome.curve[epoch] for outcome in outcomes]) for epoch in range(plan.settings.epochs)]
    selection: EpochSelection | None = None
    if plan.settings.keep == "best":
        selection = select_epochs([np.stack(outcome.right) for outcome in outcomes])
    last = curve[-1].held_out_accuracy if selection is None else selection.nested_accuracy
    return FittedHeads(plan.spec, tuple(range(len(outcomes))), heads, tuple(curve), selection, held_out_accuracy=last)


def _mean(points: Sequence[Epoch]) -> Epoch:
    return Epoch(*(sum(values) / len(values) for values in zip(*map(astuple, points), strict=True)))
