"""Finished runs compared pair by pair, on drawings on which that is fair, and what keeps others from being compared."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, final

import numpy as np
from jaxtyping import Bool, Int64

from inkfold.ensemble.fold_comparison import (
    SAME_FOLDS,
    FoldComparison,
    HeldOut,
    command_for_folds,
    compare_folds,
    held_out_by,
)
from inkfold.ensemble.matching import are_matched_by_content, match_drawings
from inkfold.evaluation.formatting import turned
from inkfold.evaluation.intervals import coarsest_groups
from inkfold.evaluation.paired import paired_difference
from inkfold.evaluation.predictions import Predictions, evaluation_mask
from inkfold.evaluation.scores import compare_by
from inkfold.pipeline.run_files import RunFiles, headline
from inkfold.report.metric_section import common_metric

PartName = Literal["held out", "test"]
PARTS: tuple[PartName, ...] = ("held out", "test")
SHOWN = 3  # examples in a sentence


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
            "held out": _Part([run.out_of_fold for run in runs], names, "held out"),
            "test": _Part([run.test for run in runs], names, "test"),
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
            self._compared[i, j] = tuple(pair for part in PARTS for pair in self._compare(part, i, j))
        return self._compared[i, j]

    def _compare(self, name: PartName, i: int, j: int) -> Iterator[RunPair]:
        part, nothing = self._parts[name], np.empty(0, np.int64)
        if not (part.is_labelled(i) and part.is_labelled(j)):
            return
        if faults := part.faults(i, j):
            yield RunPair(i, j, name, nothing, None, faults, "")
            return
        common, *rows = np.intersect1d(part.numbers[i], part.numbers[j], return_indices=True)
        fair, notes, command = part.fair(i, j, rows), part.notes(i, j, rows), ""
        if name == "held out" and (folds := self._compare_folds(i, j)) is not None:
            notes, command = [*folds.reasons, *notes], folds.command
            if folds.verdict == "not comparable":
                yield RunPair(i, j, name, nothing, None, folds.reasons or (SAME_FOLDS,), command)
                return
            fair &= ~folds.unfair
        elif name == "test":
            trained = [self._trained_on(place, own) for place, own in zip((i, j), rows, strict=True)]
            fair &= trained[0] == trained[1]
            if count := int((trained[0] != trained[1]).sum()):
                notes.append(f"Left out: {count:,} test drawings that only one of them was trained on.")
        if not fair.any():
            yield RunPair(i, j, name, nothing, None, (*notes, "No drawing is left to compare them on."), command)
            return
        both = [part.take(place, common[fair]) for place in (i, j)]
        groups = coarsest_groups(own.groups for own in both)
        figures = paired_difference(both[0].right, both[1].right, groups)
        first = replace(both[0], groups=groups)
        by_metric = None if self.metric.is_accuracy else compare_by(self.metric, first, both[1])
        yield RunPair(i, j, name, common[fair], figures, tuple(notes), command, by_metric)

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


@final
class _Part:
    """All runs' predictions of one part of the drawings, with the numbers of their drawings."""

    def __init__(self, predictions: Sequence[Predictions | None], names: Sequence[str], part: PartName) -> None:
        self.predictions, self.names, self.part = predictions, names, part
        known = [i for i, own in enumerate(predictions) if own is not None]
        numbers = match_drawings([own for own in predictions if own is not None])
        self.numbers = [np.empty(0, np.int64) for _ in predictions]
        for i, own in zip(known, numbers, strict=True):
            self.numbers[i] = own

    def is_labelled(self, i: int) -> bool:
        own = self.predictions[i]
        return own is not None and own.targets is not None

    def take(self, i: int, numbers: Int64[np.ndarray, " n"]) -> Predictions:
        """Take rows by the drawings' numbers, in their order, with classes in the order of the first run that has them."""
        own, rows = self._own(i), np.intersect1d(numbers, self.numbers[i], return_indices=True)[2]
        orders = [one.class_names for one in self.predictions if one is not None]
        order = next(names for names in orders if {*names} == {*own.class_names})
        return _in_order(replace(own, fold_probs=None).select(rows), order)

    def numbers_of_all(self, places: Sequence[int]) -> Int64[np.ndarray, " common"]:
        """Give the drawings that all of these runs have, with equal classes; none where one of them has no labels."""
        common = self.numbers[places[0]]
        for i in places:
            same = self.is_labelled(i) and {*self._own(i).class_names} == {*self._own(places[0]).class_names}
            common = np.intersect1d(common, self.numbers[i]) if same else common[:0]
        return common

    def faults(self, i: int, j: int) -> tuple[str, ...]:
        """Say why two runs share no drawings or classes; nothing if they do."""
        first, second = self._own(i), self._own(j)
        if {*first.class_names} != {*second.class_names}:
            lists = [*self._only(i, j, {*first.class_names} - {*second.class_names}, "class")]
            lists += self._only(j, i, {*second.class_names} - {*first.class_names}, "class")
            return (f"Other classes: {'; '.join(lists)}. Train both on data with the same classes.",)
        if not np.isin(self.numbers[i], self.numbers[j]).any():
            by = "content" if are_matched_by_content(first, second) else "path, as one of them doesn't know its files' contents"
            some = [f"{self.names[at]} has {len(self.numbers[at]):,}" for at in (i, j)]
            drawings = "held-out drawing" if self.part == "held out" else "test drawing"
            return (f"No {drawings} in common: {', '.join(some)}, matched by {by}. {SAME_FOLDS}",)
        return ()

    def fair(self, i: int, j: int, rows: Sequence[np.ndarray]) -> Bool[np.ndarray, " common"]:
        """Choose the common drawings of equal labels, without those that one run's backbone saw in pretraining."""
        fair = evaluation_mask(self._seen(i, rows[0]) | self._seen(j, rows[1]))
        same: np.ndarray = self._labels(i)[rows[0]] == self._labels(j)[rows[1]]
        return fair & same

    def notes(self, i: int, j: int, rows: Sequence[np.ndarray]) -> list[str]:
        """Say which drawings of two runs are not compared."""
        notes = []
        lists = [
            text for at, other in ((i, j), (j, i)) for text in self._only(at, other, self._paths_only_of(at, other), "drawing")
        ]
        if lists:
            notes.append(f"Not compared: {'; '.join(lists)}.")
        differ = self._labels(i)[rows[0]] != self._labels(j)[rows[1]]
        if differ.any():
            path = self._own(i).image_paths[rows[0]][differ][0]
            notes.append(f"Left out: {int(differ.sum()):,} drawings that they label differently, such as '{path}'.")
        seen = self._seen(i, rows[0]) | self._seen(j, rows[1])
        if count := int((~evaluation_mask(seen)).sum()):
            notes.append(f"Left out: {count:,} drawings that a run's backbone was pretrained on.")
        return notes

    def _only(self, at: int, other: int, names: set[str], noun: str) -> Iterator[str]:
        if names:
            some = ", ".join(f"'{name}'" for name in sorted(names)[:SHOWN])
            ending = "" if len(names) == 1 else "es" if noun == "class" else "s"
            more = " and others" if len(names) > SHOWN else ""
            yield f"{len(names):,} {noun}{ending} that only {self.names[at]} has, not {self.names[other]} ({some}{more})"

    def _paths_only_of(self, at: int, other: int) -> set[str]:
        return {*self._own(at).image_paths[~np.isin(self.numbers[at], self.numbers[other])].tolist()}

    def _labels(self, i: int) -> np.ndarray:
        own = self._own(i)
        assert own.targets is not None
        labels: np.ndarray = np.array(own.class_names, np.dtypes.StringDType())[own.targets]
        return labels

    def _seen(self, i: int, rows: np.ndarray) -> Bool[np.ndarray, " n"]:
        seen = self._own(i).seen
        return np.zeros(len(rows), bool) if seen is None else seen[rows]

    def _own(self, i: int) -> Predictions:
        own = self.predictions[i]
        assert own is not None
        return own


def _in_order(own: Predictions, class_names: tuple[str, ...]) -> Predictions:
    """Bring predictions to another order of the same classes."""
    if own.class_names == class_names:
        return own
    columns = np.array([own.class_names.index(name) for name in class_names], np.int64)
    place = np.argsort(columns)  # the inverse of a permutation
    targets, decided = (None if ids is None else place[ids] for ids in (own.targets, own.decided))
    return replace(own, probs=own.probs[:, columns], class_names=class_names, targets=targets, decided=decided)


def _named(held_out: HeldOut | None, name: str) -> HeldOut | None:
    if held_out is None:
        return None
    return HeldOut(name, held_out.predictions, held_out.train_share, held_out.settings, held_out.recipe, held_out.data)
