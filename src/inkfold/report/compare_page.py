"""What a page shows of several runs side by side: who is better, by paired tests, in which classes, and by which keys."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from string import ascii_uppercase
from typing import Any

import numpy as np

from inkfold.evaluation.error_analysis import most_confident, part_of, reliability
from inkfold.evaluation.metrics import paired_difference
from inkfold.evaluation.predictions import Predictions, evaluation_mask
from inkfold.report.html import common_scale, drawn
from inkfold.report.plots import draw_curves, draw_reliability
from inkfold.report.run_data import RunRecord, flat_recipe
from inkfold.report.run_page import judged_view, notes_of
from inkfold.report.thumbnails import Album

MOST_RUNS = len(ascii_uppercase)
DRAWINGS = 8


def comparison_view(records: Sequence[RunRecord], album: Album) -> dict[str, Any]:
    """Gather everything that the page of several runs shows.

    Args:
        records: Two at least, 26 at the most; the differences are those of the first and the most accurate other.
        album: Where the drawings are.

    Returns:
        What the template takes.
    """
    runs = [_run(letter, record) for letter, record in zip(ascii_uppercase, records, strict=False)]
    tested = _tests(records)
    shared = _shared(records)
    pair = _pair(shared) if shared else None
    letters = ("A", "B") if pair is None else (ascii_uppercase[pair[0]], ascii_uppercase[pair[1]])
    won, lost = ([], []) if pair is None else (_drawings(shared, pair, album), _drawings(shared, pair[::-1], album))
    intervals = [figures["accuracy_ci95"] for run in runs for figures in (run["judged"], run["test"]) if figures]
    spread = max((abs(bound) for one in tested for bound in one["difference_ci95"]), default=0.0)
    curves = {run["letter"]: points for run, points in zip(runs, map(_curve, records), strict=True) if points}
    bins = {run["letter"]: reliability(one.judged[1]) for run, one in zip(runs, records, strict=True) if one.judged}
    return {
        "title": " · ".join(record.name for record in records),
        "runs": runs,
        "told": _told(runs, tested, letters),
        "tests": any(run["test"] for run in runs),
        "scale": common_scale(intervals),
        "tested": tested,
        "difference_scale": (-_rounded_up(spread), _rounded_up(spread)),
        "curves": drawn(draw_curves(curves, "held-out accuracy", "accuracy")) if curves else None,
        "reliability": drawn(draw_reliability(bins, "reliability")) if bins else None,
        "pair": letters,
        "classes": [] if pair is None else _classes(shared, pair, album),
        "won": won,
        "lost": lost,
        "has_pictures": bool(album.pictures),
        "keys": _keys(records),
        "known": _known(records, shared),
        "notes": notes_of(album),
    }


def _run(letter: str, record: RunRecord) -> dict[str, Any]:
    return {
        "letter": letter,
        "name": record.name,
        "words": record.words,
        "judged": judged_view(record),
        "test": record.metrics.get("test"),
        "forwards": record.cost["forwards"],
        "seconds": record.cost["seconds"]["total"],
        "peak": record.cost.get("peak_memory_bytes"),
    }


def _tests(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Test every pair on the drawings that both were asked about: out of fold, and on the test."""
    found = []
    for i, first in enumerate(records):
        for j, second in enumerate(records[i + 1 :], i + 1):
            for words, one, other in (
                ("held out", first.out_of_fold, second.out_of_fold),
                ("of the test", first.test, second.test),
            ):
                if (both := _on_the_same([one, other])) and len(both[0].image_paths):
                    right = [part.preds == part.targets for part in both]
                    names = {"first": ascii_uppercase[i], "second": ascii_uppercase[j]}
                    found.append({**names, "words": words, "n": len(right[0]), **paired_difference(*right)})
    return found


def _on_the_same(parts: Sequence[Predictions | None]) -> list[Predictions]:
    """Bring predictions with known classes to the drawings that all have, in one order; nothing where classes differ.

    Drawings that a run's backbone learnt from before are left out, where there are others: they would speak for that run alone.
    """
    known = [part for part in parts if part is not None and part.targets is not None]
    if len(known) < len(parts) or len({part.class_names for part in known}) > 1:
        return []
    places = [{path: row for row, path in enumerate(part.image_paths.tolist())} for part in known]
    paths = [path for path in places[0] if all(path in place for place in places[1:])]
    learnt = _learnt(known)
    judged = evaluation_mask(np.array([path in learnt for path in paths], bool))
    paths = [*compress(paths, judged)]
    aligned = [_rows(part, [place[path] for path in paths]) for part, place in zip(known, places, strict=True)]
    targets = [part.targets for part in aligned]
    return aligned if all(np.array_equal(one, targets[0]) for one in targets) else []  # type: ignore[arg-type]


def _learnt(parts: Sequence[Predictions]) -> set[str]:
    """Name the drawings that some run's backbone learnt from before."""
    return {path for part in parts if part.learnt is not None for path in part.image_paths[part.learnt].tolist()}


def _rows(part: Predictions, rows: list[int]) -> Predictions:
    assert part.targets is not None
    folds = None if part.folds is None else part.folds[rows]
    return replace(
        part,
        image_paths=part.image_paths[rows],
        probs=part.probs[rows],
        targets=part.targets[rows],
        folds=folds,
        fold_probs=None,
        learnt=None,
    )


def _shared(records: Sequence[RunRecord]) -> list[Predictions]:
    """Give all runs' predictions of the drawings that all were asked about: out of fold, else on the test."""
    for parts in ([one.out_of_fold for one in records], [one.test for one in records]):
        if (both := _on_the_same(parts)) and len(both[0].image_paths):
            return both
    return []


def _known(records: Sequence[RunRecord], shared: Sequence[Predictions]) -> int:
    """Count the held-out drawings that the tests leave out since a run's backbone learnt from them before."""
    if not shared or part_of(shared[0]) == "test":
        return 0
    known = _learnt([one.out_of_fold for one in records if one.out_of_fold is not None])
    return 0 if known & {*shared[0].image_paths.tolist()} else len(known)


def _pair(shared: Sequence[Predictions]) -> tuple[int, int]:
    """Name the first run and the most accurate of the others."""
    right = [float((one.preds == one.targets).mean()) for one in shared]
    return 0, 1 + int(np.argmax(right[1:]))


def _classes(shared: Sequence[Predictions], pair: tuple[int, int], album: Album) -> list[dict[str, Any]]:
    targets = shared[0].targets
    assert targets is not None
    rights = [one.preds == targets for one in shared]
    rows = []
    for k, name in enumerate(shared[0].class_names):
        inside = targets == k
        if inside.any():
            told = paired_difference(rights[pair[0]][inside], rights[pair[1]][inside])
            recall = [float(right[inside].mean()) for right in rights]
            figures = {name: told[name] for name in ("difference", "p_value")}
            rows.append({"name": name, "n": int(inside.sum()), "recall": recall, **figures})
    rows.sort(key=lambda row: (row["p_value"], -abs(row["difference"]), row["name"]))
    return [{**row, "picture": next(iter(album.samples(row["name"], 1)), None)} for row in rows]


def _drawings(shared: Sequence[Predictions], pair: tuple[int, int], album: Album) -> list[dict[str, Any]]:
    """Show drawings that the second alone has right, where the first is the surest."""
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


def _told(runs: Sequence[dict[str, Any]], tested: Sequence[dict[str, Any]], letters: tuple[str, str]) -> dict[str, Any] | None:
    """Give the test that answers which run is better; None where they have no drawings in common."""
    one = next((one for one in tested if (one["first"], one["second"]) == letters), None)
    if one is None:
        return None
    names = {run["letter"]: run["name"] for run in runs}
    where = "held-out" if one["words"] == "held out" else "test"
    return {**one, "first_name": names[one["first"]], "second_name": names[one["second"]], "where": where}


def _curve(record: RunRecord) -> list[float]:
    return [] if record.curve is None else [point["held_out_accuracy"] for point in record.curve["epochs"]]


def _keys(records: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    flat = [flat_recipe(record.recipe) for record in records]
    keys = dict.fromkeys(key for one in flat for key in one)
    values = {key: [one.get(key, "") for one in flat] for key in keys}
    return [(key, those) for key, those in values.items() if len({*those}) > 1]


def _rounded_up(value: float) -> float:
    return max(float(np.ceil(value * 50)) / 50, 0.02)
