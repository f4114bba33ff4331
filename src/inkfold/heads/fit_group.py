"""One group of members of one shape, from the first epoch to the last: what it learns from, examines and keeps."""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64

from inkfold.heads.batched import BatchedHeads, HeadJob
from inkfold.heads.closed_form import fold_scaling
from inkfold.heads.head import HeadSpec
from inkfold.heads.randomness import StepRandomness
from inkfold.heads.settings import lr_factor

HELD_OUT_ROWS = 2048
Report = Callable[[int, int, float], bool]


@dataclass(frozen=True, slots=True)
class AugmentedFeatures:
    """What each epoch learns from, where that isn't the drawings as they are.

    Attributes:
        features: Gives an epoch's features, in the order of the drawings; called from several threads.
        lr_factors: One an epoch, beside the schedule's.
    """

    features: Callable[[int], Float[np.ndarray, "n d"]]
    lr_factors: Sequence[float]


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """What is learnt from.

    Attributes:
        features: Of all drawings as they are, in an order that the data's content decides.
        targets: Class ids.
        folds: True where a fold's members may learn from a drawing.
        num_classes: Outputs; classes without a drawing are allowed.
        seed: Of starting weights, the order of drawings, and what is random in a step.
        schooling: What each epoch learns from; None: the drawings as they are.
    """

    features: Float[np.ndarray, "n d"]
    targets: Int64[np.ndarray, " n"]
    folds: Bool[np.ndarray, "folds n"]
    num_classes: int
    seed: int = 0
    schooling: AugmentedFeatures | None = None


@dataclass(slots=True)
class Record:
    """What is kept of one member."""

    member: HeadJob
    losses: list[tuple[float, float]] = field(default_factory=list)  # an epoch's sum and weight
    held_out: list[tuple[float, int]] = field(default_factory=list)  # an epoch's sum of losses and number of right answers
    right: list[np.ndarray] = field(default_factory=list)  # an epoch's answers, where the best one is kept
    tensors: dict[str, np.ndarray] | None = None
    diverged: int | None = None


class Stopped(Exception):  # noqa: N818 - an answer to `stopping`, which nobody outside sees
    """The course was told to stop."""


class GroupTrainer:
    """The epochs of one group of members of one shape."""

    def __init__(
        self, lessons: TrainingSet, spec: HeadSpec, members: Sequence[HeadJob], device: torch.device, report: Report | None
    ) -> None:
        self.lessons, self.spec, self.device, self.report = lessons, spec, device, report
        self.records = [Record(member) for member in members]
        self.settings = members[0].settings
        self.epochs = self.settings.epochs
        folds = {member.fold for member in members}
        self.fold = folds.pop() if len(folds) == 1 else None
        self.stopping = threading.Event()
        self.steps = math.ceil(len(lessons.targets) / self.settings.batch_size)

    def run(self, tell: Callable[[], None]) -> list[Record]:
        """Fit the members."""
        lessons = self.lessons
        folds = [record.member.fold for record in self.records]
        scaling = fold_scaling(lessons.features, lessons.folds) if self.spec.scaling == "standardise" else {}
        members = BatchedHeads(
            self.spec,
            [record.member for record in self.records],
            {name: values[folds] for name, values in scaling.items()},
            lessons.targets,
            lessons.folds[folds],
            sizes=(lessons.features.shape[1], lessons.num_classes),
            seed=lessons.seed,
            device=self.device,
        )
        going = self.records
        for epoch in range(self.epochs):
            if going:
                self._learn(members, going, epoch)
                self._examine(members, going)
                going = self._continue(members, going, epoch)
            tell()
        for i, record in enumerate(going):
            if record.tensors is None:
                record.tensors = members.fitted([i])
        return self.records

    def _learn(self, members: BatchedHeads, going: Sequence[Record], epoch: int) -> None:
        """Go once through all drawings."""
        lessons, batch = self.lessons, self.settings.batch_size
        features = lessons.features if lessons.schooling is None else lessons.schooling.features(epoch)
        stage = 1.0 if lessons.schooling is None else lessons.schooling.lr_factors[epoch]
        order = epoch_order(len(lessons.targets), lessons.seed, epoch)
        settings = list({record.member.trial: record.member.settings for record in going}.values())
        sums = torch.zeros(2, len(going), device=self.device)
        for step in range(self.steps):
            if self.stopping.is_set():
                raise Stopped
            at = epoch * self.steps + step
            rates = [one.lr * stage * lr_factor(one, at, self.steps) for one in settings]
            rows = order[step * batch : (step + 1) * batch]
            places = self._places(rows)
            chance = StepRandomness((lessons.seed, epoch, step), len(rows), self.device, places)
            rows = rows if places is None else rows[places]
            targets = torch.from_numpy(lessons.targets[rows]).to(self.device)
            mask = members.mask[:, torch.from_numpy(rows).to(self.device)]
            sums += torch.stack(members.step(self._tensor(features[rows]), targets, mask, rates, chance))
        for record, (loss, weight) in zip(going, sums.T.tolist(), strict=True):
            record.losses.append((loss, weight))

    def _places(self, rows: np.ndarray) -> np.ndarray | None:
        """Leave out drawings that no member may see, where all are of one fold; one stays, so that a step is a step."""
        if self.fold is None:
            return None
        places = np.flatnonzero(self.lessons.folds[self.fold][rows])
        return places if len(places) else np.zeros(1, np.int64)

    @torch.no_grad()
    def _examine(self, members: BatchedHeads, going: Sequence[Record]) -> None:
        """Ask every member for the drawings that it doesn't learn from."""
        for fold in dict.fromkeys(record.member.fold for record in going):
            asked = [i for i, record in enumerate(going) if record.member.fold == fold]
            rows = np.flatnonzero(~self.lessons.folds[fold])
            losses, right = np.zeros(len(asked)), [np.zeros((len(asked), 0), bool)]
            for start in range(0, len(rows), HELD_OUT_ROWS):
                part = rows[start : start + HELD_OUT_ROWS]
                scores = members.scores(self._tensor(self.lessons.features[part]), only=asked)
                targets = torch.from_numpy(self.lessons.targets[part]).to(self.device)
                own = torch.log_softmax(scores, -1).gather(2, targets[None, :, None].expand(len(asked), -1, 1))
                losses -= own.double().sum((1, 2)).cpu().numpy()
                right.append((scores.argmax(2) == targets).cpu().numpy())
            answers = np.concatenate(right, axis=1)
            for i, loss, own_answers in zip(asked, losses, answers, strict=True):
                going[i].held_out.append((float(loss), int(own_answers.sum())))
                if self.settings.keep == "best":
                    going[i].right.append(own_answers)

    def _continue(self, members: BatchedHeads, going: list[Record], epoch: int) -> list[Record]:
        """Keep what is best so far, and leave out the trials that diverged or aren't worth going on with."""
        if self.settings.keep == "best":
            for i, record in enumerate(going):
                answers = [right for _, right in record.held_out]
                if held_out_count(self.lessons, record) and answers[-1] > max(answers[:-1], default=-1):
                    record.tensors = members.fitted([i])
        left = {record.member.trial for record in going if self._has_diverged(record, epoch)}
        left |= {trial for trial in self._trials(going) - left if not self._is_wanted(trial, going, epoch)}
        kept = [i for i, record in enumerate(going) if record.member.trial not in left]
        for record in going:
            record.tensors = None if record.member.trial in left else record.tensors
        if kept and len(kept) < len(going):
            members.keep(kept)
        return [going[i] for i in kept]

    def _has_diverged(self, record: Record, epoch: int) -> bool:
        if math.isfinite(record.losses[-1][0]) and math.isfinite(record.held_out[-1][0]):
            return False
        record.diverged = epoch
        return True

    def _is_wanted(self, trial: int, going: Sequence[Record], epoch: int) -> bool:
        if self.report is None or epoch == self.epochs - 1:
            return True
        return self.report(trial, epoch, accuracy(self.lessons, [one for one in going if one.member.trial == trial]))

    def _trials(self, going: Sequence[Record]) -> set[int]:
        return {record.member.trial for record in going}

    def _tensor(self, features: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(features).to(self.device, torch.float32)


def epoch_order(n: int, seed: int, epoch: int) -> Int64[np.ndarray, " n"]:
    """Shuffle rows as a function of seed and epoch alone, so that a continued run sees the same order."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 2, epoch])))
    return generator.permutation(n)


def accuracy(lessons: TrainingSet, records: Sequence[Record]) -> float:
    """Give the share of right answers on members' held-out drawings after the last epoch."""
    right = sum(record.held_out[-1][1] for record in records)
    count = sum(held_out_count(lessons, record) for record in records)
    return right / count if count else math.nan


def held_out_count(lessons: TrainingSet, record: Record) -> int:
    """Count the drawings that a member doesn't learn from."""
    return int((~lessons.folds[record.member.fold]).sum())
