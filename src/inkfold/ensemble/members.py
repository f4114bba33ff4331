"""The members of a vote, with their rows and classes brought into one order by name; nothing is matched by position.

A member is a run, or a file of predictions that somebody else made. Whatever doesn't fit is told together: other drawings,
other classes, rows that aren't probabilities.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, Shaped

from inkfold.ensemble.answers import (
    Answers,
    MemberPredictions,
    answers_of,
    form_problems,
    is_off,
    lacking,
    member_problems,
    row_problems,
)
from inkfold.ensemble.voting import Ballot, TieRule, vote_of_folds
from inkfold.errors import PredictionError, Problem
from inkfold.storage.hashing import digest

SHOWN = 3


@dataclass(frozen=True, slots=True)
class AlignedMembers:
    """All members, drawing by drawing and class by class.

    Attributes:
        names: Of the members.
        class_names: In the order of the columns.
        out_of_fold: Each member's probabilities; None unless all members have them.
        out_of_fold_paths: Of the training drawings.
        targets: Their class ids.
        parts: In which each was held out, for the second level.
        test: Each member's folds, (folds, n, classes); None unless all members have them.
        test_paths: Of the test drawings.
        test_targets: Their class ids, where they are known.
        learnt: Which training drawings some member's backbone learnt from before; None where no member says.
        warnings: Predictions that only some members have, and that are left out therefore.
    """

    names: tuple[str, ...]
    class_names: tuple[str, ...]
    out_of_fold: Float[np.ndarray, "members n classes"] | None
    out_of_fold_paths: Shaped[np.ndarray, " n"]
    targets: Int64[np.ndarray, " n"]
    parts: Int64[np.ndarray, " n"]
    test: tuple[Float[np.ndarray, "folds n classes"], ...] | None
    test_paths: Shaped[np.ndarray, " n"]
    test_targets: Int64[np.ndarray, " n"] | None
    learnt: Bool[np.ndarray, " n"] | None = None
    warnings: tuple[Problem, ...] = ()

    def test_members(self, within: Ballot, ties: TieRule) -> Float[np.ndarray, "members n classes"]:
        """Let each member's folds vote on the test drawings.

        Args:
            within: How.
            ties: Of hard votes.

        Returns:
            A row a drawing for each member.
        """
        assert self.test is not None
        members = np.empty((len(self.test), *self.test[0].shape[1:]))
        for member, folds in zip(members, self.test, strict=True):
            member[:] = vote_of_folds(folds, within, ties)
        return members


def align_members(panelists: Sequence[MemberPredictions], parts: int = 5) -> AlignedMembers:
    """Bring members into one order: the first run's, so that a submission has the data's rows, else the first member's.

    Rows whose sums float16 or rounding took from 1 are divided by them.

    The second level's parts are the folds of the first member that has some: those keep drawings together that belong
    together. That another member held out other drawings at a time leaks nothing, since each drawing is answered by a model
    that hadn't seen it, whatever part it is judged in. Without any folds drawings are dealt out by their names, whatever
    group they are of.

    Args:
        panelists: At least two.
        parts: Of the second level, where no member says in which fold a drawing was held out.

    Returns:
        The panel.

    Raises:
        PredictionError: With everything that doesn't fit.
    """
    train, test = _seat(panelists)
    some = train or test
    assert some is not None
    targets = None if train is None else train.targets()
    nothing, no_ids = np.empty(0, np.dtypes.StringDType()), np.empty(0, np.int64)
    return AlignedMembers(
        names=tuple(one.name for one in panelists),
        class_names=some.class_names,
        out_of_fold=None if train is None else train.stacked(),
        out_of_fold_paths=nothing if train is None else train.image_paths,
        targets=no_ids if targets is None else targets,
        parts=no_ids if train is None else train.parts(parts),
        test=None if test is None else tuple(map(test.folds_of, test.answers)),
        test_paths=nothing if test is None else test.image_paths,
        test_targets=None if test is None else test.targets(),
        learnt=None if train is None else train.learnt(),
        warnings=lacking(panelists),
    )


@final
class _Bench:
    """All members' predictions of one part of the data, and the order that they are brought into."""

    def __init__(self, answers: Sequence[Answers], lead: int) -> None:
        self.answers, self.lead = answers, answers[lead]
        self.class_names = self.lead.given.class_names
        self.image_paths = self.lead.given.image_paths

    def differences(self) -> Iterator[Problem]:
        """Tell which drawings and classes members lack or have besides."""
        for one in self.answers:
            for what, ours, theirs in (
                ("classes", {*one.given.class_names}, {*self.class_names}),
                ("drawings", {*one.keys}, {*self.lead.keys}),
            ):
                if ours != theirs:
                    yield Problem(what, one.where, _difference(what, ours, theirs, self.lead.name))

    def label_problems(self, needed: bool) -> Iterator[Problem]:
        """Tell where members say different true classes; forms, drawings and classes fit by now."""
        labelled = [one for one in self.answers if one.given.targets is not None]
        for one in labelled[1:]:
            wrong = np.flatnonzero(self.targets_of(one) != self.targets_of(labelled[0]))
            if len(wrong):
                text = f"has other labels than {labelled[0].name} for {len(wrong)} drawings, such as"
                text += f" '{self.image_paths[wrong[0]]}', expected the same. Train all members on the same data."
                yield Problem("labels", one.where, text)
        if needed and not labelled:
            text = "no member says the true classes, without which no vote can be judged. Name the data: --data DIR."
            yield Problem("labels", self.lead.where, text)

    def rows_of(self, one: Answers) -> Int64[np.ndarray, " n"]:
        """Give the row in which one has each drawing; the first of several."""
        row_of = {key: row for row, key in reversed([*enumerate(one.keys)])}
        return np.array([row_of[key] for key in self.lead.keys], np.int64)

    def columns_of(self, one: Answers) -> Int64[np.ndarray, " classes"]:
        """Give the column in which one has each class."""
        return np.array([one.given.class_names.index(name) for name in self.class_names], np.int64)

    def folds_of(self, one: Answers) -> Float32[np.ndarray, "folds n classes"]:
        """Give one's probabilities in order, with rows that sum to 1; no copy where nothing changes."""
        given, rows, columns = one.folds, self.rows_of(one), self.columns_of(one)
        in_order = np.array_equal(rows, np.arange(given.shape[1])) and np.array_equal(columns, np.arange(given.shape[2]))
        exact = not is_off(given.sum(2, dtype=np.float64)).any() and not (given < 0).any()
        if in_order and exact and given.dtype == np.float32:
            return given
        folds = np.empty((len(given), len(rows), len(columns)), np.float32)
        for fold, probs in zip(folds, given, strict=True):
            ordered = np.maximum(probs[np.ix_(rows, columns)], 0, dtype=np.float64)
            sums = ordered.sum(1, keepdims=True)
            fold[:] = ordered / np.where(is_off(sums), sums, 1)
        return folds

    def stacked(self) -> Float32[np.ndarray, "members n classes"]:
        """Give all members' probabilities, each of one fold."""
        stack = np.empty((len(self.answers), len(self.lead.keys), len(self.class_names)), np.float32)
        for member, one in zip(stack, self.answers, strict=True):
            member[:] = self.folds_of(one)[0]
        return stack

    def targets(self) -> Int64[np.ndarray, " n"] | None:
        """Give the true class ids in order, by the first member that knows them."""
        return next((self.targets_of(one) for one in self.answers if one.given.targets is not None), None)

    def targets_of(self, one: Answers) -> Int64[np.ndarray, " n"]:
        """Give one's true class ids in order."""
        assert one.given.targets is not None
        place = np.argsort(self.columns_of(one))  # the inverse of a permutation
        targets: np.ndarray = place[one.given.targets[self.rows_of(one)]]
        return targets

    def learnt(self) -> Bool[np.ndarray, " n"] | None:
        """Say which drawings some member's backbone learnt from before."""
        told = [one.given.seen[self.rows_of(one)] for one in self.answers if one.given.seen is not None]
        return np.logical_or.reduce(told) if told else None

    def parts(self, count: int) -> Int64[np.ndarray, " n"]:
        """Take the folds in which drawings were held out; else deal drawings out in the order of their names' hashes."""
        for one in self.answers:
            if one.given.folds is not None and len(np.unique(one.given.folds)) > 1:
                folds: np.ndarray = one.given.folds[self.rows_of(one)]
                return folds
        order = sorted(range(len(self.lead.keys)), key=lambda row: digest(self.lead.keys[row].encode()))
        parts = np.empty(len(order), np.int64)
        parts[order] = np.arange(len(order)) % count
        return parts


def _seat(panelists: Sequence[MemberPredictions]) -> tuple[_Bench | None, _Bench | None]:
    """Compare all members' training and test predictions; None for a part of the data that some know nothing of."""
    out_of_fold = [answers_of(one, one.out_of_fold, "out of fold") for one in panelists]
    test = [answers_of(one, one.test, "test") for one in panelists]
    had = [[one for one in ones if one is not None] for ones in (out_of_fold, test)]
    problems = [*member_problems(panelists), *form_problems(*had), *row_problems(*had)]
    lead = next((i for i, one in enumerate(panelists) if one.run is not None), 0)
    train_bench, test_bench = (_Bench(ones, lead) if len(ones) == len(panelists) > 1 else None for ones in had)
    if train_bench is not None and test_bench is not None:
        test_bench.class_names = train_bench.class_names
    benches = [bench for bench in (train_bench, test_bench) if bench is not None]
    problems += [problem for bench in benches for problem in bench.differences()]
    if not any(problem.kind in ("form", "classes", "drawings") for problem in problems):
        problems += [problem for bench in benches for problem in bench.label_problems(needed=bench is train_bench)]
    if problems:
        raise PredictionError(problems)
    return train_bench, test_bench


def _difference(what: str, ours: set[str], theirs: set[str], other: str) -> str:
    parts = [f"has {len(ours)} {what}, {other} {len(theirs)}"]
    for label, names in (("without", theirs - ours), ("besides", ours - theirs)):
        if names:
            some = ", ".join(repr(name) for name in sorted(names)[:SHOWN])
            parts.append(f"{label} {some}{f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''}")
    return f"{', '.join(parts)}. All members must have the same."
