"""What a page shows of one run, from its files alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from inkfold.evaluation.error_analysis import ClassRow, ConfusedPair, class_rows, confused_pairs, failures, part_of, reliability
from inkfold.evaluation.metrics import expected_calibration_error, measure, wilson_interval
from inkfold.evaluation.predictions import Predictions, is_worth_reporting
from inkfold.pipeline.manifest import AUDIT
from inkfold.report.audit_section import audit_view, weakness_view
from inkfold.report.html import common_scale, drawn, duration, p_told, size
from inkfold.report.next_steps import next_steps
from inkfold.report.plots import draw_curves, draw_reliability
from inkfold.report.run_data import RunRecord, flat_recipe
from inkfold.report.thumbnails import Album

ABOUT_STEPS = "What each step gave."
ABOUT_VOTES = "The members by themselves, and every way to vote."

SAMPLES = 3
MISTAKEN = 3
SECTIONS = {
    "next": "What next",
    "ladder": "Ladder",
    "members": "Members",
    "curves": "Training",
    "classes": "Classes",
    "pairs": "Confused",
    "failures": "Mistakes",
    "reliability": "Calibration",
    "weakness": "Weaknesses",
    "audit": "Duplicates and labels",
    "recipe": "Recipe",
}
ALWAYS = ("weakness", "audit", "recipe")


def run_view(record: RunRecord, album: Album) -> dict[str, Any]:
    """Gather everything that the page of one run shows.

    Args:
        record: The run.
        album: Where its drawings are; what is shown is embedded there.

    Returns:
        What the template takes.
    """
    judged, predictions = judged_view(record), None if record.judged is None else record.judged[1]
    classes = [] if predictions is None else class_rows(predictions)
    pairs = [] if predictions is None else confused_pairs(predictions)
    view: dict[str, Any] = {
        "title": record.name,
        "judged": judged,
        "learnt": _learnt(record),
        "test": record.metrics.get("test"),
        "n_test": record.metrics["data"]["n_test"],
        "facts": _facts(record, judged),
        "ladder": ladder_view(record),
        "matrix": _matrix(record),
        "curves": _curves(record),
        "failures": [] if predictions is None else _failures(predictions, album),
        "pairs": [] if predictions is None else _pairs(predictions, pairs, album),
        "reliability": None if predictions is None else _reliability(predictions),
        "weakness": weakness_view(record),
        "audit": audit_view(record, album),
        "steps": next_steps(record, classes, pairs),  # after those: they refuse files of another form
        "audit_command": f"inkfold audit {record.path}",
        "weakness_command": f"inkfold weakness {record.path}",
        "audit_note": "The audit is of other data." if (record.path / AUDIT).is_file() else "Nobody looked yet.",
        "warnings": record.manifest["warnings"],
        "versions": _versions(record),
        "recipe": [*flat_recipe(record.recipe).items()],
    }
    view["classes"] = _classes(record, classes, album)  # last: what it shows is there already, as far as the page's room goes
    view["class_tests"] = any(row["test"] is not None for row in view["classes"])
    view["has_pictures"] = bool(album.pictures)
    view["notes"] = notes_of(album)
    view["contents"] = [(name, label) for name, label in SECTIONS.items() if name in ALWAYS or _has(view, name)]
    return view


def judged_view(record: RunRecord) -> dict[str, Any] | None:
    """Measure what the findings are taken from.

    Args:
        record: The run.

    Returns:
        `metrics.measure`'s figures and what to call the drawings; None where no classes are known.
    """
    if record.judged is None:
        return None
    words, predictions = record.judged
    assert predictions.targets is not None
    return {"words": words, **measure(predictions.probs, predictions.targets)}


def _learnt(record: RunRecord) -> dict[str, Any] | None:
    """Take from the metrics what the accuracy is on drawings that are new to the backbone, where that makes a difference."""
    told: dict[str, Any] | None = record.metrics.get("learnt_by_backbone")
    return told if told is not None and is_worth_reporting(told["drawings"], told["of"]) else None


def notes_of(album: Album) -> list[str]:
    """Say which pictures are missing, and what to do."""
    if album.why is not None:
        return [f"Without pictures: {album.why} If the drawings have moved, say where they are: --data DIR."]
    if album.gone:
        return [f"{album.gone} drawings that should be shown aren't where they were. If they have moved: --data DIR."]
    return []


def _facts(record: RunRecord, judged: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    data, cost = record.metrics["data"], record.cost
    backbone = record.manifest.get("backbone", {}).get("name") or f"{len(record.manifest['members'])} members"
    trained = f", {cost['trained']:,} trained on" if cost.get("trained") else ""
    facts = [
        ("data", f"{data['n_train']:,} training drawings of {data['num_classes']:,} classes, {data['n_test']:,} test drawings"),
        ("model", backbone if record.vote is None else f"{backbone}, vote: {record.vote['taken']}"),
    ]
    if judged is not None:
        facts.append(
            ("top five", f"{100 * judged['top5_accuracy']:.1f} %; mean over classes {100 * judged['macro_recall']:.1f} %")
        )
    alone = record.vote is not None and not cost["forwards"] + cost["forwards_cached"]
    facts.append(
        (
            "cost of the vote" if alone else "cost",
            f"{cost['forwards']:,} forwards, {cost['forwards_cached']:,} from the bank{trained}",
        )
    )
    peak = cost.get("peak_memory_bytes")
    where = ", ".join(str(cost[name]) for name in ("device", "precision") if cost.get(name))
    facts.append(("took", f"{duration(cost['seconds']['total'])}, {size(peak)}" + (f", {where}" if where else "")))
    return facts


def _curves(record: RunRecord) -> dict[str, Any] | None:
    if record.curve is None or not record.curve["epochs"]:
        return None
    points = record.curve["epochs"]
    stages: list[dict[str, Any]] = []
    for stage in record.curve["stages"]:
        inside = [i for i, point in enumerate(points) if point["stage"] == stage["stage"]]
        if inside:
            last = points[inside[-1]]
            views = "" if not stage["augment"] or stage["views"] == "per_epoch" else f", {stage['views']} views"
            stages.append(
                {
                    "number": len(stages) + 1,
                    "span": (inside[0] + 1, inside[-1] + 1),
                    "epochs": f"{inside[0] + 1}–{inside[-1] + 1}",
                    "what": (" + ".join(stage["augment"]) or "drawings as they are") + views,
                    **{name: last[name] for name in ("loss", "held_out_loss")},
                    "accuracy": last["held_out_accuracy"],
                }
            )
    spans = [stage["span"] for stage in stages]
    lines = {"learnt from": [one["loss"] for one in points], "held out": [one["held_out_loss"] for one in points]}
    accuracy = {"held out": [one["held_out_accuracy"] for one in points]}
    return {
        "loss": drawn(draw_curves(lines, "loss", "loss", spans)),
        "accuracy": drawn(draw_curves(accuracy, "held-out accuracy", "accuracy", spans)),
        "stages": stages,
    }


def _matrix(record: RunRecord) -> dict[str, Any] | None:
    if record.vote is None or not record.vote.get("diversity"):
        return None
    found, names = record.vote["diversity"], record.vote["members"]
    own = {one["name"]: one["accuracy"] for one in record.vote["candidates"]}
    pairs = {frozenset((pair["first"], pair["second"])): pair for pair in found["pairs"]}
    most = max((pair["disagreement"] for pair in found["pairs"]), default=1.0) or 1.0

    def cell(row: str, column: str) -> dict[str, Any]:
        if row == column:
            return {"own": own[row]}
        pair = pairs[frozenset((row, column))]
        shade = round(55 * pair["disagreement"] / most)
        return {"disagreement": pair["disagreement"], "correlation": pair["error_correlation"], "shade": shade}

    rows = [{"name": row, "cells": [cell(row, column) for column in names]} for row in names]
    return {"names": names, "rows": rows, **{key: found[key] for key in ("any_right", "all_right", "rescues")}}


def _classes(record: RunRecord, rows: Sequence[ClassRow], album: Album) -> list[dict[str, Any]]:
    tests = {one["class_name"]: one["recall"] for one in record.metrics.get("test", {}).get("per_class", ())}
    if record.judged is not None and record.judged[0] == "test":
        tests = {}
    fields = ("name", "n", "recall", "ci95", "precision", "taken_for", "taken")
    return [
        {
            **{field: getattr(row, field) for field in fields},
            "test": tests.get(row.name),
            "picture": next(iter(album.samples(row.name, 1)), None),
        }
        for row in rows
    ]


def _pairs(predictions: Predictions, pairs: Sequence[ConfusedPair], album: Album) -> list[dict[str, Any]]:
    names, part = predictions.class_names, part_of(predictions)
    assert predictions.targets is not None
    views = []
    for pair in pairs:
        sides = []
        for own, other, count, n in (
            (pair.first, pair.second, pair.first_as_second, pair.n_first),
            (pair.second, pair.first, pair.second_as_first, pair.n_second),
        ):
            paths = [str(predictions.image_paths[row]) for row in pair.rows if predictions.targets[row] == own][:MISTAKEN]
            mistaken = [picture for picture in (album.show(path, part) for path in paths) if picture]
            samples = album.samples(names[own], SAMPLES)
            sides.append(
                {"name": names[own], "other": names[other], "count": count, "n": n, "mistaken": mistaken, "samples": samples}
            )
        count = pair.first_as_second + pair.second_as_first
        views.append({"count": count, "n": pair.n_first + pair.n_second, "sides": sides})
    return views


def _failures(predictions: Predictions, album: Album) -> list[dict[str, Any]]:
    names, part = predictions.class_names, part_of(predictions)
    views = []
    for one in failures(predictions):
        path, target, pred = str(predictions.image_paths[one.row]), names[one.target], names[one.pred]
        views.append(
            {
                "path": path,
                "target": target,
                "pred": pred,
                "confidence": one.confidence,
                "probability": one.probability,
                "picture": album.show(path, part),
                "target_samples": album.samples(target, SAMPLES, path),
                "pred_samples": album.samples(pred, SAMPLES, path),
            }
        )
    return views


def _reliability(predictions: Predictions) -> dict[str, Any]:
    assert predictions.targets is not None
    bins = reliability(predictions)
    return {
        "svg": drawn(draw_reliability({"": bins}, "reliability")),
        "ece": expected_calibration_error(predictions.probs, predictions.targets),
        "confidence": float(predictions.probs.max(1).mean()),
        "bins": bins,
    }


def _versions(record: RunRecord) -> list[tuple[str, str]]:
    backbone, data = record.manifest.get("backbone", {}), record.recipe.get("data")
    facts = [("backbone", backbone["name"]), ("weights", backbone["weights_source"])] if backbone else []
    return [
        *facts,
        ("data", str(data.get("root") if isinstance(data, dict) else data or "as its members'")),
        ("fingerprint", record.manifest["data_fingerprint"]),
        ("versions", ", ".join(f"{name} {text}" for name, text in record.manifest["versions"].items())),
    ]


def _has(view: Mapping[str, Any], name: str) -> bool:
    part = view["steps"] if name == "next" else view["matrix"] if name == "members" else view[name]
    return bool(part["rows"] if name == "ladder" else part)


def ladder_view(record: RunRecord) -> dict[str, Any]:
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


def _steps(record: RunRecord) -> list[dict[str, Any]]:
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


def _candidates(record: RunRecord) -> list[dict[str, Any]]:
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


def _commonest(record: RunRecord) -> str:
    """Say what could be had without looking."""
    if record.judged is None:
        return ""
    targets = record.judged[1].targets
    assert targets is not None
    return f"Always answering the commonest class would be right on {100 * np.bincount(targets).max() / len(targets):.1f} %."
