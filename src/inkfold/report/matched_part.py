"""Several runs' predictions of one part of the drawings, matched, and which of them two runs can be compared on."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, final

import numpy as np
from jaxtyping import Bool, Int64

from inkfold.ensemble.fold_comparison import SAME_FOLDS
from inkfold.ensemble.matching import are_matched_by_content, match_drawings
from inkfold.evaluation.predictions import Predictions, evaluation_mask

PartName = Literal["held out", "test"]
SHOWN = 3  # examples in a sentence


@final
class MatchedPart:
    """Several runs' predictions of one part of the drawings, with the number of each row's drawing.

    Runs are named by their places, from 0; `rows` are two runs' rows of the drawings that both have, in one order.

    Args:
        predictions: Each run's predictions; None where it has none of this part.
        names: What sentences call the runs.
        part: The drawings: held out in training, or of the test.
    """

    def __init__(self, predictions: Sequence[Predictions | None], names: Sequence[str], part: PartName) -> None:
        self.predictions, self.names, self.part = predictions, names, part
        known = [i for i, own in enumerate(predictions) if own is not None]
        numbers = match_drawings([own for own in predictions if own is not None])
        self.numbers = [np.empty(0, np.int64) for _ in predictions]
        for i, own in zip(known, numbers, strict=True):
            self.numbers[i] = own

    def is_labelled(self, i: int) -> bool:
        """Return whether a run has predictions of this part, with true classes."""
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
        fair &= self._labels(i)[rows[0]] == self._labels(j)[rows[1]]
        return fair

    def notes(self, i: int, j: int, rows: Sequence[np.ndarray]) -> list[str]:
        """Say which drawings of two runs are not compared."""
        notes = []
        lists = [
            text
            for own, other in ((i, j), (j, i))
            for text in self._only(own, other, self._paths_only_of(own, other), "drawing")
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

    def _only(self, i: int, j: int, names: set[str], noun: str) -> Iterator[str]:
        if names:
            some = ", ".join(f"'{name}'" for name in sorted(names)[:SHOWN])
            ending = "" if len(names) == 1 else "es" if noun == "class" else "s"
            more = " and others" if len(names) > SHOWN else ""
            yield f"{len(names):,} {noun}{ending} that only {self.names[i]} has, not {self.names[j]} ({some}{more})"

    def _paths_only_of(self, i: int, j: int) -> set[str]:
        return {*self._own(i).image_paths[~np.isin(self.numbers[i], self.numbers[j])].tolist()}

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
