"""How the members of an ensemble differ: how often one is right where another is wrong."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from inkfold.evaluation.paired import mcnemar

RESCUES = 10


def measure_diversity(
    names: Sequence[str],
    members: Float[np.ndarray, "members n classes"],
    targets: Int64[np.ndarray, " n"],
    class_names: Sequence[str],
    groups: Int64[np.ndarray, " n"] | None = None,
) -> dict[str, Any]:
    """Measure how members differ on drawings that they were not trained on.

    Args:
        names: Name of each member, in the order of `members`; they name its figures in the result.
        members: Each member's class probabilities of one drawing at least.
        targets: True class id of each drawing, in the order of the probabilities' rows.
        class_names: Class names, by class id.
        groups: Number of each drawing's group, for the p-values; None where nothing is known of groups.

    Returns:
        JSON values. `pairs`: the share of drawings with different predictions, the correlation of errors (None if a member is
        never or always wrong), and the share of one's errors that the other has right, both ways (None without errors).
        `any_right` and `all_right`: the shares of drawings that any or all members have right. `recall`: each class's recall
        by member, for classes with drawings. `rescues`: up to ten classes in which one member's recall is above that of the
        others, by McNemar's p-value on the class's drawings, which is not corrected for the number of classes compared.
    """
    preds = members.argmax(2)
    right = preds == targets
    recall = _recall(right, targets, len(class_names))
    return {
        "pairs": [
            {"first": names[i], "second": names[j], **_pair(preds[i], preds[j], right[i], right[j])}
            for i in range(len(names))
            for j in range(i + 1, len(names))
        ],
        "any_right": _rounded(right.any(0).mean()),
        "all_right": _rounded(right.all(0).mean()),
        "recall": {
            name: {member: _rounded(recall[i, k]) for i, member in enumerate(names)}
            for k, name in enumerate(class_names)
            if np.isfinite(recall[:, k]).all()
        },
        "rescues": _rescues(names, right, targets, recall, class_names, groups),
    }


def _pair(
    first: Int64[np.ndarray, " n"],
    second: Int64[np.ndarray, " n"],
    right: Bool[np.ndarray, " n"],
    other: Bool[np.ndarray, " n"],
) -> dict[str, Any]:
    spread = right.std() * other.std()
    together = ((right - right.mean()) * (other - other.mean())).mean()
    return {
        "disagreement": _rounded((first != second).mean()),
        "error_correlation": _rounded(together / spread) if spread else None,
        "second_right_where_first_wrong": None if right.all() else _rounded(other[~right].mean()),
        "first_right_where_second_wrong": None if other.all() else _rounded(right[~other].mean()),
    }


def _recall(right: Bool[np.ndarray, "members n"], targets: np.ndarray, classes: int) -> Float[np.ndarray, "members classes"]:
    counts = np.bincount(targets, minlength=classes)
    counted = np.stack([np.bincount(targets, hits, minlength=classes) for hits in right])
    with np.errstate(invalid="ignore", divide="ignore"):
        recall: np.ndarray = counted / counts
    return recall


def _rescues(
    names: Sequence[str],
    right: np.ndarray,
    targets: np.ndarray,
    recall: np.ndarray,
    class_names: Sequence[str],
    groups: np.ndarray | None,
) -> list[dict[str, Any]]:
    """List the classes in which one member is far above the best of the others, with the chance of such a difference."""
    rescues: list[dict[str, Any]] = []
    for k, name in enumerate(class_names if len(names) > 1 else ()):
        inside = targets == k
        if not inside.any():
            continue
        order = np.argsort(-recall[:, k], kind="stable")
        best, next_best = int(order[0]), int(order[1])
        gain = recall[best, k] - recall[next_best, k]
        if gain > 0:
            p_value = mcnemar(right[next_best][inside], right[best][inside], None if groups is None else groups[inside])
            rescues.append(
                {
                    "class_name": name,
                    "member": names[best],
                    "recall": _rounded(recall[best, k]),
                    "next_best": names[next_best],
                    "next_best_recall": _rounded(recall[next_best, k]),
                    "n": int(inside.sum()),
                    "p_value": p_value,
                }
            )
    return sorted(rescues, key=lambda rescue: (rescue["p_value"], rescue["class_name"]))[:RESCUES]


def _rounded(value: float) -> float:
    return round(float(value), 6)
