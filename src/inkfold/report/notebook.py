"""What notebooks show of datasets, runs and answers: small pieces of HTML without scripts, whose pictures are part of them.

They take their colours from the page around them, so that they are legible in light and dark notebooks.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from inkfold.data.types import Dataset
from inkfold.errors import InkfoldError
from inkfold.evaluation.error_analysis import confused_pairs, part_of
from inkfold.evaluation.formatting import with_interval
from inkfold.evaluation.predictions import Predictions
from inkfold.images.preprocess import ImageOptions
from inkfold.pipeline.answers import Answers
from inkfold.pipeline.run_files import RunFiles, headline
from inkfold.report.html import render_part, svg_markup
from inkfold.report.plots import draw_curves
from inkfold.report.thumbnails import Album, Picture, album_of, encode
from inkfold.report.write import open_album_of

CLASSES_SHOWN = 12
PAIRS_SHOWN = 6
PICTURES_SHOWN = 4  # of each class, or of each confused pair
TOP_SHOWN = 4  # classes of an answer
SIDE_PX = 64


def dataset_html(dataset: Dataset) -> str:
    """Show a dataset: how many drawings each class has, and some of them.

    Args:
        dataset: The dataset, whose drawings need not be there any more.

    Returns:
        An HTML element.
    """
    targets = dataset.train.targets
    counts = np.bincount(targets if targets is not None else [], minlength=len(dataset.class_names))
    order = np.argsort(-counts, kind="stable").tolist()
    album = album_of(dataset, ImageOptions(size_px=SIDE_PX, resize="pad"))
    shown = order if len(order) <= CLASSES_SHOWN else [*order[: CLASSES_SHOWN - 2], *order[-2:]]
    rows = [
        {
            "name": dataset.class_names[i],
            "count": int(counts[i]),
            "share": counts[i] / max(int(counts.max(initial=0)), 1),
            "pictures": album.samples(dataset.class_names[i], PICTURES_SHOWN),
            "gap": len(order) - CLASSES_SHOWN if len(order) > CLASSES_SHOWN and place == CLASSES_SHOWN - 2 else 0,
        }
        for place, i in enumerate(shown)
    ]
    view = {
        "title": (dataset.source or dataset.root).name,
        "n_train": len(dataset.train),
        "n_test": 0 if dataset.test is None else len(dataset.test),
        "num_classes": len(dataset.class_names),
        "grouping": None if dataset.grouping is None else dataset.grouping.key,
        "rows": rows,
        "problems": [str(problem) for problem in dataset.problems[:3]],
        "more_problems": max(len(dataset.problems) - 3, 0),
    }
    return render_part("notebook_dataset.html.j2", view)


def run_html(run: RunFiles) -> str:
    """Show a run or ensemble: its figures with their intervals, its curve, and the classes that it confuses most.

    Args:
        run: The files of the run.

    Returns:
        An HTML element.
    """
    predictions = run.evaluated
    data = run.metrics["data"]
    view = {
        "title": run.name,
        "kind": "Run" if run.vote is None else "Ensemble",
        "model": run.manifest.get("backbone", {}).get("name") or f"{len(run.manifest['members'])} members",
        "data": data,
        "figures": _figures(run),
        "curve": _curve(run),
        "pairs": [] if predictions is None else _pairs(predictions, run),
    }
    return render_part("notebook_run.html.j2", view)


def answers_html(answers: Answers) -> str:
    """Show the first answers: each drawing beside its most probable classes.

    Args:
        answers: Drawings with their probabilities.

    Returns:
        An HTML element.
    """
    cards = []
    for row, pixels in enumerate(answers.pictures):
        picture = None if pixels is None else Picture("", *encode(pixels))
        bars = [{"name": name, "probability": prob} for name, prob in answers.top(row, TOP_SHOWN)]
        chosen = answers.class_names[int(answers.preds[row])] if bars else None
        blank = row in answers.blank
        cards.append({"name": answers.names[row], "picture": picture, "bars": bars, "chosen": chosen, "blank": blank})
    view = {"count": len(answers), "num_classes": len(answers.class_names), "cards": cards}
    return render_part("notebook_answers.html.j2", view)


def _figures(run: RunFiles) -> list[dict[str, str]]:
    names = {"out_of_fold": run.held_out_name, "test": "test"}
    return [
        {
            "name": name,
            "accuracy": with_interval(headline(own)["accuracy"], headline(own)["accuracy_ci95"]),
            "top5": "" if own.get("top5_accuracy") is None else f"{own['top5_accuracy']:.3f}",
            "recall": "" if own.get("macro_recall") is None else f"{own['macro_recall']:.3f}",
        }
        for part, name in names.items()
        if (own := run.metrics.get(part)) is not None
    ]


def _curve(run: RunFiles) -> Any:
    points: Sequence[Mapping[str, Any]] = (run.curve or {}).get("epochs", ())
    if len(points) < 2:
        return None
    values = [point["held_out_accuracy"] for point in points]
    return svg_markup(draw_curves({"held out": values}, "held-out accuracy", "accuracy"))


def _pairs(predictions: Predictions, run: RunFiles) -> list[dict[str, Any]]:
    album, part, names = _album(run), part_of(predictions), predictions.class_names
    return [
        {
            "first": names[pair.first],
            "second": names[pair.second],
            "counts": f"{pair.first_as_second} of {pair.n_first}, {pair.second_as_first} of {pair.n_second}",
            "pictures": [
                (picture, f"{names[int(_targets(predictions)[row])]} taken for {names[int(predictions.preds[row])]}")
                for row in pair.rows[:PICTURES_SHOWN]
                if album is not None and (picture := album.show(str(predictions.image_paths[row]), part)) is not None
            ],
        }
        for pair in confused_pairs(predictions, PAIRS_SHOWN)
    ]


def _targets(predictions: Predictions) -> np.ndarray:
    assert predictions.targets is not None
    return predictions.targets


def _album(run: RunFiles) -> Album | None:
    """Open the album of a run's drawings; None where they can't be read any more, which a notebook shows without pictures."""
    try:
        return open_album_of(run)
    except (InkfoldError, OSError):
        return None
