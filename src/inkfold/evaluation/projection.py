"""Many features projected to two numbers for a map: principal components, and t-SNE without approximation."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64, Shaped

EARLY, ITERATIONS = 100, 400
EXAGGERATION = 12.0
MOST_COMPONENTS = 50


@dataclass(frozen=True, slots=True)
class MapFeatures:
    """Features of some training drawings, evenly of all classes.

    Attributes:
        image_paths: The drawings' names, as the dataset has them.
        features: The first backbone's features of the drawings as they are.
        targets: Class ids.
    """

    image_paths: Shaped[np.ndarray, " n"]
    features: Float32[np.ndarray, "n d"]
    targets: Int64[np.ndarray, " n"]


def principal_components(features: Float[np.ndarray, "n d"], count: int = 2) -> Float[np.ndarray, "n count"]:
    """Project features on their directions of most variance, always with the same signs.

    Args:
        features: The rows; each is scaled to length 1, as directions say more of a drawing than lengths.
        count: Number of components; fewer come back where there are fewer rows or features.
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    centred = (unit - unit.mean(0)).astype(np.float64)
    left, scale, right = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(1)])
    projected: np.ndarray = (left * scale * signs)[:, :count]
    return projected


def tsne(features: Float[np.ndarray, "n d"], perplexity: float = 30.0) -> Float[np.ndarray, "n 2"]:
    """Place rows on a plane so that those with similar features are neighbours.

    It begins with the principal components instead of at random, so that the same features give the same map.

    Args:
        features: The rows, 4 at least. Time and memory grow with the square of their number.
        perplexity: About how many neighbours each row has; fewer where there are few rows.

    Returns:
        Coordinates without a unit, around 0.

    Source: van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 9 (2008); start and rate after Kobak and Berens,
        "The art of using t-SNE for single-cell transcriptomics", Nature Communications 10 (2019).
    """
    reduced = principal_components(features, MOST_COMPONENTS)
    n = len(reduced)
    joint = _joint_probabilities(reduced, min(perplexity, (n - 1) / 3))
    place = reduced[:, :2] / max(float(reduced[:, 0].std()), 1e-12) * 1e-4
    step, gains = np.zeros_like(place), np.ones_like(place)
    rate = max(n / EXAGGERATION, 50.0)
    for iteration in range(ITERATIONS):
        early = iteration < EARLY
        gradient = _gradient(place, joint * EXAGGERATION if early else joint)
        gains = np.maximum(np.where(np.sign(gradient) == np.sign(step), gains * 0.8, gains + 0.2), 0.01)
        step = (0.5 if early else 0.8) * step - rate * gains * gradient
        place = place + step
        place -= place.mean(0)
    return place


def _squared_distances(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
    lengths = (rows * rows).sum(1)
    distances: np.ndarray = np.maximum(lengths[:, None] + lengths - 2 * (rows @ rows.T), 0)
    return distances


def _joint_probabilities(rows: Float[np.ndarray, "n d"], perplexity: float) -> Float[np.ndarray, "n n"]:
    """Find for each row the width of neighbourhood that has the perplexity, by bisection of all rows at once."""
    distances = _squared_distances(rows)
    np.fill_diagonal(distances, np.inf)
    distances -= distances.min(1, keepdims=True)  # which changes no probability, and keeps the nearest from vanishing
    low, high = np.full(len(rows), -30.0), np.full(len(rows), 30.0)  # of the logarithm of the precision
    for _ in range(50):
        middle = (low + high) / 2
        probs = np.exp(-distances * np.exp(middle)[:, None])
        probs /= probs.sum(1, keepdims=True)
        entropy = -(probs * np.log(np.maximum(probs, 1e-300))).sum(1)
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    joint: np.ndarray = np.maximum((probs + probs.T) / (2 * len(rows)), 1e-12)
    return joint


def _gradient(place: Float[np.ndarray, "n 2"], joint: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n 2"]:
    closeness = 1 / (1 + _squared_distances(place))
    np.fill_diagonal(closeness, 0)
    pull = (joint - closeness / closeness.sum()) * closeness
    gradient: np.ndarray = 4 * (pull.sum(1)[:, None] * place - pull @ place)
    return gradient
