"""Finished runs compared pair by pair, on drawings on which that is fair, and what keeps others from being compared."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Int64

from inkfold.ensemble.fold_comparison import (
    FoldComparison,
    HeldOut,
    command_for_folds,
    compare_folds,
    held_out_by,
)
from inkfold.evaluation.formatting import turned
from inkfold.evaluation.intervals import coarsest_groups
from inkfold.evaluation.paired import paired_difference
from inkfold.evaluation.predictions import Predictions
from inkfold.evaluation.score_figures import compare_by
from inkfold.pipeline.run_files import RunFiles, headline
from inkfold.report.matched_part import MatchedPart, PartName
from inkfold.report.metric_section import common_metric

PARTS: tuple[PartName, ...] = ("held out", "test")


@final
@dataclass(frozen=True, slots=True)
class RunPair:
    """Two runs on one part of the drawings: tested against each other, or not comparable.

    Attributes:
        first: Place of the first run.
        second: Place of the second run.
        part: The drawings: held out in training, or of the test.
        drawings: Numbers of the drawings that they are tested on; empty where they are not comparable.
        figures: The difference of the second's accuracy from the first's, as `paired_difference` gives it; None where they are
            not comparable.
        notes: What was left out or weakens the test, or why there is none, as sentences.
        command: What to run for a fair or sharper comparison; empty for nothing.
        by_metric: The same difference by the metric that all runs are measured by, as `compare_by` gives it; None where that is
            accuracy, or they are not comparable.
    """

    first: int
    second: int
    part: PartName
    drawings: Int64[np.ndarray, " n"]
    figures: Mapping[str, Any] | None
    notes: tuple[str, ...]
    command: str = ""
    by_metric: Mapping[str, Any] | None = None

    def turned_to(self, first: int) -> "RunPair":
        """Return the same pair with a given one of its runs as the first."""
        if self.first == first:
            return self
        figures = None if self.figures is None else turned(self.figures)
        by_metric = None if self.by_metric is None else turned(self.by_metric)
        return replace(self, first=self.second, second=self.first, figures=figures, by_metric=by_metric)


@final
class RunComparison:
    """Several runs, every two of which are compared on held-out and on test drawings.

    Args:
        runs: Files of at least two finished runs or ensembles.
        names: What notes call the runs, in their order.
    """

    def __init__(self, runs: Sequence[RunFiles], names: Sequence[str]) -> None:
        self.runs, self.names, self.metric = runs, names, common_metric(runs)
        self._held_out = [_named(held_out_by(run), name) for run, name in zip(runs, names, strict=True)]
        self._parts = {
            "held out": MatchedPart([run.out_of_fold for run in runs], names, "held out"),
            "test": MatchedPart([run.test for run in runs], names, "test"),
        }
        self._folds: dict[tuple[int, int], FoldComparison] = {}
        self._compared: dict[tuple[int, int], tuple[RunPair, ...]] = {}

    @cached_property
    def pairs(self) -> tuple[RunPair, ...]:
        """Every pair of runs, on each part of which both know the true classes."""
        places = [(i, j) for i in range(len(self.runs)) for j in range(i + 1, len(self.runs))]
        return tuple(pair for i, j in places for pair in self._pairs(i, j))

    @cached_property
    def best(self) -> int:
        """Place of the best single run, by the metric of all runs, on the drawings that all single runs predicted.

        A run whose groups gave it an advantage over another single run is only taken where there is no other; then one that
        the most single runs can be compared with, and that predicted at least half as many drawings as any. Ensembles are
        taken where there is no single run.
        """
        single = [i for i, run in enumerate(self.runs) if run.vote is None] or [*range(len(self.runs))]
        known = [i for i in single if self.runs[i].evaluated_part is not None] or single
        found = {(i, j): self._compare_folds(i, j) for i in known for j in known if i < j}
        lax = {pair[1 - folds.stricter] for pair, folds in found.items() if folds is not None and folds.stricter is not None}
        known = [i for i in known if i not in lax] or known
        fair = [pair for pair, folds in found.items() if folds is None or folds.verdict != "not comparable"]
        counts = {i: sum(i in pair for pair in fair) for i in known}
        known = [i for i in known if counts[i] == max(counts.values())]
        sizes = {i: 0 if (own := self.runs[i].evaluated) is None else len(own.probs) for i in known}
        known = [i for i in known if 2 * sizes[i] >= max(sizes.values())]
        scores = self._scores(known) or [self._own_score(i) for i in known]
        return max(zip(scores, known, strict=True), key=lambda pair: (pair[0], -pair[1]))[1]

    def against_best(self) -> list[RunPair]:
        """Return the pairs of every other run with the best single run, which is the first of each.

        Their commands train the other run on the folds of the best one, unless the other run's are stricter.
        """
        places = [(min(i, self.best), max(i, self.best)) for i in range(len(self.runs)) if i != self.best]
        pairs = [pair.turned_to(self.best) for i, j in places for pair in self._pairs(i, j)]
        return [replace(pair, command=self._command(pair)) if pair.command else pair for pair in pairs]

    def _command(self, pair: RunPair) -> str:
        folds = self._compare_folds(*sorted((pair.first, pair.second)))
        leader, other = self._held_out[pair.first], self._held_out[pair.second]
        if folds is None or leader is None or other is None or folds.stricter is not None:
            return pair.command
        return command_for_folds(leader, other)

    def common(self, pair: RunPair, places: Sequence[int]) -> list[Predictions]:
        """Take predictions of the drawings of a pair's test that all runs at these places have, in one order."""
        part = self._parts[pair.part]
        numbers = pair.drawings
        for i in places:
            numbers = numbers[np.isin(numbers, part.numbers[i])]
        return [part.take(i, numbers) for i in places]

    def _scores(self, places: Sequence[int]) -> list[float]:
        """Score runs on the drawings that all of them predicted, held-out ones or else test drawings; none without any.

        A greater score is the better one.
        """
        for part in self._parts.values():
            if len(numbers := part.numbers_of_all(places)):
                taken = [part.take(i, numbers) for i in places]
                return [self._score(own) for own in taken]
        return []

    def _score(self, own: Predictions) -> float:
        assert own.targets is not None
        if self.metric.is_accuracy:
            return float(own.right.mean())
        return self.metric.signed(self.metric.score(own.probs, own.targets, own.preds))

    def _own_score(self, i: int) -> float:
        part = self.runs[i].evaluated_part
        if part is None:
            return -math.inf
        figures = self.runs[i].metrics[part]
        own = figures.get("metric")
        return float(headline(figures)["accuracy"]) if own is None else self.metric.signed(float(own["value"]))

    def _pairs(self, i: int, j: int) -> tuple[RunPair, ...]:
        """Compare two runs, the first of which has the lower place, once."""
        if (i, j) not in self._compared:
            pairs = [self._compare(part, i, j) for part in PARTS]
            self._compared[i, j] = tuple(pair for pair in pairs if pair is not None)
        return self._compared[i, j]

    def _compare(self, name: PartName, i: int, j: int) -> RunPair | None:
        """Test two runs on the drawings on which that is fair; None where one of them has no such drawings or labels."""
        part = self._parts[name]
        if not (part.is_labelled(i) and part.is_labelled(j)):
            return None
        if faults := part.faults(i, j):
            return RunPair(i, j, name, np.empty(0, np.int64), None, faults)
        common, *rows = np.intersect1d(part.numbers[i], part.numbers[j], return_indices=True)
        fair, notes, command = self._fair(name, i, j, rows)
        if not fair.any():
            return RunPair(i, j, name, common[fair], None, tuple(notes), command)
        both = [part.take(place, common[fair]) for place in (i, j)]
        groups = coarsest_groups(own.groups for own in both)
        figures = paired_difference(both[0].right, both[1].right, groups)
        first = replace(both[0], groups=groups)
        by_metric = None if self.metric.is_accuracy else compare_by(self.metric, first, both[1])
        return RunPair(i, j, name, common[fair], figures, tuple(notes), command, by_metric)

    def _fair(
        self, name: PartName, i: int, j: int, rows: Sequence[Int64[np.ndarray, " common"]]
    ) -> tuple[Bool[np.ndarray, " common"], list[str], str]:
        """Choose the common drawings on which a comparison is fair, with notes on the others, and the command for more.

        None of them is, where the runs' folds can't be compared.
        """
        part = self._parts[name]
        fair, notes, command = part.fair(i, j, rows), part.notes(i, j, rows), ""
        if name == "test":
            first, second = (self._trained_on(place, own) for place, own in zip((i, j), rows, strict=True))
            fair = fair & (first == second)
            if count := int((first != second).sum()):
                notes.append(f"Left out: {count:,} test drawings that only one of them was trained on.")
        elif (folds := self._compare_folds(i, j)) is not None:
            command = folds.command
            if folds.verdict == "not comparable":
                return np.zeros_like(fair), [*folds.reasons], command
            fair, notes = fair & ~folds.unfair, [*folds.reasons, *notes]
        if not fair.any():
            notes.append("No drawing is left to compare them on.")
        return fair, notes, command

    def _compare_folds(self, i: int, j: int) -> FoldComparison | None:
        first, second = self._held_out[i], self._held_out[j]
        if first is None or second is None:
            return None
        if (i, j) not in self._folds:
            numbers = self._parts["held out"].numbers
            self._folds[i, j] = compare_folds(first, second, (numbers[i], numbers[j]))
        return self._folds[i, j]

    def _trained_on(self, i: int, rows: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Find the test drawings that a run was trained on, as far as contents are known."""
        test, held_out = self.runs[i].test, self.runs[i].out_of_fold
        if test is None or held_out is None or test.digests is None or held_out.digests is None:
            return np.zeros(len(rows), bool)
        trained: np.ndarray = np.isin(test.digests[rows], held_out.digests[held_out.digests != b""])
        return trained


def _named(held_out: HeldOut | None, name: str) -> HeldOut | None:
    if held_out is None:
        return None
    return HeldOut(name, held_out.predictions, held_out.train_share, held_out.settings, held_out.recipe, held_out.data)
