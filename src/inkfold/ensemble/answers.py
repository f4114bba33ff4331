"""What one member of a vote answered, and whether that can be voted on: forms, rows and paths, each member by itself."""

import posixpath
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Bool, Float

from inkfold.errors import Problem
from inkfold.evaluation.predictions import Predictions

SUM_TOLERANCE = 1e-3  # rows of float16, which has 11 bits, sum to 1 within half of this
NEGATIVE_TOLERANCE = 1e-6
EXACT = 1e-6  # rows of float32 sum to 1 within this, and stay as they are to the bit
DECIMALS = (3, 4, 5, 6)  # that people round to
MOST_ROUNDING = 0.2
SHOWN = 3
NOT_PLAIN = re.compile(r"\\|//|(?:^|/)\.{0,2}(?:/|$)|^\s|\s$")


@dataclass(frozen=True, slots=True)
class MemberPredictions:
    """One member of a vote.

    Attributes:
        name: For tables.
        out_of_fold: What it said of training drawings that it had not seen; None if that is not known.
        test: What it says of the test drawings; None if that is not known.
        run: A run that can be asked about new drawings; None for a mere file.
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
        image_paths: Of one part of the data.

    Returns:
        One key a path.
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
class Answers:
    """One member's predictions of one part of the data."""

    name: str
    where: str
    given: Predictions
    keys: list[str]
    is_run: bool

    @property
    def folds(self) -> Float[np.ndarray, "folds n classes"]:
        """All folds' probabilities; one where only their mean is known."""
        return self.given.probs[None] if self.given.fold_probs is None else self.given.fold_probs


def answers_of(panelist: MemberPredictions, given: Predictions | None, part: str) -> Answers | None:
    """Put a member's predictions of one part of the data beside the paths' keys; None if it has none."""
    if given is None:
        return None
    keys = path_keys(given.image_paths.tolist())
    return Answers(panelist.name, f"{panelist.name}, {part}", given, keys, panelist.run is not None)


def plain_path(path: str) -> str:
    """Bring one path into the form that is compared."""
    if path.isascii() and not NOT_PLAIN.search(path):
        return path
    return posixpath.normpath(re.sub(r"[\\/]+", "/", unicodedata.normalize("NFC", path).strip()))


def is_off(sums: Float[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
    """Say which sums are further from 1 than single precision takes them."""
    off: np.ndarray = np.abs(sums - 1) > EXACT
    return off


def member_problems(panelists: Sequence[MemberPredictions]) -> Iterator[Problem]:
    """Tell which members have nothing that can be voted on, or nothing in common."""
    for one in panelists:
        if one.out_of_fold is None and one.test is None:
            yield Problem("members", one.name, "has no predictions at all. Leave it out.")
    if len(panelists) < 2:
        yield Problem("members", "vote", f"got {len(panelists)} members, expected two at least. Name more runs or files.")
    elif any(one.out_of_fold is None for one in panelists) and any(one.test is None for one in panelists):
        lists = "; ".join(f"{one.name} has {_what(one)}" for one in panelists)
        yield Problem("members", "vote", f"no kind of predictions is had by all members: {lists}. Leave some out.")


def _what(panelist: MemberPredictions) -> str:
    had = [name for name, one in (("out-of-fold", panelist.out_of_fold), ("test", panelist.test)) if one is not None]
    return f"{' and '.join(had) or 'no'} predictions"


def lacking(panelists: Sequence[MemberPredictions]) -> tuple[Problem, ...]:
    """Warn of what is left out because only some members have it."""
    return tuple(
        Problem("incomplete", one.name, f"has {_what(one)} only, so the others' of the other kind are left out.", "warning")
        for one in panelists
        if (one.out_of_fold is None and any(other.out_of_fold is not None for other in panelists))
        or (one.test is None and any(other.test is not None for other in panelists))
    )


def form_problems(out_of_fold: Sequence[Answers], test: Sequence[Answers]) -> Iterator[Problem]:
    """Tell what is wrong with shapes, class names, class ids and folds."""
    for one in (*out_of_fold, *test):
        for text in _form_faults(one.given):
            yield Problem("form", one.where, text)
    for one in out_of_fold:
        if len(one.folds) > 1:
            text = "expected one a drawing, that of the fold that had not seen it. Leave the others out."
            yield Problem("form", one.where, f"got the answers of {len(one.folds)} folds, {text}")
        if len(one.keys) < 2:
            text = f"got {len(one.keys)} drawings, expected two at least, so that a vote can be judged. Leave them out."
            yield Problem("form", one.where, text)


def _form_faults(given: Predictions) -> Iterator[str]:
    n, classes = len(given.image_paths), len(given.class_names)
    for probs in (given.probs[None], given.fold_probs):
        if probs is not None and (probs.shape[1:] != (n, classes) or not len(probs)):
            yield f"got {probs.shape}, expected (folds, {n}, {classes}) for {n} paths and {classes} classes. Write them anew."
    if repeated := [name for i, name in enumerate(given.class_names) if name in given.class_names[:i]]:
        yield f"names class '{repeated[0]}' more than once, expected each once. Write them anew."
    for what, ids in (("class ids", given.targets), ("folds", given.folds)):
        if ids is not None and ids.shape != (n,):
            yield f"got {len(ids)} {what}, expected {n}. Write them anew."
    ids = given.targets
    if ids is not None and ids.size and not 0 <= ids.min() <= ids.max() < classes:
        yield f"got class ids {ids.min()} to {ids.max()}, expected 0 to {classes - 1}. Write them anew."


def row_problems(out_of_fold: Sequence[Answers], test: Sequence[Answers]) -> Iterator[Problem]:
    """Tell of drawings that are there twice and rows that are no probabilities.

    A test table may name a drawing twice, and a submission must then have both rows; so may other members, if both agree.
    """
    twice = {key for one in test if one.is_run for key in _repeats(one, ())}
    for ones, allowed in ((out_of_fold, set[str]()), (test, twice)):
        for one in ones:
            if [*_form_faults(one.given)]:
                continue
            if repeats := _repeats(one, allowed):
                text = f"names {len(repeats)} drawings more than once, such as '{next(iter(repeats.values()))}'"
                yield Problem("drawings_twice", one.where, f"{text}, expected one row each. Remove the others.")
            for text in _row_faults(one):
                yield Problem("rows", one.where, text)


def _repeats(one: Answers, allowed: Collection[str]) -> dict[str, str]:
    """Find drawings that are there twice, by key; not those allowed if their rows agree."""
    first: dict[str, int] = {}
    found = {}
    for row, (path, own_key) in enumerate(zip(one.given.image_paths.tolist(), one.keys, strict=True)):
        key = own_key if one.is_run else plain_path(path)
        before = first.setdefault(key, row)
        if before != row and not (
            key in allowed and np.allclose(one.folds[:, row], one.folds[:, before], rtol=0, atol=SUM_TOLERANCE)
        ):
            found[key] = path
    return found


def _row_faults(one: Answers) -> Iterator[str]:
    finite = np.isfinite(one.folds).all(2)
    with np.errstate(invalid="ignore"):
        off = np.abs(one.folds.sum(2, dtype=np.float64) - 1)
    wrong = finite & (off > SUM_TOLERANCE)
    if wrong.any():
        wrong &= off > _rounding(one.folds[finite])
    negative = finite & (one.folds < -NEGATIVE_TOLERANCE).any(2)
    for rows, fault, remedy in (
        (~finite, "hold NaN or infinity", "expected numbers. Write them anew"),
        (negative, "hold numbers below 0", "expected probabilities. Take the softmax of logits"),
        (wrong, "don't sum to 1", "expected probabilities. Take the softmax of logits, or divide each row by its sum"),
    ):
        if rows.any():
            fold, row = np.argwhere(rows)[0].tolist()
            place = f"'{one.given.image_paths[row]}'" + (f" in fold {fold}" if len(one.folds) > 1 else "")
            values = one.folds[fold, row].astype(np.float64)
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
