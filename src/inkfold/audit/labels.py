"""The section `labels` of `audit.json`: doubtful labels, inseparable classes, and a bound on the accuracy."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from inkfold.audit.confusions import find_confusions, lost_to_confusion
from inkfold.audit.label_issues import METHOD, LabelIssue, find_label_issues
from inkfold.audit.label_views import LabelViews
from inkfold.audit.wording import premise
from inkfold.data.duplicate_groups import CopyGroup
from inkfold.evaluation.predictions import Predictions


def audit_labels(
    predictions: Predictions, asked: LabelViews, groups: Sequence[CopyGroup], labelled: int, settled: Collection[str]
) -> dict[str, Any]:
    """Find doubtful labels and inseparable classes, and bound the accuracy that is possible with these labels.

    Args:
        predictions: The audited model's out-of-fold predictions, with targets.
        asked: What several models say of the same drawings.
        groups: Copies among the drawings.
        labelled: Number of all labelled drawings, of which a holdout's predictions are a part.
        settled: Paths of drawings whose labels are not listed: what is wrong with a blank page is the drawing, and the user has
            kept others on purpose.

    Returns:
        JSON values, which the module `run_audit` documents.
    """
    targets, names, paths = predictions.targets, predictions.class_names, predictions.image_paths.tolist()
    assert targets is not None
    left_out = np.array([name in settled for name in paths], bool)
    doubts = find_label_issues(asked.views, targets, left_out)
    confused = find_confusions(asked.views, targets)
    conflicts = lost_to_conflicts(groups)
    lost, pairs = conflicts / labelled, lost_to_confusion(confused, targets) / len(targets)
    return {
        "n": len(targets),
        "accuracy": float((predictions.preds == targets).mean()),
        "models": _models(asked, targets),
        "notes": list(asked.notes),
        "method": METHOD,
        "doubtful": [_doubtful_label(issue, paths, names) for issue in doubts.issues],
        "doubts": {
            "expected_wrong": doubts.expected_wrong,
            "expected_wrong_ci95": None if doubts.expected_wrong_ci95 is None else list(doubts.expected_wrong_ci95),
            "found_fraction": doubts.found_fraction,
        },
        "estimated_wrong_fraction": doubts.wrong_fraction,
        "confused": [pair.as_json(names) for pair in confused],
        "ceiling": {
            "accuracy": max(0.0, 1 - lost - pairs),
            "lost_to_conflicts": lost,
            "lost_to_confused": pairs,
            "premise": premise(conflicts, len(confused)),
        },
    }


def _models(asked: LabelViews, targets: Int64[np.ndarray, " n"]) -> list[dict[str, Any]]:
    """Give the accuracy of each model, and whether it was asked: those too weak to be asked come last."""
    models = [(view, True) for view in asked.views] + [(view, False) for view in asked.weak]
    return [
        {"name": view.name, "accuracy": float((view.probs.argmax(1) == targets).mean()), "asked": kept} for view, kept in models
    ]


def _doubtful_label(issue: LabelIssue, paths: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Give a doubtful label as JSON values, its drawing by path and its classes by name."""
    return {
        "image_path": paths[issue.row],
        "given": names[issue.label],
        "suggested": names[issue.suggested],
        "score": issue.score,
        "suggested_probability": issue.suggested_probability,
        "doubt": issue.doubt,
    }


def lost_to_conflicts(groups: Sequence[CopyGroup]) -> int:
    """Count the training drawings whose label differs from that of most of their copies."""
    lost = 0
    for group in groups:
        labels = [member.class_name for member in group.members if member.part != "test"]
        lost += len(labels) - max((labels.count(label) for label in set(labels)), default=0)
    return lost
