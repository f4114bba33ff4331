"""A run's figures as a ladder: the steps of a model, or the members and votes of an ensemble, each with its interval."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from inkfold.evaluation.metrics import wilson_interval
from inkfold.report.html import common_scale, p_told
from inkfold.report.run_data import Record

ABOUT_STEPS = "What each step gave."
ABOUT_VOTES = "The members by themselves, and every way to vote."


def ladder_view(record: Record) -> dict[str, Any]:
    """Line up the steps of a model, or the members and votes of an ensemble.

    Args:
        record: The run.

    Returns:
        Rows with accuracies and intervals, and the scale that holds them all.
    """
    rows = _steps(record) if record.vote is None else _candidates(record)
    intervals = [row[name] for row in rows for name in ("ci95", "test_ci95") if row[name] is not None]
    intervals += [(dot, dot) for row in rows for dot in row["dots"]]
    honest, against = "", "gain" if record.vote is None else "against the vote taken"
    if record.vote is not None and record.vote["choice"]:
        choice = record.vote["choice"]
        low, high = choice["accuracy_ci95"]
        honest = (
            f"The vote was chosen among these; each part answered by the vote that the other parts chose: "
            f"{100 * choice['accuracy']:.1f} % ({100 * low:.1f}–{100 * high:.1f})."
        )
    return {
        "rows": rows if any(row["accuracy"] is not None or row["test"] is not None for row in rows) else [],
        "scale": common_scale(intervals),
        "words": record.judged[0] if record.judged else "",
        "test": any(row["test"] is not None for row in rows),
        "what": "step" if record.vote is None else "member or vote",
        "about": f"{ABOUT_STEPS if record.vote is None else ABOUT_VOTES} {_commonest(record)}",
        "against": against if any(row["against"] for row in rows) else "",
        "honest": honest,
    }


def _rung(label: str, figures: Mapping[str, Any] | None, test: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"kind": "step", "note": "", "against": "", "dots": ()}
    known, tested = figures or {}, test or {}
    return {
        **empty,
        "label": label,
        "accuracy": known.get("accuracy"),
        "ci95": known.get("accuracy_ci95"),
        "test": tested.get("accuracy"),
        "test_ci95": tested.get("accuracy_ci95"),
        **more,
    }


def _steps(record: Record) -> list[dict[str, Any]]:
    metrics, rows = record.metrics, []
    if record.judged is None or "out_of_fold" not in metrics:
        return [_rung("this run", None, metrics.get("test"), kind="main")]
    n = metrics["out_of_fold"]["n"]

    def share(accuracy: float) -> dict[str, Any]:
        return {"accuracy": accuracy, "accuracy_ci95": wilson_interval(round(accuracy * n), n)}

    if tuned := metrics.get("finetune"):
        rows.append(_rung("head on frozen features", share(tuned["frozen_accuracy"])))
        against = f"{100 * (tuned['accuracy'] - tuned['frozen_accuracy']):+.1f} points, {p_told(tuned['p_value'])}"
        rows.append(_rung("backbone trained too", share(tuned["accuracy"]), against=against))
    if gain := metrics.get("tta"):
        if not tuned:
            rows.append(_rung("drawings as they are", share(gain["accuracy_without"])))
        against = f"{100 * (gain['accuracy_with'] - gain['accuracy_without']):+.1f} points, {p_told(gain['p_value'])}"
        rows.append(
            _rung(
                "mean over test-time views", share(gain["accuracy_with"]), note=f"{len(gain['views'])} views", against=against
            )
        )
    if len(metrics["folds"]) > 1:
        folds = [fold["accuracy"] for fold in metrics["folds"]]
        rows.append(_rung("its folds", None, kind="part", dots=folds, note=f"{100 * min(folds):.1f}–{100 * max(folds):.1f} %"))
    rows.append(_rung("this run", metrics["out_of_fold"], metrics.get("test"), kind="main"))
    return rows


def _candidates(record: Record) -> list[dict[str, Any]]:
    assert record.vote is not None
    taken, pairs = record.vote["taken"], record.vote["pairs"] or record.vote["test_pairs"]
    against = {
        pair["second"] if pair["first"] == taken else pair["first"]: pair
        for pair in pairs
        if taken in (pair["first"], pair["second"])
    }
    rows = []
    for one in record.vote["candidates"]:
        name, pair = one["name"], against.get(one["name"])
        told = "" if pair is None else p_told(pair["p_value"]) if pair["distinguishable"] else "not distinguishable"
        kind, note = ("taken", "taken") if name == taken else ("step", "vote" if one["kind"] == "vote" else "")
        rows.append(_rung(name, one if "accuracy" in one else None, one.get("test"), kind=kind, note=note, against=told))
    return rows


def _commonest(record: Record) -> str:
    """Say what could be had without looking."""
    if record.judged is None:
        return ""
    targets = record.judged[1].targets
    assert targets is not None
    return f"Always answering the commonest class would be right on {100 * np.bincount(targets).max() / len(targets):.1f} %."
