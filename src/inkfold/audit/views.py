"""Several views of the labels: heads computed on a backbone's features, each drawing predicted by heads that never saw it.

What one classifier doubts says as much of the classifier as of the label: two backbones' lists of doubtful labels share few
drawings. Three kinds of computed heads on each backbone cost seconds, and doubt for different reasons. NumPy alone is needed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from inkfold.evaluation.predictions import softmax_in_parts
from inkfold.storage.scratch import scratch_array

COMPONENTS = 256  # of the features: enough for 345 classes, and a head is computed in a tenth of the time
SHRINKAGE = 0.1  # of the covariance towards a sphere
RIDGE = 0.3  # per training drawing, of standardised features
DRAWINGS_PER_COMPONENT = 4  # of a ridge regression
NEIGHBOURS, WIDTH, OTHERS = 10, 0.07, 0.02  # width of the neighbours' weights in cosine, share of all classes together
SMALLEST = 1e-6
NEVER = -1e4  # score of a class without a drawing
TEMPERATURES = np.geomspace(0.03, 100, 30)
COSINES = 1 << 23  # at most so many are in memory at once

Scorer = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


@dataclass(frozen=True, slots=True)
class View:
    """What one model says of each held-out drawing.

    Attributes:
        name: The model for people, such as `nearest drawings on ink-small`.
        probs: Class probabilities by the fold that held the drawing out; rows sum to 1.
    """

    name: str
    probs: Float[np.ndarray, "n classes"]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Which drawings each fold trains on, and which it is asked about. A drawing may be neither.

    Attributes:
        trained_on: True where a fold's heads may use a drawing.
        predicted: True where a fold predicts a drawing; no drawing is predicted by two folds.
    """

    trained_on: Bool[np.ndarray, "folds n"]
    predicted: Bool[np.ndarray, "folds n"]


def hold_out(
    folds: Int64[np.ndarray, " n"], predicted: Bool[np.ndarray, " n"], copies: Int64[np.ndarray, " n"] | None = None
) -> HeldOut:
    """Turn a run's folds into what each fold trains on: all other drawings but copies of those that it holds out.

    A copy with the same wrong label among the training drawings would hide the error.

    Args:
        folds: The fold that held each drawing out; any number where none did.
        predicted: Whether some fold held the drawing out.
        copies: Number of each drawing's group of copies, equal for copies; None where there are none.

    Returns:
        The drawings of each fold that held out any.
    """
    numbers = np.unique(folds[predicted])
    held = np.stack([predicted & (folds == number) for number in numbers])
    trained = ~held
    if copies is not None:
        trained &= np.stack([~np.isin(copies, copies[own]) for own in held])
    return HeldOut(trained, held)


def computed_views(
    backbone: str, features: Float[np.ndarray, "n d"], targets: Int64[np.ndarray, " n"], held_out: HeldOut, num_classes: int
) -> list[View]:
    """Predict the held-out drawings by three kinds of heads that are computed on a backbone's features.

    Args:
        backbone: Name of the backbone, for the views' names.
        features: Features of all drawings.
        targets: Class id that the data give each drawing.
        held_out: Which drawings each fold trains on and predicts.
        num_classes: Number of classes; some may have no drawing.

    Returns:
        A view for each kind of head, over the predicted drawings in the order of the features.

    Source: linear discriminant with a shrunk covariance: Friedman, "Regularized Discriminant Analysis", JASA 84 (1989). Ridge:
    Hoerl and Kennard, Technometrics 12 (1970). Neighbours weighted by cosine: Wu et al., "Unsupervised Feature Learning via
    Non-Parametric Instance Discrimination", CVPR 2018. Temperature: Guo et al., "On Calibration of Modern Neural Networks",
    ICML 2017.
    """
    components = _principal(features)
    rows = held_out.predicted.any(0)
    views = []
    for name, scorer in HEADS.items():
        scores = scratch_array((len(targets), num_classes), np.float32)
        for trained_on, predicted in zip(held_out.trained_on, held_out.predicted, strict=True):
            scores[predicted] = scorer(components[trained_on], targets[trained_on], components[predicted], num_classes)
        held = scores if rows.all() else scores[rows]  # a copy of them all would stay in memory
        views.append(View(f"{name} on {backbone}", calibrated(held, targets[rows])))
    return views


def calibrated(scores: Float[np.ndarray, "n classes"], targets: Int64[np.ndarray, " n"]) -> Float[np.ndarray, "n classes"]:
    """Turn scores into probabilities with the temperature under which the labels, of 20,000 rows at most, are most likely."""
    some = np.arange(0, len(targets), -(-len(targets) // 20_000))
    few, labels = scores[some] - scores[some].max(1, keepdims=True), targets[some]
    own = few[np.arange(len(some)), labels]
    losses = [
        float((np.log(np.exp(few * factor).sum(1)) - np.maximum(own * factor, np.log(SMALLEST))).mean())
        for factor in TEMPERATURES
    ]
    factor = np.float32(TEMPERATURES[int(np.argmin(losses))])
    return softmax_in_parts(lambda part: scores[part] * factor, scores.shape)


def pooled(views: Sequence[View]) -> Float[np.ndarray, "n classes"]:
    """Pool the views' probabilities by their geometric mean, which one sure view can't decide alone, and normalise the rows."""

    def mean_logs(part: slice) -> np.ndarray:
        return np.asarray(sum(np.log(np.maximum(view.probs[part], SMALLEST)) for view in views) / len(views))

    return softmax_in_parts(mean_logs, views[0].probs.shape)


def _principal(features: np.ndarray) -> np.ndarray:
    """Project features onto their principal components; the labels have no part in it."""
    x = features.astype(np.float32)
    x -= x.mean(0)
    if len(x) < x.shape[1]:  # by the drawings' products, of which there are fewer than the features'
        values, drawings = np.linalg.eigh(x @ x.T)
        projected = drawings * np.sqrt(np.maximum(values, 0))
    else:
        projected = x @ np.linalg.eigh(x.T @ x)[1]
    components: np.ndarray = projected[:, : -COMPONENTS - 1 : -1]  # those of the largest spread first
    return components


def _discriminant(x: np.ndarray, targets: np.ndarray, others: np.ndarray, num_classes: int) -> np.ndarray:
    centre = x.mean(0)
    x, others = x - centre, others - centre
    counts, means = _means(x, targets, num_classes)
    within = x - means[targets]
    covariance = within.T @ within / max(len(x) - num_classes, 1)
    sphere = np.eye(len(covariance), dtype=np.float32) * max(float(np.trace(covariance)) / len(covariance), SMALLEST)
    weights = np.linalg.solve((1 - SHRINKAGE) * covariance + SHRINKAGE * sphere, means.T)
    scores: np.ndarray = others @ weights - 0.5 * (means.T * weights).sum(0)
    scores[:, counts == 0] = scores.min(initial=0) + NEVER
    return scores


def _ridge(x: np.ndarray, targets: np.ndarray, others: np.ndarray, num_classes: int) -> np.ndarray:
    few = max(1, len(x) // DRAWINGS_PER_COMPONENT)  # all are scaled alike: of few drawings the last ones are chance
    x, others = x[:, :few], others[:, :few]
    centre, scale = x.mean(0), x.std(0) + SMALLEST
    x, others = (x - centre) / scale, (others - centre) / scale
    sums = np.zeros((num_classes, x.shape[1]), np.float32)
    np.add.at(sums, targets, x)
    square = x.T @ x + RIDGE * len(x) * np.eye(x.shape[1], dtype=np.float32)
    scores: np.ndarray = others @ np.linalg.solve(square, sums.T)
    return scores


def _neighbours(x: np.ndarray, targets: np.ndarray, others: np.ndarray, num_classes: int) -> np.ndarray:
    centre = x.mean(0)
    known, k = _unit_length(x - centre), min(NEIGHBOURS, len(x))
    scores = scratch_array((len(others), num_classes), np.float32)
    rows = max(1, COSINES // len(known))
    for start in range(0, len(others), rows):
        cosines = _unit_length(others[start : start + rows] - centre) @ known.T
        nearest = np.argpartition(cosines, -k, axis=1)[:, -k:]
        weights = np.exp((np.take_along_axis(cosines, nearest, 1) - 1) / WIDTH)
        shares = np.zeros((len(cosines), num_classes), np.float32)
        for place in range(k):
            np.add.at(shares, (np.arange(len(cosines)), targets[nearest[:, place]]), weights[:, place])
        shares /= np.maximum(shares.sum(1, keepdims=True), np.finfo(np.float32).tiny)
        scores[start : start + rows] = np.log(shares * (1 - OTHERS) + OTHERS / num_classes)
    return scores


def _unit_length(x: np.ndarray) -> np.ndarray:
    """Scale rows to length 1."""
    scaled: np.ndarray = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), SMALLEST)
    return scaled


def _means(x: np.ndarray, targets: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    counts, sums = np.bincount(targets, minlength=num_classes), np.zeros((num_classes, x.shape[1]), np.float32)
    np.add.at(sums, targets, x)
    return counts, sums / np.maximum(counts, 1)[:, None].astype(np.float32)


HEADS: dict[str, Scorer] = {
    "linear discriminant": _discriminant,
    "ridge regression": _ridge,
    "nearest drawings": _neighbours,
}
