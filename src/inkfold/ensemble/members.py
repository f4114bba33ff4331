"""The members' predictions in one order of drawings and classes, matched by content or name and never by position.

A member is a finished run, or a file of predictions from elsewhere. Everything that doesn't fit is reported together: different
drawings, different classes, rows that aren't probabilities.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, Shaped

from inkfold.config.sections import Ballot, TieRule
from inkfold.ensemble.common_parts import common_parts
from inkfold.ensemble.matching import are_matched_by_content, match_drawings
from inkfold.ensemble.member_predictions import (
    SHOWN,
    MemberPredictions,
    PartPredictions,
    form_problems,
    incomplete_members,
    is_off,
    member_problems,
    part_predictions,
    row_problems,
)
from inkfold.ensemble.voting import vote_of_folds
from inkfold.errors import PredictionError, Problem
from inkfold.evaluation.intervals import coarsest_groups
from inkfold.storage.hashing import digest
from inkfold.storage.scratch import scratch_array


@dataclass(frozen=True, slots=True)
class AlignedMembers:
    """All members' predictions, with rows and columns in one order.

    Attributes:
        names: Name of each member, in the order of the probabilities' first axis.
        class_names: Class names, in the order of the columns.
        out_of_fold: Each member's class probabilities of the training drawings; None unless all members have them.
        out_of_fold_paths: Image paths of the training drawings, in the order of the rows.
        targets: True class ids of the training drawings.
        parts: The second level's part of each training drawing.
        test: Each member's class probabilities of the test drawings, by fold; None unless all members have them.
        test_paths: Image paths of the test drawings, in the order of the rows.
        test_targets: True class ids of the test drawings; None where they aren't known.
        seen_in_pretraining: Whether some member's backbone was trained on the training drawing before; None where no member
            says so.
        warnings: Predictions that are left out because only some members have them; how many drawings the vote is measured on,
            where members held out different numbers of the same parts.
        digests: Digest of each training drawing's file; None where no member knows it.
        test_digests: Digest of each test drawing's file; None where no member knows it.
        groups: Number of each training drawing's group, by the member that knows the fewest groups; None where none is known.
        test_groups: The same of each test drawing.
        held_out_in: The fold that held each training drawing out, by the first member that says so; None where none does.
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
    seen_in_pretraining: Bool[np.ndarray, " n"] | None = None
    warnings: tuple[Problem, ...] = ()
    digests: Shaped[np.ndarray, " n"] | None = None
    test_digests: Shaped[np.ndarray, " n"] | None = None
    groups: Int64[np.ndarray, " n"] | None = None
    test_groups: Int64[np.ndarray, " n"] | None = None
    held_out_in: Int64[np.ndarray, " n"] | None = None

    def test_members(self, within: Ballot, ties: TieRule) -> Float[np.ndarray, "members n classes"]:
        """Pool each member's folds into one prediction of the test drawings, by their mean (soft) or their votes (hard)."""
        assert self.test is not None
        members = scratch_array((len(self.test), *self.test[0].shape[1:]))
        for member, folds in zip(members, self.test, strict=True):
            member[:] = vote_of_folds(folds, within, ties)
        return members


def align_members(members: Sequence[MemberPredictions], num_parts: int = 5) -> AlignedMembers:
    """Bring members into one order: the first run's, so that a submission has the data's rows, else the first member's.

    Drawings are matched by their files' contents, which runs know, and else by their paths. Rows whose sums float16 or rounding
    moved away from 1 are divided by their sums.

    The second level's parts are the folds of the first member that has some: those keep drawings together that belong
    together. That another member held out other drawings at a time leaks nothing, since each drawing is predicted by a model
    that was not trained on it, whatever part it is scored in. Without any folds, drawings are dealt out by the hashes of their
    paths, without regard to groups.

    Args:
        members: The members' predictions; two members at least.
        num_parts: Number of the second level's parts, at least 2, where no member says in which fold a drawing was held out.

    Raises:
        PredictionError: With everything that doesn't fit.
    """
    train, test = _align_parts(members)
    some = train or test
    assert some is not None
    targets = None if train is None else train.targets()
    no_paths, no_ids = np.empty(0, np.dtypes.StringDType()), np.empty(0, np.int64)
    return AlignedMembers(
        names=tuple(member.name for member in members),
        class_names=some.class_names,
        out_of_fold=None if train is None else train.stacked(),
        out_of_fold_paths=no_paths if train is None else train.image_paths,
        targets=no_ids if targets is None else targets,
        parts=no_ids if train is None else train.second_level(num_parts),
        test=None if test is None else tuple(map(test.folds_of, test.members)),
        test_paths=no_paths if test is None else test.image_paths,
        test_targets=None if test is None else test.targets(),
        seen_in_pretraining=None if train is None else train.seen_in_pretraining(),
        warnings=(*incomplete_members(members), *(() if train is None else train.warnings)),
        digests=None if train is None else train.digests(),
        test_digests=None if test is None else test.digests(),
        groups=None if train is None else train.groups(),
        test_groups=None if test is None else test.groups(),
        held_out_in=None if train is None else train.held_out_in(),
    )


@final
class _AlignedPart:
    """All members' predictions of one part of the data, and the order that they are brought into."""

    def __init__(self, members: Sequence[PartPredictions], reference: int) -> None:
        numbers = match_drawings([member.predictions for member in members])
        numbered = [replace(member, drawings=own) for member, own in zip(members, numbers, strict=True)]
        self.members, self.warnings = common_parts(numbered)
        self.reference = self.members[reference]
        self.class_names = self.reference.predictions.class_names
        self.image_paths = self.reference.predictions.image_paths

    def differences(self) -> Iterator[Problem]:
        """Find drawings and classes that a member lacks or has in addition."""
        reference = self.reference
        for member in self.members:
            names = [{name: name for name in one.predictions.class_names} for one in (member, reference)]
            if {*names[0]} != {*names[1]}:
                text = _difference("classes", names[0], names[1], reference.name)
                yield Problem("classes", member.where, f"{text}. All members must have the same.")
            own, expected = (one.names_of_drawings() for one in (member, reference))
            if {*own} != {*expected}:
                text = _difference("drawings", own, expected, reference.name)
                yield Problem("drawings", member.where, f"{text}. {_what_to_do(member, reference)}")

    def label_problems(self, needed: bool) -> Iterator[Problem]:
        """Find members with different true classes; forms, drawings and classes must have been checked before."""
        labelled = [member for member in self.members if member.predictions.targets is not None]
        for member in labelled[1:]:
            wrong = np.flatnonzero(self.targets_of(member) != self.targets_of(labelled[0]))
            if len(wrong):
                text = f"has other labels than {labelled[0].name} for {len(wrong)} drawings, such as"
                text += f" '{self.image_paths[wrong[0]]}', expected the same. Train all members on the same data."
                yield Problem("labels", member.where, text)
        if needed and not labelled:
            text = "no member says the true classes, without which no vote can be scored. Name the data: --data DIR."
            yield Problem("labels", self.reference.where, text)

    def rows_of(self, member: PartPredictions) -> Int64[np.ndarray, " n"]:
        """Give the row in which a member has each drawing; the first of several."""
        row_of = {drawing: row for row, drawing in reversed([*enumerate(member.drawings.tolist())])}
        return np.array([row_of[drawing] for drawing in self.reference.drawings.tolist()], np.int64)

    def columns_of(self, member: PartPredictions) -> Int64[np.ndarray, " classes"]:
        """Give the column in which a member has each class."""
        return np.array([member.predictions.class_names.index(name) for name in self.class_names], np.int64)

    def folds_of(self, member: PartPredictions) -> Float32[np.ndarray, "folds n classes"]:
        """Give a member's probabilities in order, with rows that sum to 1; no copy where nothing changes."""
        own, rows, columns = member.folds, self.rows_of(member), self.columns_of(member)
        in_order = np.array_equal(rows, np.arange(own.shape[1])) and np.array_equal(columns, np.arange(own.shape[2]))
        exact = not is_off(own.sum(2, dtype=np.float64)).any() and not (own < 0).any()
        if in_order and exact and own.dtype == np.float32:
            return own
        folds = scratch_array((len(own), len(rows), len(columns)), np.float32)
        for fold, probs in zip(folds, own, strict=True):
            ordered = np.maximum(probs[np.ix_(rows, columns)], 0, dtype=np.float64)
            sums = ordered.sum(1, keepdims=True)
            fold[:] = ordered / np.where(is_off(sums), sums, 1)
        return folds

    def stacked(self) -> Float32[np.ndarray, "members n classes"]:
        """Stack all members' probabilities, each of one fold."""
        stack = scratch_array((len(self.members), len(self.reference.keys), len(self.class_names)), np.float32)
        for probs, member in zip(stack, self.members, strict=True):
            probs[:] = self.folds_of(member)[0]
        return stack

    def targets(self) -> Int64[np.ndarray, " n"] | None:
        """Give the true class ids in order, by the first member that has them."""
        return next((self.targets_of(member) for member in self.members if member.predictions.targets is not None), None)

    def targets_of(self, member: PartPredictions) -> Int64[np.ndarray, " n"]:
        """Give a member's true class ids in order."""
        assert member.predictions.targets is not None
        place = np.argsort(self.columns_of(member))  # the inverse of a permutation
        targets: np.ndarray = place[member.predictions.targets[self.rows_of(member)]]
        return targets

    def seen_in_pretraining(self) -> Bool[np.ndarray, " n"] | None:
        """Give which drawings some member's backbone was trained on before."""
        flags = [
            member.predictions.seen[self.rows_of(member)] for member in self.members if member.predictions.seen is not None
        ]
        return np.logical_or.reduce(flags) if flags else None

    def digests(self) -> Shaped[np.ndarray, " n"] | None:
        """Give the digests of the drawings' files, by the first member that has them."""
        known = ((member, member.predictions.digests) for member in self.members)
        return next((own[self.rows_of(member)] for member, own in known if own is not None), None)

    def groups(self) -> Int64[np.ndarray, " n"] | None:
        """Give the groups of the member that knows the fewest."""
        known = ((one, one.predictions.groups) for one in self.members)
        return coarsest_groups(None if own is None else own[self.rows_of(member)] for member, own in known)

    def held_out_in(self) -> Int64[np.ndarray, " n"] | None:
        """Give the fold that held each drawing out, by the first member that says so."""
        known = ((member, member.predictions.folds) for member in self.members)
        return next((own[self.rows_of(member)] for member, own in known if own is not None), None)

    def second_level(self, count: int) -> Int64[np.ndarray, " n"]:
        """Take the folds in which drawings were held out; else deal drawings out in the order of their paths' hashes."""
        for member in self.members:
            own = member.predictions.folds
            if own is not None and len(np.unique(own)) > 1:
                folds: np.ndarray = own[self.rows_of(member)]
                return folds
        keys = self.reference.keys
        order = sorted(range(len(keys)), key=lambda row: digest(keys[row].encode()))
        parts = np.empty(len(order), np.int64)
        parts[order] = np.arange(len(order)) % count
        return parts


def _align_parts(members: Sequence[MemberPredictions]) -> tuple[_AlignedPart | None, _AlignedPart | None]:
    """Check and align all members' training and test predictions; None for a part that some members lack."""
    out_of_fold = [part_predictions(member, member.out_of_fold, "out of fold") for member in members]
    test = [part_predictions(member, member.test, "test") for member in members]
    available = [[part for part in parts if part is not None] for parts in (out_of_fold, test)]
    problems = [*member_problems(members), *form_problems(*available), *row_problems(*available)]
    reference = next((i for i, member in enumerate(members) if member.run is not None), 0)
    aligned_train, aligned_test = (
        _AlignedPart(parts, reference) if len(parts) == len(members) > 1 else None for parts in available
    )
    if aligned_train is not None and aligned_test is not None:
        aligned_test.class_names = aligned_train.class_names
    aligned = [part for part in (aligned_train, aligned_test) if part is not None]
    problems += [problem for part in aligned for problem in part.differences()]
    if not any(problem.kind in ("form", "classes", "drawings") for problem in problems):
        problems += [problem for part in aligned for problem in part.label_problems(needed=part is aligned_train)]
    if problems:
        raise PredictionError(problems)
    return aligned_train, aligned_test


def _difference(what: str, own: Mapping[Any, str], expected: Mapping[Any, str], reference: str) -> str:
    """Say how many classes or drawings, whose names the mappings give, only one of two members has, with the first names."""
    parts = [f"has {len(own)} {what}, {reference} {len(expected)}"]
    for label, there, here in (("without", expected, own), ("besides", own, expected)):
        names = sorted(name for key, name in there.items() if key not in here)
        if names:
            some = ", ".join(repr(name) for name in names[:SHOWN])
            parts.append(f"{label} {len(names)}: {some}{' and others' if len(names) > SHOWN else ''}")
    return "; ".join(parts)


def _what_to_do(member: PartPredictions, reference: PartPredictions) -> str:
    """Say by what two members' drawings were matched, and what to do where they differ."""
    if not are_matched_by_content(member.predictions, reference.predictions):
        unknown = member if member.predictions.digests is None else reference
        matched = f"They were matched by their paths, since {unknown.name} doesn't know the files' contents"
    else:
        matched = "They were matched by the files' contents"
        other = dict(zip(reference.keys, reference.drawings.tolist(), strict=True))
        own = zip(member.keys, member.drawings.tolist(), strict=True)
        if changed := [key for key, drawing in own if other.get(key, drawing) != drawing]:
            matched += f", which differ for {len(changed)} paths that both have, such as '{min(changed)}'"
    if member.is_run and reference.is_run and member.predictions.fold_probs is None:
        return f"{matched}. Train {member.name} on the data of {reference.name}, with the same folds.* and seed."
    return f"{matched}. All members must have the same: predict the same drawings."
