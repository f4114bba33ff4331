"""What a run's most confident mistakes rest on: strokes are erased one by one, and the fold that made the mistake answers."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from inkfold.ensemble.model import Ensemble
from inkfold.errors import PredictionError
from inkfold.evaluation.error_analysis import failures, part_of
from inkfold.evaluation.predictions import Predictions
from inkfold.explain.explanation import Explanation
from inkfold.explain.picture import on_white
from inkfold.pipeline.build import dataset_again
from inkfold.pipeline.explain import Question, explain_all
from inkfold.pipeline.manifest import EXPLAINED
from inkfold.pipeline.run import Run
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.outputs import check_added_file
from inkfold.storage.sealed import write_sealed

STROKES = 16
PICTURE_PX = 96
FORMAT = 1


def explain_mistakes(model: Run | Ensemble, data: str | Path | None = None, progress: Progress = silent) -> dict[str, Any]:
    """Find out what the mistakes that a run's report shows rest on, and write `explained.json` into its directory.

    Args:
        model: A finished run of one model.
        data: Folder of the drawings, if they have moved; None for the folder in the recipe.
        progress: Called with the number of forward passes done.

    Returns:
        The content of `explained.json`: `rows` with the path, the part, both classes, the largest effect and a picture of each
        mistake whose drawing is there, and `cost`.

    Raises:
        PredictionError: If the model is an ensemble, or no true classes are known.
        DataError: If the drawings can't be read any more.
        WeightsError: If the backbone's weights are gone or changed.
        ExportError: If `explained.json` can't be written there.
    """
    if not isinstance(model, Run):
        raise PredictionError(
            f"{model.path}: is an ensemble, whose mistakes no single fold made. Explain its members' mistakes."
        )
    predictions, cost = model.files.evaluated, Cost()
    if predictions is None:
        raise PredictionError(f"{model.path}: has no drawings with true classes, so no mistakes are known.")
    check_added_file(model.path / EXPLAINED)  # before the work, not after it
    rows, questions = _questions(predictions, model, data)
    with cost.timed("explain"):
        found = explain_all(model, questions, STROKES, progress) if questions else []
    content = {
        "format": FORMAT,
        "data_fingerprint": model.manifest["data_fingerprint"],
        "rows": [{**row, **_about(one)} for row, one in zip(rows, found, strict=True)],
        "cost": {"forwards": sum(len(one.strokes) + 1 for one in found) * len(model.views), "seconds": cost.seconds["explain"]},
    }
    write_sealed(model.path / EXPLAINED, content)
    return content


def _questions(predictions: Predictions, run: Run, data: str | Path | None) -> tuple[list[dict[str, Any]], list[Question]]:
    """Ask about each mistake the fold that held the drawing out, or all folds about a test drawing."""
    dataset, part, names = dataset_again(run, data), part_of(predictions), predictions.class_names
    drawings = dataset.train if part == "train" else dataset.test
    files = {} if drawings is None else dict(zip(drawings.image_paths.tolist(), drawings.files.tolist(), strict=True))
    rows, questions, folds = [], [], predictions.folds
    for failure in failures(predictions):
        path = str(predictions.image_paths[failure.row])
        file = files.get(path)
        if not file or not Path(file).is_file():
            continue
        fold = None if folds is None else int(np.searchsorted(np.unique(folds), folds[failure.row]))
        rows.append({"path": path, "part": part, "pred": names[failure.pred], "target": names[failure.target]})
        questions.append(Question(file, names[failure.target], names[failure.pred], fold))
    return rows, questions


def _about(found: Explanation) -> dict[str, Any]:
    picture = io.BytesIO()
    side = Image.fromarray(on_white(found.square, found.effect_of_pixel()))
    side.resize((PICTURE_PX, PICTURE_PX), Image.Resampling.LANCZOS).save(picture, "PNG")
    strongest = found.strokes[-1] if found.strokes else None  # that which speaks most for the predicted class
    return {
        "probability": round(found.against_probability or 0.0, 6),
        "strokes": len(found.strokes),
        "strongest": 0.0 if strongest is None else round(-strongest.effect, 4),
        "where": "" if strongest is None else strongest.where(len(found.square)),
        "picture": base64.b64encode(picture.getvalue()).decode(),
    }
