"""One member's predictions, and whether a vote can use them: shapes, rows and paths, checked for each member alone."""

import posixpath
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Bool, Float, Int64

from inkfold.errors import Problem
from inkfold.evaluation.predictions import Predictions

SUM_TOLERANCE = 1e-3  # rows of float16, which has 11 bits, sum to 1 within half of this
NEGATIVE_TOLERANCE = 1e-6
EXACT = 1e-6  # rows of float32 sum to 1 within this, and stay as they are to the bit
DECIMALS = (3, 4, 5, 6)  # that people round to
MOST_ROUNDING = 0.2
SHOWN = 3  # examples in a message
NOT_PLAIN = re.compile(r"\\|//|(?:^|/)\.{0,2}(?:/|$)|^\s|\s$")


@dataclass(frozen=True, slots=True)
class MemberPredictions:
    """The predictions of one member of a vote.

    Attributes:
        name: The name shown in tables and messages.
        out_of_fold: Predictions of training drawings, each by a model that was not trained on it; None if there are none.
        test: Predictions of the test drawings; None if there are none.
        run: Directory of the run that made them and can predict new drawings; None for a file of predictions.
    """

    name: str
    out_of_fold: Predictions | None
    test: Predictions | None
    run: Path | None = None


def path_keys(image_paths: Iterable[str]) -> list[str]:
    """Bring image paths into the form in which they are compared: NFC, forward slashes, no `./`, no blanks around.

    Data find a file by any such spelling and keep their own, so files of predictions may spell one drawing differently.
    Where one list has two spellings itself, data may hold two such files: both stay as they are.

    Args:
        image_paths: Image paths of one part of the data.

    Returns:
        One key per path; different paths have different keys.
    """
    texts = [*image_paths]
    keys = [plain_path(text) for text in texts]
    while doubtful := _shared(keys, texts):  # a path that stays as it is may be another's key
        keys = [text if key in doubtful else key for key, text in zip(keys, texts, strict=True)]
    return keys


def _shared(keys: list[str], texts: list[str]) -> set[str]:
    """List the keys that differently spelt paths have in common."""
    spelling: dict[str, str] = {}
    return {key for key, text in zip(keys, texts, strict=True) if spelling.setdefault(key, text) != text}


@final
@dataclass(frozen=True, slots=True)
class PartPredictions:
    """One member's predictions of one part of the data, the training or the test drawings.

    Attributes:
        name: What tables and messages call the member; unique in its vote.
        where: The member's name and the part, for messages.
        predictions: The member's probabilities or class ids of this part, as they were read, in their own order of rows and
            columns.
        keys: The key of each row's image path; see `path_keys`.
        is_run: Whether the member is a run of this data, not a file from elsewhere.
        drawings: The number of each row's drawing, equal for rows of one drawing in all members; empty before.
    """

    name: str
    where: str
    predictions: Predictions
    keys: list[str]
    is_run: bool
    drawings: Int64[np.ndarray, " n"] = field(default_factory=lambda: np.empty(0, np.int64))

    def names_of_drawings(self) -> dict[int, str]:
        """Give each drawing's image path by its number."""
        return dict(zip(self.drawings.tolist(), self.predictions.image_paths.tolist(), strict=True))

    @property
    def folds(self) -> Float[np.ndarray, "folds n classes"]:
        """All folds' probabilities; one fold where only their mean is known."""
        own = self.predictions
        return own.probs[None] if own.fold_probs is None else own.fold_probs


def part_predictions(member: MemberPredictions, predictions: Predictions | None, part: str) -> PartPredictions | None:
    """Put a member's predictions of one part of the data beside the keys of their paths; None if it has none."""
    if predictions is None:
        return None
    keys = path_keys(predictions.image_paths.tolist())
    return PartPredictions(member.name, f"{member.name}, {part}", predictions, keys, member.run is not None)


def plain_path(path: str) -> str:
    """Bring one path into the form in which paths are compared."""
    if path.isascii() and not NOT_PLAIN.search(path):
        return path
    return posixpath.normpath(re.sub(r"[\\/]+", "/", unicodedata.normalize("NFC", path).strip()))


def is_off(sums: Float[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
    """Find sums that are further from 1 than rounding to single precision takes them."""
    off: np.ndarray = np.abs(sums - 1) > EXACT
    return off


def member_problems(members: Sequence[MemberPredictions]) -> Iterator[Problem]:
    """Find members without predictions, and members that have no kind of predictions in common."""
    for member in members:
        if member.out_of_fold is None and member.test is None:
            yield Problem("members", member.name, "has no predictions at all. Leave it out.")
    if len(members) < 2:
        yield Problem("members", "vote", f"got {len(members)} members, expected two at least. Name more runs or files.")
    elif any(member.out_of_fold is None for member in members) and any(member.test is None for member in members):
        lists = "; ".join(f"{member.name} has {_kinds(member)}" for member in members)
        yield Problem("members", "vote", f"no kind of predictions is had by all members: {lists}. Leave some out.")


def _kinds(member: MemberPredictions) -> str:
    kinds = (("out-of-fold", member.out_of_fold), ("test", member.test))
    return f"{' and '.join(name for name, predictions in kinds if predictions is not None) or 'no'} predictions"


def incomplete_members(members: Sequence[MemberPredictions]) -> tuple[Problem, ...]:
    """Warn of predictions that are left out because only some members have them."""
    return tuple(
        Problem(
            "incomplete", member.name, f"has {_kinds(member)} only, so the others' of the other kind are left out.", "warning"
        )
        for member in members
        if (member.out_of_fold is None and any(other.out_of_fold is not None for other in members))
        or (member.test is None and any(other.test is not None for other in members))
    )


def form_problems(out_of_fold: Sequence[PartPredictions], test: Sequence[PartPredictions]) -> Iterator[Problem]:
    """Find wrong shapes, class names, class ids and folds."""
    for member in (*out_of_fold, *test):
        for text in _form_faults(member.predictions):
            yield Problem("form", member.where, text)
    for member in out_of_fold:
        if len(member.folds) > 1:
            text = "expected one per drawing, that of the fold that was not trained on it. Leave the others out."
            yield Problem("form", member.where, f"got the predictions of {len(member.folds)} folds, {text}")
        if len(member.keys) < 2:
            text = f"got {len(member.keys)} drawings, expected two at least, so that a vote can be scored. Leave them out."
            yield Problem("form", member.where, text)


def _form_faults(predictions: Predictions) -> Iterator[str]:
    n, classes = len(predictions.image_paths), len(predictions.class_names)
    for probs in (predictions.probs[None], predictions.fold_probs):
        if probs is not None and (probs.shape[1:] != (n, classes) or not len(probs)):
            yield f"got {probs.shape}, expected (folds, {n}, {classes}) for {n} paths and {classes} classes. Write them anew."
    if repeated := [name for i, name in enumerate(predictions.class_names) if name in predictions.class_names[:i]]:
        yield f"names class '{repeated[0]}' more than once, expected each once. Write them anew."
    known = (("class ids", predictions.targets), ("folds", predictions.folds), ("digests", predictions.digests))
    for what, ids in known:
        if ids is not None and ids.shape != (n,):
            yield f"got {len(ids)} {what}, expected {n}. Write them anew."
    ids = predictions.targets
    if ids is not None and ids.size and not 0 <= ids.min() <= ids.max() < classes:
        yield f"got class ids {ids.min()} to {ids.max()}, expected 0 to {classes - 1}. Write them anew."


def row_problems(out_of_fold: Sequence[PartPredictions], test: Sequence[PartPredictions]) -> Iterator[Problem]:
    """Find drawings that are there twice and rows that are no probabilities.

    A test table may name a drawing twice, and a submission must then have both rows; so may other members, if both agree.
    """
    twice = {key for member in test if member.is_run for key in _repeats(member, ())}
    for members, allowed in ((out_of_fold, set[str]()), (test, twice)):
        for member in members:
            if [*_form_faults(member.predictions)]:
                continue
            if repeats := _repeats(member, allowed):
                text = f"names {len(repeats)} drawings more than once, such as '{next(iter(repeats.values()))}'"
                yield Problem("drawings_twice", member.where, f"{text}, expected one row each. Remove the others.")
            for text in _row_faults(member):
                yield Problem("rows", member.where, text)


def _repeats(member: PartPredictions, allowed: Collection[str]) -> dict[str, str]:
    """Find drawings that are there twice, by key; not the allowed ones if their rows agree."""
    first: dict[str, int] = {}
    repeats = {}
    for row, (path, own_key) in enumerate(zip(member.predictions.image_paths.tolist(), member.keys, strict=True)):
        key = own_key if member.is_run else plain_path(path)
        before = first.setdefault(key, row)
        if before != row and not (
            key in allowed and np.allclose(member.folds[:, row], member.folds[:, before], rtol=0, atol=SUM_TOLERANCE)
        ):
            repeats[key] = path
    return repeats


def _row_faults(member: PartPredictions) -> Iterator[str]:
    finite = np.isfinite(member.folds).all(2)
    with np.errstate(invalid="ignore"):
        off = np.abs(member.folds.sum(2, dtype=np.float64) - 1)
    wrong = finite & (off > SUM_TOLERANCE)
    if wrong.any():
        wrong &= off > _rounding(member.folds[finite])
    negative = finite & (member.folds < -NEGATIVE_TOLERANCE).any(2)
    for rows, fault, remedy in (
        (~finite, "hold NaN or infinity", "expected numbers. Write them anew"),
        (negative, "hold numbers below 0", "expected probabilities. Take the softmax of logits"),
        (wrong, "don't sum to 1", "expected probabilities. Take the softmax of logits, or divide each row by its sum"),
    ):
        if rows.any():
            fold, row = np.argwhere(rows)[0].tolist()
            place = f"'{member.predictions.image_paths[row]}'" + (f" in fold {fold}" if len(member.folds) > 1 else "")
            values = member.folds[fold, row].astype(np.float64)
            some = ", ".join(f"{value:.4g}" for value in values[:SHOWN])
            total = f" (sum {values.sum():.6g})" if rows is wrong else ""
            yield f"{int(rows.any(0).sum())} rows {fault}, such as that of {place}: {some} ...{total}; {remedy}."


def _rounding(rows: Float[np.ndarray, "n classes"]) -> float:
    """Give how far rounding took sums from 1 at most: half a unit of the last decimal that is used, for each class."""
    for decimals in DECIMALS:
        unit = float(10.0**-decimals)
        if all(np.abs(row - np.round(row, decimals)).max() < 0.1 * unit for row in rows.astype(np.float64)):
            return float(min(MOST_ROUNDING, rows.shape[1] * unit / 2) + EXACT)
    return SUM_TOLERANCE
