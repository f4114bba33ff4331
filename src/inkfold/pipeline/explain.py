"""Which strokes of a drawing a model's answer rests on: all variants of the drawing are predicted in one batch."""

from typing import TYPE_CHECKING, Any

import numpy as np

from inkfold.errors import PredictionError
from inkfold.explain.explanation import Explanation, Method, explanation_of, strokes_by_effect
from inkfold.explain.occlusion import erased_one_by_one, labels_on
from inkfold.explain.strokes import MOST_STROKES, split_ink
from inkfold.pipeline.predict import options_of, predict_squares, read_squares
from inkfold.runtime.progress import Progress, silent

if TYPE_CHECKING:
    from inkfold.pipeline.run import Model

FEWEST, MOST = 1, 256  # strokes: each takes as many forward passes as a drawing does


def explain(
    model: "Model",
    drawing: Any,
    against: str | None = None,
    *,
    class_name: str | None = None,
    strokes: int | None = None,
    method: Method = "occlusion",
    progress: Progress = silent,
) -> Explanation:
    """Find out which strokes an answer rests on; see `Model.explain`."""
    strokes = MOST_STROKES if strokes is None else strokes
    if not FEWEST <= strokes <= MOST:
        raise PredictionError(f"strokes: got {strokes}, expected {FEWEST} to {MOST}.")
    if method not in ("occlusion", "gradients"):
        raise PredictionError(f"method: got {method!r}, expected 'occlusion' or 'gradients'.")
    names = list(model.classes_)
    chosen, other = (None if name is None else _class_id(name, names) for name in (class_name, against))
    runs = model.member_runs()
    options = options_of(runs)
    made, is_blank = read_squares(drawing, options, runs[0])
    largest = max(range(len(made)), key=lambda place: len(made[place]))
    square = made[largest]
    labels = np.zeros(square.shape[:2], np.int32) if is_blank else split_ink(square, strokes)
    parts = [labels_on(each, square, labels) for each in made]
    whole_only = method == "gradients"
    variants = {
        option: [each] if whole_only else erased_one_by_one(each, part, int(labels.max()))
        for option, each, part in zip(options, made, parts, strict=True)
    }
    probs = model.pool_folds(predict_squares(runs, variants, progress))
    target = int(model.decide(probs[:1])[0]) if chosen is None else chosen
    if target == other:
        raise PredictionError(f"against: got {against!r}, which is the class that is explained. Name another one.")
    explanation = explanation_of(square, labels, probs, names, target, other)
    if not whole_only:
        return explanation
    from inkfold.pipeline.gradients import attribute  # noqa: PLC0415 - torch takes a second

    attribution = attribute(model, square, target, other, progress)
    sums = np.bincount(labels.ravel(), weights=attribution.ravel(), minlength=int(labels.max()) + 1)
    effect_of = dict(enumerate(sums[1:].tolist(), start=1))
    return explanation.replaced(strokes_by_effect(square, labels, effect_of), method)


def _class_id(name: str, names: list[str]) -> int:
    if name in names:
        return names.index(name)
    from difflib import get_close_matches  # noqa: PLC0415 - for the message alone

    near = get_close_matches(str(name), names, 3, 0.5)
    hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"The classes are {', '.join(names[:10])} ..."
    raise PredictionError(f"the model has no class {name!r}. {hint}")
