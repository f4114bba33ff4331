"""The page of one run: everything that its template shows, from the run's files alone."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from inkfold.evaluation.error_analysis import ClassRow, ConfusedPair, class_rows, confused_pairs, failures, part_of
from inkfold.evaluation.intervals import interval_in_words
from inkfold.evaluation.metrics import reliability_table
from inkfold.evaluation.predictions import Predictions, is_worth_reporting
from inkfold.pipeline.manifest import AUDIT
from inkfold.pipeline.run_files import RunFiles, flat_recipe, headline
from inkfold.report.audit_section import audit_view, weakness_view
from inkfold.report.doubts import open_and_folded
from inkfold.report.explained import explained_note, explained_pictures
from inkfold.report.html import duration, size, svg_markup
from inkfold.report.ladder import evaluated_name, ladder_view
from inkfold.report.metric_section import decision_note, prediction_facts
from inkfold.report.next_steps import next_steps
from inkfold.report.plots import draw_curves, draw_reliability
from inkfold.report.search_section import search_view
from inkfold.report.thumbnails import Album

SAMPLES = 3
MISTAKEN = 3
SECTIONS = {
    "next": "What next",
    "search": "Search",
    "ladder": "Steps",
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


def run_view(run: RunFiles, album: Album) -> dict[str, Any]:
    """Gather everything that the template `run.html.j2` shows of a run; pictures that it shows are embedded in the album."""
    figures, predictions = evaluation_view(run), run.evaluated
    classes = [] if predictions is None else class_rows(predictions)
    pairs = [] if predictions is None else confused_pairs(predictions)
    view: dict[str, Any] = {
        "title": run.name,
        "evaluated": figures,
        "metric": run.metrics.get("metric"),
        "decision_note": decision_note(run),
        "doubts": open_and_folded(run, figures),
        "seen": _seen_in_pretraining(run),
        "leaks": _leaks(run),
        "test": run.metrics.get("test"),
        "n_test": run.metrics["data"]["n_test"],
        "facts": _facts(run, figures),
        "search": search_view(run),
        "ladder": ladder_view(run),
        "matrix": _matrix(run),
        "curves": _curves(run),
        "failures": [] if predictions is None else _failures(predictions, album, explained_pictures(run, album)),
        "explained": explained_note(run),
        "explain_command": f"inkfold report {run.path} --explain",
        "pairs": [] if predictions is None else _pairs(predictions, pairs, album),
        "reliability": None if predictions is None else _reliability(predictions),
        "weakness": weakness_view(run),
        "audit": audit_view(run, album),
        "steps": next_steps(run, classes, pairs),  # after the audit and weaknesses, which refuse files of another form
        "audit_command": f"inkfold audit {run.path}",
        "weakness_command": f"inkfold weakness {run.path}",
        "audit_note": "The audit is of other data." if (run.path / AUDIT).is_file() else "Not audited yet.",
        "versions": _versions(run),
        "recipe": [*flat_recipe(run.recipe).items()],
    }
    view["classes"] = _classes(run, classes, album)  # last, so that its samples take only the room that other pictures leave
    view["class_tests"] = any(row["test"] is not None for row in view["classes"])
    view["has_pictures"] = bool(album.pictures)
    view["notes"] = picture_notes(album)
    labels = {**SECTIONS, "ladder": view["ladder"]["title"]}
    view["contents"] = [(name, label) for name, label in labels.items() if name in ALWAYS or _has(view, name)]
    return view


def evaluation_view(run: RunFiles) -> dict[str, Any] | None:
    """Take the figures of the part that a run is evaluated on; None where no true classes are known.

    Added are the part's `name`, and `kept`: where held-out drawings chose the epochs, `accuracy` is that of epochs which other
    drawings chose, and `kept` the optimistic one of those that were kept; else None. `groups` is the effect of parting groups.
    """
    if run.evaluated_part is None:
        return None
    figures = run.metrics[run.evaluated_part]
    own = {key: headline(figures)[key] for key in ("accuracy", "accuracy_ci95")}
    kept = figures["accuracy"] if "nested" in figures else None
    groups = run.metrics.get("groups") if run.evaluated_part == "out_of_fold" else None
    interval = headline(figures).get("interval", figures.get("interval"))
    return {"name": evaluated_name(run), **figures, **own, "kept": kept, "groups": groups, "interval": interval}


def picture_notes(album: Album) -> list[str]:
    """Write which pictures of a filled page are missing, and what to do about it; nothing if none is missing."""
    if album.why is not None:
        return [f"Without pictures: {album.why} If the drawings have moved, give their folder: --data DIR."]
    if album.missing:
        return [f"{album.missing} drawings can't be read where they were. If they have moved, give their folder: --data DIR."]
    return []


def reliability_rows(predictions: Predictions) -> list[dict[str, Any]]:
    """Compare confidence with accuracy, and its interval `ci95`, in each bin of the ECE that has drawings."""
    assert predictions.targets is not None
    table = reliability_table(predictions.probs, predictions.targets, groups=predictions.groups)
    return [{**asdict(row), "ci95": row.ci95} for row in table if row.accuracy is not None]


def _seen_in_pretraining(run: RunFiles) -> dict[str, Any] | None:
    """Take the accuracy on drawings that are new to the backbone from the metrics, where it makes a difference."""
    figures: dict[str, Any] | None = run.metrics.get("learnt_by_backbone")
    return figures if figures is not None and is_worth_reporting(figures["drawings"], figures["of"]) else None


def _leaks(run: RunFiles) -> list[dict[str, Any]]:
    """Take the counts of copies of drawings trained on from the metrics, with the figures without them."""
    names = {"test": "test", "out_of_fold": "held-out"}
    return [
        {**counts, "part": names[part], "without": run.metrics.get(part, {}).get("without_copies")}
        for part, counts in run.metrics.get("leaks", {}).items()
    ]


def _facts(run: RunFiles, figures: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    data, cost = run.metrics["data"], run.cost
    backbone = run.manifest.get("backbone", {}).get("name") or f"{len(run.manifest['members'])} members"
    trained = f", {cost['trained']:,} trained on" if cost.get("trained") else ""
    facts = [
        ("data", f"{data['n_train']:,} training drawings of {data['num_classes']:,} classes, {data['n_test']:,} test drawings"),
        ("model", backbone if run.vote is None else f"{backbone}, vote: {run.vote['taken']}"),
    ]
    if (parts := run.held_out_parts) is not None:
        facts.append(("held out", parts))
    if choice := run.metrics.get("backbone_choice"):
        facts.append(("backbone", str(choice["reason"]).removeprefix("backbone: ")))
    if reading := run.metrics.get("reading"):
        facts.append(("reading", str(reading["reason"]).removeprefix("reading: ")))
    facts += prediction_facts(run.metrics)
    if figures is not None:
        top5, recall = 100 * figures["top5_accuracy"], 100 * figures["macro_recall"]
        facts.append(("top five", f"{top5:.1f} %; mean over classes {recall:.1f} %"))
        if words := interval_in_words(figures):
            facts.append(("intervals", f"{words}. Source: {figures['interval']['source']}"))
    vote_alone = run.vote is not None and not cost["forwards"] + cost["forwards_cached"]
    forwards = f"{cost['forwards']:,} forward passes, {cost['forwards_cached']:,} from the feature bank{trained}"
    facts.append(("cost of the vote" if vote_alone else "cost", forwards))
    device = ", ".join(str(cost[name]) for name in ("device", "precision") if cost.get(name))
    took = f"{duration(cost['seconds']['total'])}, {size(cost.get('peak_memory_bytes'))}"
    facts.append(("took", took + (f", {device}" if device else "")))
    return facts


def _curves(run: RunFiles) -> dict[str, Any] | None:
    if run.curve is None or not run.curve["epochs"]:
        return None
    points = run.curve["epochs"]
    stages: list[dict[str, Any]] = []
    for stage in run.curve["stages"]:
        inside = [i for i, point in enumerate(points) if point["stage"] == stage["stage"]]
        if inside:
            last = points[inside[-1]]
            views = "" if not stage["augment"] or stage["views"] == "per_epoch" else f", {stage['views']} views"
            stages.append(
                {
                    "number": len(stages) + 1,
                    "span": (inside[0] + 1, inside[-1] + 1),
                    "epochs": f"{inside[0] + 1}–{inside[-1] + 1}",
                    "augmentation": (" + ".join(stage["augment"]) or "none") + views,
                    **{name: last[name] for name in ("loss", "held_out_loss")},
                    "accuracy": last["held_out_accuracy"],
                }
            )
    spans = [stage["span"] for stage in stages]
    losses = {"training": [point["loss"] for point in points], "held out": [point["held_out_loss"] for point in points]}
    accuracy = {"held out": [point["held_out_accuracy"] for point in points]}
    return {
        "loss": svg_markup(draw_curves(losses, "loss", "loss", spans)),
        "accuracy": svg_markup(draw_curves(accuracy, "held-out accuracy", "accuracy", spans)),
        "stages": stages,
    }


def _matrix(run: RunFiles) -> dict[str, Any] | None:
    if run.vote is None or not run.vote.get("diversity"):
        return None
    diversity, names = run.vote["diversity"], run.vote["members"]
    accuracy = {candidate["name"]: candidate["accuracy"] for candidate in run.vote["candidates"]}
    pairs = {frozenset((pair["first"], pair["second"])): pair for pair in diversity["pairs"]}
    most = max((pair["disagreement"] for pair in diversity["pairs"]), default=1.0) or 1.0

    def cell(row: str, column: str) -> dict[str, Any]:
        if row == column:
            return {"own": accuracy[row]}
        pair = pairs[frozenset((row, column))]
        shade = round(55 * pair["disagreement"] / most)
        return {"disagreement": pair["disagreement"], "correlation": pair["error_correlation"], "shade": shade}

    rows = [{"name": row, "cells": [cell(row, column) for column in names]} for row in names]
    return {"names": names, "rows": rows, **{key: diversity[key] for key in ("any_right", "all_right", "rescues")}}


def _classes(run: RunFiles, rows: Sequence[ClassRow], album: Album) -> list[dict[str, Any]]:
    tests = {one["class_name"]: one["recall"] for one in run.metrics.get("test", {}).get("per_class", ())}
    if run.evaluated_part == "test":
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


def _failures(predictions: Predictions, album: Album, explained: Mapping[tuple[str, str], Any]) -> list[dict[str, Any]]:
    names, part = predictions.class_names, part_of(predictions)
    views = []
    for failure in failures(predictions):
        path, target, pred = str(predictions.image_paths[failure.row]), names[failure.target], names[failure.pred]
        views.append(
            {
                "path": path,
                "target": target,
                "pred": pred,
                "confidence": failure.confidence,
                "probability": failure.probability,
                "picture": album.show(path, part),
                "explained": explained.get((path, pred)),
                "target_samples": album.samples(target, SAMPLES, path),
                "pred_samples": album.samples(pred, SAMPLES, path),
            }
        )
    return views


def _reliability(predictions: Predictions) -> dict[str, Any]:
    rows = reliability_rows(predictions)
    svg = svg_markup(draw_reliability({"": rows}))
    return {"svg": svg, "confidence": float(predictions.probs.max(1).mean()), "bins": rows}


def _versions(run: RunFiles) -> list[tuple[str, str]]:
    data = run.recipe.get("data")
    facts = []
    for backbone in (run.manifest.get("backbone"), *run.manifest.get("beside", ())):
        if backbone:
            layers = ", all layers" if backbone.get("features") == "layers" else ""
            facts += [("backbone", f"{backbone['name']}{layers}"), ("weights", backbone["weights_source"])]
    return [
        *facts,
        ("data", str(data.get("root") if isinstance(data, dict) else data or "those of its members")),
        ("fingerprint", run.manifest["data_fingerprint"]),
        ("versions", ", ".join(f"{name} {text}" for name, text in run.manifest["versions"].items())),
    ]


def _has(view: Mapping[str, Any], name: str) -> bool:
    part = view["steps"] if name == "next" else view["matrix"] if name == "members" else view[name]
    return bool(part["rows"] if name == "ladder" else part)
