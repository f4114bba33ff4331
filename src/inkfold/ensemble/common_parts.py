"""Which drawings all members of a vote held out, where some held out fewer of the same parts, as `folds.parts` says."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from inkfold.ensemble.member_predictions import PartPredictions
from inkfold.errors import Problem


def common_parts(members: Sequence[PartPredictions]) -> tuple[list[PartPredictions], tuple[Problem, ...]]:
    """Keep the drawings that all members held out, where they held out different numbers of the same parts.

    The folds are those of one division where each fold that two members have holds out the same drawings in both, and no
    drawing is in two folds. Members of other kinds stay as they are: that they differ is reported elsewhere.

    Args:
        members: The members' out-of-fold predictions, with the numbers of their drawings.

    Returns:
        The members' predictions of the common drawings, and a warning that says how many these are; the members themselves and
        no warning where their drawings are the same, or their folds don't agree.
    """
    drawings = [frozenset(member.drawings.tolist()) for member in members]
    if len({*drawings}) == 1 or not _are_of_one_division(members):
        return [*members], ()
    common = frozenset.intersection(*drawings)
    if len(common) < 2:
        return [*members], ()
    counts = ", ".join(f"{member.name} {len(own):,}" for member, own in zip(members, drawings, strict=True))
    text = (
        f"is chosen and measured on {len(common):,} of {len(frozenset.union(*drawings)):,} drawings, those that are held out "
        f"by all members ({counts}). Train the others with folds.parts=null to measure it on all."
    )
    return [_only(member, common) for member in members], (Problem("common_parts", "vote", text, "warning"),)


def _are_of_one_division(members: Sequence[PartPredictions]) -> bool:
    held_out: dict[int, frozenset[int]] = {}
    for member in members:
        if member.predictions.folds is None:
            return False
        for fold, own in _by_fold(zip(member.predictions.folds.tolist(), member.drawings.tolist(), strict=True)).items():
            if held_out.setdefault(fold, own) != own:
                return False
    return sum(map(len, held_out.values())) == len(frozenset().union(*held_out.values()))


def _by_fold(pairs: Iterable[tuple[int, int]]) -> dict[int, frozenset[int]]:
    folds: dict[int, set[int]] = {}
    for fold, drawing in pairs:
        folds.setdefault(fold, set()).add(drawing)
    return {fold: frozenset(own) for fold, own in folds.items()}


def _only(member: PartPredictions, common: frozenset[int]) -> PartPredictions:
    rows = np.array([row for row, drawing in enumerate(member.drawings.tolist()) if drawing in common], np.int64)
    keys = [member.keys[row] for row in rows.tolist()]
    return replace(member, predictions=member.predictions.select(rows), keys=keys, drawings=member.drawings[rows])
