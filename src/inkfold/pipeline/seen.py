"""Held-out drawings that the backbone was pretrained on: how accurate it is on them, and on those that are new to it."""

from typing import Any

from inkfold.evaluation.intervals import accuracy_figures
from inkfold.evaluation.predictions import Predictions, is_worth_reporting


def measure_seen(out_of_fold: Predictions) -> dict[str, Any] | None:
    """Measure the held-out drawings that the backbone was pretrained on apart from those that are new to it.

    Args:
        out_of_fold: Predictions with true classes, marked where the backbone was pretrained on the drawing.

    Returns:
        JSON values: `drawings`, the number of seen ones; `of`, the number of all; and for `learnt` (seen) and `new`, n and
        accuracy with its 95 % interval, or None if there are no such drawings. None if no drawing is known to have been seen.
    """
    seen = out_of_fold.seen
    if seen is None or not seen.any():
        return None
    correct = out_of_fold.preds == out_of_fold.targets
    figures: dict[str, Any] = {"drawings": int(seen.sum()), "of": len(seen)}
    for name, rows in (("learnt", seen), ("new", ~seen)):
        groups, n = None if out_of_fold.groups is None else out_of_fold.groups[rows], int(rows.sum())
        figures[name] = {"n": n, **accuracy_figures(correct[rows], groups)} if n else None
    return figures


def warn_of_seen(out_of_fold: Predictions) -> list[str]:
    """Write a warning if a backbone is evaluated on drawings that it was pretrained on.

    Args:
        out_of_fold: Predictions with true classes, marked where the backbone was pretrained on the drawing.

    Returns:
        One warning; none if so few drawings were seen that they make no difference.
    """
    figures = measure_seen(out_of_fold)
    if figures is None or not is_worth_reporting(figures["drawings"], figures["of"]):
        return []
    advice = "Evaluate it on a test set that its weights were not trained on"
    if (new := figures["new"]) is not None:
        low, high = new["accuracy_ci95"]
        advice = (
            f"On the {new['n']:,} others it is {new['accuracy']:.3f} ({low:.3f}-{high:.3f}); a test set is the best measure"
        )
    return [
        f"the backbone's weights were trained on {figures['drawings']:,} of these {figures['of']:,} held-out drawings, and the "
        f"accuracy of {figures['learnt']['accuracy']:.3f} on them is optimistic. {advice}. backbone.name chooses other weights."
    ]
