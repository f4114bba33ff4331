"""A known class prior: how frequent the classes are among the drawings to predict, where that isn't as in training."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64

from inkfold.config.sections import TRAIN_PRIOR, UNIFORM_PRIOR
from inkfold.data.labels import clean_name
from inkfold.data.tables import quoted, read_table
from inkfold.errors import DataError, PredictionError, Problem

COLUMNS = ("class_name", "share")


@dataclass(frozen=True, slots=True)
class ClassPrior:
    """How frequent the classes are among the drawings to predict, and among those that a model was trained on.

    Attributes:
        source: `uniform`, or the path of the file that the shares were read from.
        shares: Share of each class among the drawings to predict, by class id; they sum to 1.
        trained: Share of each class among the training drawings, likewise, each above 0.
    """

    source: str
    shares: tuple[float, ...]
    trained: tuple[float, ...]

    @property
    def weights(self) -> Float32[np.ndarray, " classes"]:
        """What each class's probability is multiplied by, up to a common factor: its share over its share in training."""
        weights = np.array(self.shares) / np.array(self.trained)
        scaled: np.ndarray = (weights / weights.max()).astype(np.float32)
        return scaled

    def correct(self, probs: Float[np.ndarray, "*more classes"]) -> Float32[np.ndarray, "*more classes"]:
        """Correct class probabilities for this prior.

        Args:
            probs: Class probabilities by a model; the last axis sums to 1. Rows of NaN stay as they are.

        Returns:
            The probabilities times the shares over those in training, which sum to 1 again. Where only classes of share 0 had
            any probability, the shares themselves.

        Source: Saerens et al., "Adjusting the Outputs of a Classifier to New a Priori Probabilities", Neural Computation 14
            (2002), equation 2.4, for a prior that is known.
        """
        corrected = probs * self.weights
        total = corrected.sum(-1, keepdims=True)
        shares = np.array(self.shares, np.float32)
        fixed: np.ndarray = np.where(total == 0, shares, corrected / np.where(total == 0, 1, total)).astype(np.float32)
        return fixed

    def as_json(self) -> dict[str, Any]:
        """Return the prior as JSON values, from which `from_json` rebuilds it."""
        return {"source": self.source, "shares": list(self.shares), "trained": list(self.trained)}

    @classmethod
    def from_json(cls, raw: Any, num_classes: int, where: str) -> "ClassPrior":
        """Rebuild a prior from the values of `as_json`.

        Args:
            raw: JSON values of any origin; they are checked.
            num_classes: Number of classes that it must be for.
            where: What the error message calls the source, such as the file's name.

        Raises:
            PredictionError: If it is no prior of so many classes.
        """
        values = raw if isinstance(raw, Mapping) else {}
        shares, trained = (_shares(values.get(name), num_classes) for name in ("shares", "trained"))
        if shares is None or trained is None or not any(shares) or not all(trained):
            raise PredictionError(f"{where}: prior is not one of {num_classes} classes. Restore the file, or train again.")
        return cls(str(values.get("source")), shares, trained)


def _shares(numbers: Any, num_classes: int) -> tuple[float, ...] | None:
    """Take so many numbers of at least 0; None if they are none."""
    if not isinstance(numbers, list) or len(numbers) != num_classes:
        return None
    sound = all(type(value) in (int, float) and math.isfinite(value) and value >= 0 for value in numbers)
    return tuple(map(float, numbers)) if sound else None


def find_prior(prior: str, class_names: Sequence[str], targets: Int64[np.ndarray, " n"]) -> ClassPrior | None:
    """Find out how frequent the classes are among the drawings to predict.

    Args:
        prior: The recipe's `predict.prior`: `train`, `uniform` or the path of a CSV file.
        class_names: Names of the classes, in the order of their ids.
        targets: Class id of each training drawing.

    Returns:
        The prior; None where it is as in training.

    Raises:
        DataError: With every problem of the file.
    """
    if prior == TRAIN_PRIOR:
        return None
    counts = np.maximum(np.bincount(targets, minlength=len(class_names)), 1)
    shares = np.ones(len(class_names)) if prior == UNIFORM_PRIOR else _read_shares(Path(prior), class_names)
    trained = counts / counts.sum()
    return ClassPrior(prior, tuple((shares / shares.sum()).tolist()), tuple(trained.tolist()))


def _read_shares(path: Path, class_names: Sequence[str]) -> Float[np.ndarray, " classes"]:
    """Read each class's share, or any number that is proportional to it, such as a count."""
    table = read_table(path, dict.fromkeys(COLUMNS, ""))
    problems = [*table.problems]
    id_of = {clean_name(name): i for i, name in enumerate(class_names)}
    names = [clean_name(name) for name in table.columns["class_name"].tolist()]
    shares = np.zeros(len(class_names))
    for row, (name, text) in enumerate(zip(names, table.columns["share"].tolist(), strict=True)):
        share = _number(text)
        if share is None:
            problems.append(
                Problem(
                    "prior_share", table.where(row), f"got the share {text!r}, expected a number of at least 0. Correct it."
                )
            )
        if name not in id_of:
            problems.append(
                Problem(
                    "prior_class", table.where(row), f"got the class {name!r}, which no training drawing has. Remove the row."
                )
            )
        else:
            shares[id_of[name]] = share or 0
    for name, count in Counter(names).items():
        if count > 1:
            rows = ", ".join(str(table.rows[row]) for row, other in enumerate(names) if other == name)
            problems.append(Problem("prior_repeat", table.name, f"has the class {name!r} in rows {rows}. Keep one of them."))
    if missing := [name for name in class_names if clean_name(name) not in {*names}]:
        text = f"has no row for {len(missing)} of {len(class_names)} classes: {quoted(missing, 5)}. Add them, with 0 for none."
        problems.append(Problem("prior_missing", table.name, text))
    if not problems and not (0 < shares.sum() < math.inf):
        problems.append(Problem("prior_sum", table.name, "its shares sum to 0, expected one above 0 at least. Correct them."))
    if problems:
        raise DataError(problems)
    relative: np.ndarray = shares / shares.max()
    return relative


def _number(text: str) -> float | None:
    """Read a number of at least 0; None if it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
