"""The page of several runs side by side: which is better by paired tests, in which classes, and where their recipes differ."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from string import ascii_uppercase
from typing import Any

import numpy as np

from inkfold.evaluation.error_analysis import most_confident, part_of
from inkfold.evaluation.intervals import coarsest_groups
from inkfold.evaluation.paired import paired_difference
from inkfold.evaluation.predictions import Predictions, evaluation_mask
from inkfold.pipeline.run_files import RunFiles, flat_recipe
from inkfold.report.html import common_scale, svg_markup
from inkfold.report.metric_section import metric_view
from inkfold.report.plots import draw_curves, draw_reliability
from inkfold.report.run_page import evaluation_view, picture_notes, reliability_rows
from inkfold.report.thumbnails import Album

MOST_RUNS = len(ascii_uppercase)
DRAWINGS = 8


def comparison_view(runs: Sequence[RunFiles], album: Album) -> dict[str, Any]:
    """Gather everything that the template `comparison.html.j2` shows of 2 to 26 runs.

    It compares the first with the most accurate of the others in detail; the pictures that it shows are embedded in the album.
    """
    rows = [_run(letter, run) for letter, run in zip(ascii_uppercase, runs, strict=False)]
    tests = _paired_tests(runs)
    shared = _shared(runs)
    pair = _pair(shared) if shared else None
    letters = ("A", "B") if pair is None else (ascii_uppercase[pair[0]], ascii_uppercase[pair[1]])
    won, lost = ([], []) if pair is None else (_drawings(shared, pair, album), _drawings(shared, pair[::-1], album))
    intervals = [figures["accuracy_ci95"] for row in rows for figures in (row["evaluated"], row["test"]) if figures]
    largest = max((abs(bound) for test in tests for bound in test["difference_ci95"]), default=0.0)
    widest = max(float(np.ceil(largest * 50)) / 50, 0.02)
    epochs = {row["letter"]: run.curve["epochs"] for row, run in zip(rows, runs, strict=True) if run.curve is not None}
    curves = {letter: [point["held_out_accuracy"] for point in points] for letter, points in epochs.items() if points}
    bins = {row["letter"]: reliability_rows(run.evaluated) for row, run in zip(rows, runs, strict=True) if run.evaluated}
    return {
        "title": " · ".join(run.name for run in runs),
        "runs": rows,
        "answer": _answer(rows, tests, letters),
        "metric": metric_view(runs, shared, letters),
        "has_test": any(row["test"] for row in rows),
        "scale": common_scale(intervals),
        "tests": tests,
        "difference_scale": (-widest, widest),
        "curves": svg_markup(draw_curves(curves, "held-out accuracy", "accuracy")) if curves else None,
        "reliability": svg_markup(draw_reliability(bins)) if bins else None,
        "pair": letters,
        "classes": [] if pair is None else _classes(shared, pair, album),
        "won": won,
        "lost": lost,
        "has_pictures": bool(album.pictures),
        "keys": _different_keys(runs),
        "excluded": _excluded(runs, shared),
        "notes": picture_notes(album),
    }


def _run(letter: str, run: RunFiles) -> dict[str, Any]:
    return {
        "letter": letter,
        "name": run.name,
        "held_out_name": run.held_out_name,
        "evaluated": evaluation_view(run),
        "test": run.metrics.get("test"),
        "forwards": run.cost["forwards"],
        "seconds": run.cost["seconds"]["total"],
        "peak": run.cost.get("peak_memory_bytes"),
    }


def _paired_tests(runs: Sequence[RunFiles]) -> list[dict[str, Any]]:
    """Test every pair of runs on the drawings that both predicted: held-out ones, and test drawings."""
    tests = []
    for i, first in enumerate(runs):
        for j, second in enumerate(runs[i + 1 :], i + 1):
            for part, predictions in (
                ("held out", (first.out_of_fold, second.out_of_fold)),
                ("of the test", (first.test, second.test)),
            ):
                if (both := _align(predictions)) and len(both[0].image_paths):
                    right = [one.preds == one.targets for one in both]
                    names = {"first": ascii_uppercase[i], "second": ascii_uppercase[j]}
                    tests.append(
                        {
                            **names,
                            "part": part,
                            "n": len(right[0]),
                            **paired_difference(right[0], right[1], coarsest_groups(one.groups for one in both)),
                        }
                    )
    return tests


def _align(predictions: Sequence[Predictions | None]) -> list[Predictions]:
    """Reduce predictions to the drawings that all have, in one order; an empty list where classes differ or aren't known.

    Drawings that the backbone of one run saw in pretraining are left out, unless there are no others: they favour that run.
    """
    labelled = [one for one in predictions if one is not None and one.targets is not None]
    if len(labelled) < len(predictions) or len({one.class_names for one in labelled}) > 1:
        return []
    row_by_path = [{path: row for row, path in enumerate(one.image_paths.tolist())} for one in labelled]
    paths = [path for path in row_by_path[0] if all(path in rows for rows in row_by_path[1:])]
    seen = _seen_in_pretraining(labelled)
    paths = [*compress(paths, evaluation_mask(np.array([path in seen for path in paths], bool)))]
    aligned = [_take(one, [rows[path] for path in paths]) for one, rows in zip(labelled, row_by_path, strict=True)]
    targets = [one.targets for one in aligned]
    return aligned if all(np.array_equal(one, targets[0]) for one in targets) else []  # type: ignore[arg-type]


def _seen_in_pretraining(predictions: Sequence[Predictions]) -> set[str]:
    """Return the paths of the drawings that the backbone of any run saw in pretraining."""
    return {path for one in predictions if one.seen is not None for path in one.image_paths[one.seen].tolist()}


def _take(predictions: Predictions, rows: list[int]) -> Predictions:
    return replace(predictions, fold_probs=None, seen=None).select(np.array(rows, np.int64))


def _shared(runs: Sequence[RunFiles]) -> list[Predictions]:
    """Return every run's predictions of the drawings that all predicted: held-out ones, else test drawings."""
    for predictions in ([run.out_of_fold for run in runs], [run.test for run in runs]):
        if (aligned := _align(predictions)) and len(aligned[0].image_paths):
            return aligned
    return []


def _excluded(runs: Sequence[RunFiles], shared: Sequence[Predictions]) -> int:
    """Count the held-out drawings that the tests leave out because a run's backbone saw them in pretraining."""
    if not shared or part_of(shared[0]) == "test":
        return 0
    seen = _seen_in_pretraining([run.out_of_fold for run in runs if run.out_of_fold is not None])
    return 0 if seen & {*shared[0].image_paths.tolist()} else len(seen)


def _pair(shared: Sequence[Predictions]) -> tuple[int, int]:
    """Return the places of the first run and of the most accurate other one."""
    accuracies = [float((one.preds == one.targets).mean()) for one in shared]
    return 0, 1 + int(np.argmax(accuracies[1:]))


def _classes(shared: Sequence[Predictions], pair: tuple[int, int], album: Album) -> list[dict[str, Any]]:
    targets = shared[0].targets
    assert targets is not None
    right = [one.preds == targets for one in shared]
    groups = coarsest_groups(one.groups for one in shared)
    rows = []
    for k, name in enumerate(shared[0].class_names):
        inside = targets == k
        if inside.any():
            test = paired_difference(right[pair[0]][inside], right[pair[1]][inside], None if groups is None else groups[inside])
            figures = {key: test[key] for key in ("difference", "p_value")}
            rows.append({"name": name, "n": int(inside.sum()), "recall": [float(r[inside].mean()) for r in right], **figures})
    rows.sort(key=lambda row: (row["p_value"], -abs(row["difference"]), row["name"]))
    return [{**row, "picture": next(iter(album.samples(row["name"], 1)), None)} for row in rows]


def _drawings(shared: Sequence[Predictions], pair: tuple[int, int], album: Album) -> list[dict[str, Any]]:
    """Choose drawings that only the second of the pair recognises, the most confident mistakes of the first one first."""
    first, second = shared[pair[0]], shared[pair[1]]
    targets = first.targets
    assert targets is not None
    preds = first.preds
    rows, part = most_confident(first, (preds != targets) & (second.preds == targets))[:DRAWINGS], part_of(first)
    return [
        {
            "path": str(first.image_paths[row]),
            "picture": album.show(str(first.image_paths[row]), part),
            "target": first.class_names[targets[row]],
            "pred": first.class_names[preds[row]],
            "confidence": float(first.probs[row].max()),
        }
        for row in rows
    ]


def _answer(rows: Sequence[dict[str, Any]], tests: Sequence[dict[str, Any]], letters: tuple[str, str]) -> dict[str, Any] | None:
    """Return the test that answers which run is better; None where they have no drawings in common."""
    test = next((test for test in tests if (test["first"], test["second"]) == letters), None)
    if test is None:
        return None
    names = {row["letter"]: row["name"] for row in rows}
    part = "held-out" if test["part"] == "held out" else "test"
    return {**test, "first_name": names[test["first"]], "second_name": names[test["second"]], "part": part}


def _different_keys(runs: Sequence[RunFiles]) -> list[tuple[str, list[str]]]:
    recipes = [flat_recipe(run.recipe) for run in runs]
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    values = {key: [recipe.get(key, "") for recipe in recipes] for key in keys}
    return [(key, each) for key, each in values.items() if len({*each}) > 1]
