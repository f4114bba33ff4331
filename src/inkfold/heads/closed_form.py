"""Heads that are computed instead of trained: the nearest class mean and the nearest drawings."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int64

from inkfold.heads.head import HeadSpec, unit_length

TEMPERATURES = np.geomspace(1e-3, 1e3, 121)  # of squared distances in units of the mean one
MIN_SCALE = 1e-6
SCALED_COLUMNS = 128  # features that are measured at once: a third less time than all, and megabytes instead of gigabytes


def compute_heads(
    spec: HeadSpec,
    features: Float[np.ndarray, "n d"],
    targets: Int64[np.ndarray, " n"],
    folds: Bool[np.ndarray, "folds n"],
    num_classes: int,
    blocks: Sequence[int] = (),
) -> dict[str, np.ndarray]:
    """Compute one head per fold.

    Args:
        spec: Kind of the heads, `class_mean` or `knn`, and the scaling of features.
        features: Features of all drawings, not yet scaled.
        targets: Class id of each drawing, 0 to `num_classes` - 1.
        folds: True where the fold's head may use the drawing.
        num_classes: Number of classes; classes without a drawing are allowed.
        blocks: Widths of the blocks of features, for the scaling `blocks`; empty takes all as one.

    Returns:
        The tensors in the form that `heads.head_probs` predicts with.
    """
    scaling = scaling_of(spec, features, folds, blocks)
    if spec.kind == "knn":
        return {
            "neighbours": features[None].astype(np.float16),
            "targets": targets[None, None].astype(np.int32),
            "seen": folds[:, None].astype(np.uint8),
            "classes": np.full((1, 1, 1), num_classes, np.int32),
            **scaling,
        }
    layers = []
    for fold, own in enumerate(folds):
        x = features[own].astype(np.float32)
        if scaling:
            x = (x - scaling["mean"][fold]) * scaling["scale"][fold]
        layers.append(_class_means(unit_length(x) if spec.scaling == "normalise" else x, targets[own], num_classes))
    weights, biases = zip(*layers, strict=True)
    return {"layers.0.weight": np.stack(weights), "layers.0.bias": np.stack(biases), **scaling}


def scaling_of(
    spec: HeadSpec, features: Float[np.ndarray, "n d"], folds: Bool[np.ndarray, "folds n"], blocks: Sequence[int] = ()
) -> dict[str, np.ndarray]:
    """Measure what a head's scaling takes from each fold's own drawings.

    Args:
        spec: Says how features are scaled.
        features: Features of all drawings, in the order of the folds' columns.
        folds: True where the fold may use the drawing.
        blocks: Widths of the blocks of features, one per layer and backbone; empty takes all as one.

    Returns:
        `mean` and `scale`, (folds, 1, d); nothing for a scaling that measures nothing.
    """
    if not spec.is_scaled_by_fold:
        return {}
    return fold_scaling(features, folds) if spec.scaling == "standardise" else block_scaling(features, folds, blocks)


def block_scaling(
    features: Float[np.ndarray, "n d"], folds: Bool[np.ndarray, "folds n"], blocks: Sequence[int]
) -> dict[str, np.ndarray]:
    """Measure the mean of each feature and one deviation for each block, over each fold's own training drawings.

    Within a block, features keep their deviations' proportions: bringing each to 1 was worse out of fold (docs/backbones.md).

    Args:
        features: Features of all drawings, in the order of the folds' columns.
        folds: True where the fold may use the drawing.
        blocks: Widths of the blocks, whose sum is the number of features; empty takes all features as one.

    Returns:
        `mean` and `scale`, the inverse root of the block's mean variance, (folds, 1, d); a constant block has scale 0.
    """
    widths = list(blocks) or [features.shape[1]]
    assert sum(widths) == features.shape[1]
    starts = np.cumsum([0, *widths[:-1]])
    means, scales = [], []
    for own in folds:
        x = features[own].astype(np.float32)
        deviation = np.sqrt(np.add.reduceat(x.var(0, dtype=np.float64), starts) / widths)
        means.append(x.mean(0, dtype=np.float64)[None])
        factors = np.where(deviation > MIN_SCALE, 1 / np.maximum(deviation, MIN_SCALE), 0)
        scales.append(np.repeat(factors, widths)[None])
    return {"mean": np.stack(means).astype(np.float32), "scale": np.stack(scales).astype(np.float32)}


def fold_scaling(features: Float[np.ndarray, "n d"], folds: Bool[np.ndarray, "folds n"]) -> dict[str, np.ndarray]:
    """Measure mean and deviation of each feature over each fold's own training drawings.

    Args:
        features: Features of all drawings, in the order of the folds' columns.
        folds: True where the fold may use the drawing.

    Returns:
        `mean` and `scale`, the inverse deviation, (folds, 1, d); a constant feature has scale 0, so it has no influence.
    """
    means, scales = np.empty((2, len(folds), 1, features.shape[1]), np.float32)
    for start in range(0, features.shape[1], SCALED_COLUMNS):
        columns = slice(start, start + SCALED_COLUMNS)
        part = features[:, columns].astype(np.float32)
        for fold, own in enumerate(folds):
            x = part[own]
            deviation = x.std(0, dtype=np.float64)  # in float32, thousands of equal numbers have a deviation above 0
            means[fold, 0, columns] = x.mean(0, dtype=np.float64)
            scales[fold, 0, columns] = np.where(deviation > MIN_SCALE, 1 / np.maximum(deviation, MIN_SCALE), 0)
    return {"mean": means, "scale": scales}


def _class_means(x: np.ndarray, targets: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Express squared distances to class means as a linear layer: their part that differs between classes is linear in x."""
    counts = np.bincount(targets, minlength=num_classes)
    sums = np.zeros((num_classes, x.shape[1]), np.float64)
    np.add.at(sums, targets, x)
    means = sums / np.maximum(counts, 1)[:, None]
    squares = (means**2).sum(1)
    distances = (x.astype(np.float64) ** 2).sum(1)[:, None] - 2 * x @ means.T + squares
    sharpness = _sharpness(distances, targets, counts)
    centre = means[counts > 0].mean(0)  # subtracting what all classes share leaves less to cancel in float32
    weight, bias = 2 * sharpness * (means - centre).T, -sharpness * (squares - (centre**2).sum())
    bias[counts == 0] = -1e9
    return weight.astype(np.float32), bias[None].astype(np.float32)


def _sharpness(distances: np.ndarray, targets: np.ndarray, counts: np.ndarray) -> float:
    """Choose the factor of squared distances by the likelihood of drawings when each is left out of its own class's mean."""
    rows = np.flatnonzero(counts[targets] > 1)
    if not len(rows):
        return 1.0
    own = counts[targets[rows]]
    left_out = distances[rows].copy()
    left_out[np.arange(len(rows)), targets[rows]] *= (
        own / (own - 1)
    ) ** 2  # the class's mean without this drawing is so much farther away
    left_out[:, counts == 0] = np.inf
    left_out -= left_out.min(1, keepdims=True)
    scale = np.mean(left_out[np.isfinite(left_out)]) or 1.0
    true = left_out[np.arange(len(rows)), targets[rows]]
    losses = [
        float((factor * true / scale + np.log(np.exp(-factor * left_out / scale).sum(1))).mean()) for factor in TEMPERATURES
    ]
    return float(TEMPERATURES[int(np.argmin(losses))] / scale)
