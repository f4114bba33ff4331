"""Which strokes of drawings a model's answers rest on: all variants of all drawings are predicted in one batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from inkfold.errors import PredictionError
from inkfold.explain.explanation import Explanation, Method, explanation_of, strokes_by_effect
from inkfold.explain.occlusion import erased_one_by_one, labels_on
from inkfold.explain.strokes import MOST_STROKES, Labels, split_ink
from inkfold.images.decode import Pixels
from inkfold.images.preprocess import ImageOptions
from inkfold.pipeline.predict import options_of, predict_squares, read_squares
from inkfold.runtime.progress import Progress, silent

if TYPE_CHECKING:
    from inkfold.pipeline.run import Model

FEWEST, MOST = 1, 256  # strokes: each takes as many forward passes as a drawing does


@final
@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about one drawing.

    Attributes:
        drawing: The drawing, in any form that prediction takes.
        class_name: The class that is explained; None takes the model's answer.
        against: The second class; None for none.
        fold: Number of the only fold that answers, from 0; None lets the whole model answer.
    """

    drawing: Any
    class_name: str | None = None
    against: str | None = None
    fold: int | None = None


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
    if method not in ("occlusion", "gradients"):
        raise PredictionError(f"method: got {method!r}, expected 'occlusion' or 'gradients'.")
    question = Question(drawing, class_name, against)
    [found] = explain_all(model, [question], strokes, progress, effects=method == "occlusion")
    if method == "occlusion":
        return found
    from inkfold.pipeline.gradients import attribute  # noqa: PLC0415 - torch takes a second

    names = model.classes_
    other = None if against is None else names.index(against)
    attribution = attribute(model, found.square, names.index(found.class_name), other, progress)
    sums = np.bincount(found.labels.ravel(), weights=attribution.ravel(), minlength=int(found.labels.max()) + 1)
    effect_of = dict(enumerate(sums[1:].tolist(), start=1))
    return found.replaced(strokes_by_effect(found.square, found.labels, effect_of), method)


def explain_all(
    model: "Model",
    questions: Sequence[Question],
    strokes: int | None = None,
    progress: Progress = silent,
    *,
    effects: bool = True,
) -> list[Explanation]:
    """Find out which strokes the answers about several drawings rest on.

    Args:
        model: A run, or an ensemble of runs.
        questions: The drawings; at least one.
        strokes: The most strokes of each; None takes 24.
        progress: Called with the number of forward passes done.
        effects: Whether strokes are erased; without, the explanations have the strokes' places only.

    Returns:
        An explanation for each.

    Raises:
        DataError: If a drawing can't be read.
        PredictionError: If a class isn't the model's, or a number is out of range.
        WeightsError: If a backbone's weights are missing or have changed.
    """
    strokes = MOST_STROKES if strokes is None else strokes
    if not FEWEST <= strokes <= MOST:
        raise PredictionError(f"strokes: got {strokes}, expected {FEWEST} to {MOST}.")
    names, runs = list(model.classes_), model.member_runs()
    chosen = [[None if name is None else _class_id(name, names) for name in (one.class_name, one.against)] for one in questions]
    options = options_of(runs)
    drawings = [_split(one.drawing, options, strokes, model, effects=effects) for one in questions]
    squares = {option: [each for drawing in drawings for each in drawing.variants[option]] for option in options}
    by_fold, start, found = predict_squares(runs, squares, progress), 0, []
    for question, drawing, (target, other) in zip(questions, drawings, chosen, strict=True):
        rows = slice(start, start + len(drawing.variants[options[0]]))
        own, start = [folds[:, rows] for folds in by_fold], rows.stop
        probs = model.pool_folds(own) if question.fold is None else own[0][question.fold]
        answer = int(model.decide(probs[:1])[0]) if target is None else target
        if answer == other:
            raise PredictionError(f"against: got {question.against!r}, which is the class that is explained. Name another one.")
        found.append(explanation_of(drawing.square, drawing.labels, probs, names, answer, other))
    return found


@final
@dataclass(frozen=True, slots=True)
class _Drawing:
    """A drawing with its strokes, and for each of the image options the whole square and those without each stroke."""

    square: Pixels
    labels: Labels
    variants: dict[ImageOptions, list[Pixels]]


def _split(drawing: Any, options: Sequence[ImageOptions], most: int, model: "Model", *, effects: bool) -> _Drawing:
    made, is_blank = read_squares(drawing, options, model.member_runs()[0])
    square = max(made, key=len)
    labels = np.zeros(square.shape[:2], np.int32) if is_blank else split_ink(square, most)
    count = int(labels.max()) if effects else 0
    variants = {
        option: erased_one_by_one(each, labels_on(each, square, labels), count)
        for option, each in zip(options, made, strict=True)
    }
    return _Drawing(square, labels, variants)


def _class_id(name: str, names: list[str]) -> int:
    if name in names:
        return names.index(name)
    from difflib import get_close_matches  # noqa: PLC0415 - for the message alone

    near = get_close_matches(str(name), names, 3, 0.5)
    hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"The classes are {', '.join(names[:10])} ..."
    raise PredictionError(f"the model has no class {name!r}. {hint}")
