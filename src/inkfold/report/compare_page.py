"""The page of several runs side by side: which is better by paired tests, in which classes, and where their recipes differ."""

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any

import numpy as np

from inkfold.evaluation.error_analysis import most_confident, part_of
from inkfold.evaluation.intervals import coarsest_groups
from inkfold.evaluation.paired import paired_difference
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.run_files import RunFiles, flat_recipe
from inkfold.report.html import common_scale, svg_markup
from inkfold.report.plots import draw_curves, draw_reliability
from inkfold.report.run_comparison import PARTS, RunComparison, RunPair
from inkfold.report.run_page import evaluation_view, picture_notes, reliability_rows
from inkfold.report.thumbnails import Album

MOST_RUNS = len(ascii_uppercase)
DRAWINGS = 8
PART_NAMES = {"held out": "held-out", "test": "test"}


def comparison_view(runs: Sequence[RunFiles], album: Album) -> dict[str, Any]:
    """Gather everything that the template `comparison.html.j2` shows of 2 to 26 runs.

    Every run is compared with the best single one; the most accurate of those that can be compared with it in detail, and the
    pictures that it shows are embedded in the album.
    """
    comparison = RunComparison(runs, [*ascii_uppercase[: len(runs)]])
    against_best = comparison.against_best()
    answer = _answer(comparison, against_best)
    shown = _in_detail(comparison, answer)
    shared = [] if answer is None else comparison.common(answer, shown)
    pair = (0, 0) if answer is None else (shown.index(answer.first), shown.index(answer.second))
    paths = [str(path) for path in shared[0].image_paths] if shared else []  # of the first run, if it is shown: of the album
    rows = [_run(i, run, comparison, against_best) for i, run in enumerate(runs)]
    tests = [_test(comparison, one) for one in against_best if one.figures is not None]
    intervals = [figures["accuracy_ci95"] for row in rows for figures in (row["evaluated"], row["test"]) if figures]
    largest = max((abs(bound) for test in tests for bound in test["difference_ci95"]), default=0.0)
    widest = max(float(np.ceil(largest * 50)) / 50, 0.02)
    return {
        "title": " · ".join(run.name for run in runs),
        "runs": rows,
        "best": rows[comparison.best],
        "answer": None if answer is None else _test(comparison, answer),
        "metric": _metric(comparison, against_best, answer),
        "has_test": any(row["test"] for row in rows),
        "scale": common_scale(intervals),
        "tests": tests,
        "apart": [_apart(comparison, one) for one in against_best if one.figures is None],
        "other_pairs": [_test(comparison, one) for one in comparison.pairs if comparison.best not in (one.first, one.second)],
        "difference_scale": (-widest, widest),
        **_plots(rows, runs),
        "shown": [rows[i] for i in shown],
        "pair": ("A", "B") if answer is None else (rows[answer.first]["letter"], rows[answer.second]["letter"]),
        "classes": _classes(shared, pair, album) if shared else [],
        "won": _drawings(shared, pair, album, paths) if shared else [],
        "lost": _drawings(shared, pair[::-1], album, paths) if shared else [],
        "has_pictures": bool(album.pictures),
        "keys": _different_keys(runs),
        "notes": picture_notes(album),
    }


def _run(i: int, run: RunFiles, comparison: RunComparison, against_best: Sequence[RunPair]) -> dict[str, Any]:
    own = [pair for pair in against_best if i in (pair.first, pair.second) and i != comparison.best]
    return {
        "letter": comparison.names[i],
        "name": run.name,
        "held_out_name": run.held_out_name,
        "evaluated": evaluation_view(run),
        "test": run.metrics.get("test"),
        "forwards": run.cost["forwards"],
        "seconds": run.cost["seconds"]["total"],
        "peak": run.cost.get("peak_memory_bytes"),
        "is_best": i == comparison.best,
        "is_apart": any(pair.figures is None and pair.part == "held out" for pair in own),
    }


def _answer(comparison: RunComparison, against_best: Sequence[RunPair]) -> RunPair | None:
    """Choose the comparison to show first: of the best single run and the best other one, the better one second.

    Those on held-out drawings come before those on test drawings, which nothing is chosen by; those on less than half as many
    drawings as another are not taken.
    """

    def gain(pair: RunPair) -> float:
        return comparison.metric.signed(float((pair.by_metric or pair.figures or {})["difference"]))

    for part in PARTS:
        if tested := [pair for pair in against_best if pair.part == part and pair.figures is not None]:
            most = max(len(pair.drawings) for pair in tested)
            pair = max((pair for pair in tested if 2 * len(pair.drawings) >= most), key=gain)
            return pair if gain(pair) >= 0 else pair.turned_to(pair.second)
    return None


def _metric(comparison: RunComparison, against_best: Sequence[RunPair], answer: RunPair | None) -> dict[str, Any] | None:
    """Gather values and paired tests by the metric that all runs are measured by; None where that is accuracy."""
    metric = comparison.metric
    if metric.is_accuracy:
        return None

    def test(pair: RunPair) -> dict[str, Any]:
        names = {"first": comparison.names[pair.first], "second": comparison.names[pair.second]}
        return {**(pair.by_metric or {}), **names}

    return {
        **metric.as_json()["metric"],
        "values": [
            None if run.evaluated_part is None else run.metrics[run.evaluated_part].get("metric") for run in comparison.runs
        ],
        "tests": [test(pair) for pair in against_best if pair.by_metric is not None],
        "answer": None if answer is None else test(answer),
        "n": 0 if answer is None else len(answer.drawings),
    }


def _in_detail(comparison: RunComparison, answer: RunPair | None) -> list[int]:
    """List the runs whose classes are shown side by side: the best single one, and those that can be compared with it."""
    if answer is None:
        return []
    pairs = [pair for pair in comparison.against_best() if pair.part == answer.part and pair.figures is not None]
    places = sorted({place for pair in pairs for place in (pair.first, pair.second)})
    return places if len(comparison.common(answer, places)[0].image_paths) else sorted((answer.first, answer.second))


def _test(comparison: RunComparison, pair: RunPair) -> dict[str, Any]:
    names = {key: comparison.names[place] for key, place in (("first", pair.first), ("second", pair.second))}
    runs = {f"{key}_name": comparison.runs[place].name for key, place in (("first", pair.first), ("second", pair.second))}
    about = {"part": PART_NAMES[pair.part], "n": len(pair.drawings), "notes": pair.notes, "command": pair.command}
    return {**names, **runs, **about, **(pair.figures or {"p_value": None})}


def _apart(comparison: RunComparison, pair: RunPair) -> dict[str, Any]:
    test = _test(comparison, pair)
    instead = [
        one
        for one in comparison.pairs
        if {one.first, one.second} == {pair.first, pair.second} and one.part == "test" and one.figures is not None
    ]
    return {**test, "has_test": pair.part == "held out" and bool(instead)}


def _plots(rows: Sequence[dict[str, Any]], runs: Sequence[RunFiles]) -> dict[str, Any]:
    """Draw the training curves and the calibration of all runs that have some."""
    epochs = {row["letter"]: run.curve["epochs"] for row, run in zip(rows, runs, strict=True) if run.curve is not None}
    curves = {letter: [point["held_out_accuracy"] for point in points] for letter, points in epochs.items() if points}
    bins = {row["letter"]: reliability_rows(run.evaluated) for row, run in zip(rows, runs, strict=True) if run.evaluated}
    return {
        "curves": svg_markup(draw_curves(curves, "held-out accuracy", "accuracy")) if curves else None,
        "reliability": svg_markup(draw_reliability(bins)) if bins else None,
    }


def _classes(shared: Sequence[Predictions], pair: tuple[int, int], album: Album) -> list[dict[str, Any]]:
    targets = shared[0].targets
    assert targets is not None
    right, groups = [one.right for one in shared], coarsest_groups(one.groups for one in shared)
    rows = []
    for k, name in enumerate(shared[0].class_names):
        inside = targets == k
        if inside.any():
            test = paired_difference(right[pair[0]][inside], right[pair[1]][inside], None if groups is None else groups[inside])
            figures = {key: test[key] for key in ("difference", "p_value")}
            rows.append({"name": name, "n": int(inside.sum()), "recall": [float(r[inside].mean()) for r in right], **figures})
    rows.sort(key=lambda row: (row["p_value"], -abs(row["difference"]), row["name"]))
    return [{**row, "picture": next(iter(album.samples(row["name"], 1)), None)} for row in rows]


def _drawings(shared: Sequence[Predictions], pair: tuple[int, int], album: Album, paths: Sequence[str]) -> list[dict[str, Any]]:
    """Choose drawings that only the second of the pair recognises, the most confident mistakes of the first one first."""
    first, second = shared[pair[0]], shared[pair[1]]
    targets = first.targets
    assert targets is not None
    preds = first.preds
    rows, part = most_confident(first, (preds != targets) & (second.preds == second.targets))[:DRAWINGS], part_of(first)
    return [
        {
            "path": paths[row],
            "picture": album.show(paths[row], part),
            "target": first.class_names[targets[row]],
            "pred": first.class_names[preds[row]],
            "confidence": float(first.probs[row].max()),
        }
        for row in rows
    ]


def _different_keys(runs: Sequence[RunFiles]) -> list[tuple[str, list[str]]]:
    """List the keys in which recipes differ, with each run's value; those of votes, which have other keys, by themselves."""
    recipes = [flat_recipe(run.recipe) for run in runs]
    rows = []
    for key in dict.fromkeys(key for recipe in recipes for key in recipe):
        kinds = {run.vote is None for run, recipe in zip(runs, recipes, strict=True) if key in recipe}
        values = [recipe.get(key, "") for recipe in recipes]
        if len({value for run, value in zip(runs, values, strict=True) if (run.vote is None) in kinds}) > 1:
            rows.append((key, values))
    return rows
