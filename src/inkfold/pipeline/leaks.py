"""Evaluated drawings that are copies of drawings trained on: how many, which, and the figures without them.

A model remembers such a drawing instead of recognising it, so the accuracy on them is optimistic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from inkfold.data.duplicates import CopySearch, Match, find_copies_between, match_bytes
from inkfold.data.lines import CopyStores
from inkfold.evaluation.predictions import Predictions
from inkfold.evaluation.score_figures import measure_by
from inkfold.evaluation.scores import ACCURACY, Metric
from inkfold.pipeline.prepare import Prepared, sign_drawings
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent

NAMED = 5  # copies that a warning names
PARTS = {"test": "test", "out_of_fold": "held-out"}  # what the evaluated parts are called


@dataclass(frozen=True, slots=True)
class Leak:
    """Drawings of an evaluated part that are copies of drawings trained on.

    Attributes:
        copies: True for the copies, in the order of the part's predictions.
        identical: How many of the copies have the bytes of a drawing trained on.
        other_label: How many of the copies have another label than the drawing trained on; None where labels are not known.
        examples: The first copies, each with the drawing trained on, as the data name them.
    """

    copies: Bool[np.ndarray, " n"]
    identical: int
    other_label: int | None
    examples: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the counts as JSON values: `drawings`, `of`, `identical` and `other_label`."""
        counts = {"drawings": int(self.copies.sum()), "of": len(self.copies)}
        return {**counts, "identical": self.identical, "other_label": self.other_label}


def find_test_copies(
    prepared: Prepared,
    stores: CopyStores | None,
    cost: Cost,
    progress: Progress = silent,
    most_pairs: int | None = None,
) -> CopySearch:
    """Find the test drawings that are copies of training drawings.

    Args:
        prepared: The decoded training and test drawings; those that can be used are compared.
        stores: Stores of the drawings' signatures and lines; None compares the files' bytes alone.
        cost: Seconds are added to it.
        progress: Called as the search advances.
        most_pairs: Most comparisons of two drawings, at least 1, the most similar drawings first; None makes all.

    Returns:
        Matches of a usable training drawing, `first`, with a usable test drawing, `second`.

    Raises:
        DataError: If a file has changed since it was read.
    """
    tests = prepared.test_digests
    if tests is None:
        return CopySearch([])
    if stores is None:
        return CopySearch(match_bytes(prepared.digests, tests))
    with cost.timed("duplicates"):
        sign_drawings(prepared, stores, progress, tests=True)
        return find_copies_between(prepared.digests, tests, stores, progress, most_pairs)


def find_leaks(
    prepared: Prepared,
    test_copies: Sequence[Match],
    held_out: Bool[np.ndarray, "folds n"],
    trained_on: Bool[np.ndarray, "folds n"],
) -> dict[str, Leak]:
    """Gather the evaluated drawings that are copies of drawings trained on.

    Only a single fold may hold out such drawings: one that holds out a part that the data give. Several folds keep copies
    together.

    Args:
        prepared: The decoded drawings, with their groups of copies if those were searched for.
        test_copies: Matches between training and test drawings, as `find_test_copies` returns them.
        held_out: True where a fold holds out a training drawing.
        trained_on: True where a fold trains on a training drawing.

    Returns:
        The copies by the part that they are in, `test` or `out_of_fold`; parts without copies are left out.
    """
    leaks = {
        "test": _test_leak(prepared, test_copies, np.any(trained_on, axis=0)),
        "out_of_fold": _held_out_leak(prepared, held_out[0], trained_on[0]) if len(held_out) == 1 else None,
    }
    return {part: leak for part, leak in leaks.items() if leak is not None}


def _test_leak(prepared: Prepared, matches: Sequence[Match], trained_on: Bool[np.ndarray, " n"]) -> Leak | None:
    """Gather the test drawings that are copies of drawings trained on."""
    test = prepared.read.dataset.test
    if test is None or prepared.test_whole is None:
        return None
    rows = np.flatnonzero(prepared.test_whole)
    used = [match for match in matches if trained_on[match.first]]
    pairs = np.array([(match.first, rows[match.second]) for match in used], np.int64).reshape(-1, 2)
    identical = {int(rows[match.second]) for match in used if match.identical}
    return _leak(prepared, pairs, test.image_paths, test.targets, len(identical))


def _held_out_leak(prepared: Prepared, held_out: Bool[np.ndarray, " n"], trained_on: Bool[np.ndarray, " n"]) -> Leak | None:
    """Gather the held-out drawings, in the order of their predictions, that are copies of drawings trained on."""
    _, same = np.unique(prepared.digests, return_inverse=True)
    labels = same if prepared.duplicates is None else prepared.duplicates
    own, trained = np.flatnonzero(held_out), np.flatnonzero(trained_on)
    own = own[np.argsort(prepared.read.dataset.train.image_paths[prepared.rows[own]], kind="stable")]
    first_of = dict(zip(labels[trained[::-1]].tolist(), trained[::-1].tolist(), strict=True))
    pairs = [(first_of[label], place) for place, label in enumerate(labels[own].tolist()) if label in first_of]
    paths = prepared.read.dataset.train.image_paths[prepared.rows[own]]
    identical = int(np.isin(same[own], same[trained]).sum())
    return _leak(prepared, np.array(pairs, np.int64).reshape(-1, 2), paths, prepared.targets[own], identical)


def _leak(
    prepared: Prepared,
    pairs: Int64[np.ndarray, "pairs 2"],
    paths: Shaped[np.ndarray, " n"],
    targets: Int64[np.ndarray, " n"] | None,
    identical: int,
) -> Leak | None:
    """Sum up pairs of a drawing trained on and a row of the evaluated part."""
    if not len(pairs):
        return None
    copies = np.zeros(len(paths), bool)
    copies[pairs[:, 1]] = True
    trained_paths = prepared.read.dataset.train.image_paths[prepared.rows]
    order = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]
    first_rows = np.unique(order[:, 1], return_index=True)[1][:NAMED]
    examples = tuple(f"{paths[row]} (of {trained_paths[trained]})" for trained, row in order[first_rows].tolist())
    other = None
    if targets is not None:
        other = len(np.unique(pairs[targets[pairs[:, 1]] != prepared.targets[pairs[:, 0]], 1]))
    return Leak(copies, identical, other, examples)


def measure_without(predictions: Predictions, leak: Leak, metric: Metric = ACCURACY) -> dict[str, Any] | None:
    """Measure predictions without the copies of drawings trained on.

    Args:
        predictions: Predictions of the part, with true classes.
        leak: Which of these predictions are of copies of drawings trained on, in the same order.
        metric: What the run is measured by.

    Returns:
        The figures, as `measure_by` returns them, without those of single classes; None if all drawings are copies.
    """
    rows = ~leak.copies
    return measure_by(metric, predictions.select(rows)) if rows.any() else None


def add_leaks(
    metrics: dict[str, Any], leaks: Mapping[str, Leak], predictions: Mapping[str, Predictions | None], metric: Metric
) -> None:
    """Add to a run's metrics how many copies each part has, and the figures of the part without them.

    Args:
        metrics: The content of `metrics.json`, with the figures of each part whose true classes are known.
        leaks: The copies by part, as `find_leaks` returns them.
        predictions: Predictions of each part.
        metric: What the run is measured by.
    """
    if leaks:
        metrics["leaks"] = {part: leak.as_json() for part, leak in leaks.items()}
    for part, leak in leaks.items():
        own = predictions[part]
        if own is not None and own.targets is not None:
            metrics[part]["without_copies"] = measure_without(own, leak, metric)


def warn_of_leaks(leaks: Mapping[str, Leak], predictions: Mapping[str, Predictions | None]) -> list[str]:
    """Write a warning for each evaluated part that has copies of drawings trained on.

    Args:
        leaks: The copies by part, as `find_leaks` returns them.
        predictions: Predictions of each part.

    Returns:
        The warnings, with the accuracy without the copies where true classes are known; none without copies.
    """
    return [warn_of_leak(leak, predictions[part], PARTS[part]) for part, leak in leaks.items()]


def warn_of_leak(leak: Leak, predictions: Predictions | None, part: str) -> str:
    """Write a line about an evaluated part's copies of drawings trained on.

    Args:
        leak: Which of the part's drawings are copies of drawings trained on, in the order of the predictions.
        predictions: Predictions of the part; None if there are none.
        part: What the part is called, such as `test`.

    Returns:
        Their number, how many are equal or have another label, the first names, and the accuracy with and without them where
        true classes are known.
    """
    count, of = int(leak.copies.sum()), len(leak.copies)
    details = [f"{leak.identical:,} with the same bytes"] if leak.identical else []
    details += [f"{leak.other_label:,} with another label"] if leak.other_label else []
    inside = f" ({', '.join(details)})" if details else ""
    names = ", ".join(leak.examples) + (f" and {count - len(leak.examples):,} more" if count > len(leak.examples) else "")
    text = f"{count:,} of {of:,} {part} drawings are copies of drawings trained on{inside}: {names}. `inkfold check` lists them"
    if predictions is None or predictions.targets is None:
        return f"{text}. What is measured on them says nothing about new drawings"
    accuracy = float((predictions.preds == predictions.targets).mean())
    if (without := measure_without(predictions, leak)) is None:
        return f"{text}. The {part} accuracy of {accuracy:.3f} is of copies alone and says nothing about new drawings"
    low, high = without["accuracy_ci95"]
    others = f"on the {without['n']:,} others it is {without['accuracy']:.3f} ({low:.3f}-{high:.3f})"
    return f"{text}. The {part} accuracy is {accuracy:.3f} with them; {others}"
