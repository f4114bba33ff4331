"""Label propagation: drawings without labels take those of their neighbours into account, among all drawings at once.

Drawings are nodes of a graph, joined to the most similar ones by their features. Labels flow from the labelled drawings along
its edges, and what arrives at an unlabelled one is combined with its head's probabilities. Nothing is assumed of how frequent
the classes are. The number of threads changes the last bits
of cosines, which are rounded away.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from inkfold.heads.head import unit_length

if TYPE_CHECKING:
    from scipy.sparse import csr_array

NEIGHBOURS = 20
ALPHA = 0.6  # share of a drawing's labels that come from its neighbours, in each step
STEPS = 20  # after which 0.6^20, 0.004 %, is still on its way
SHARPNESS = 3  # power of the cosines that are the edges' weights
FLOOR = 0.5  # added to the shares of labels that arrive, over the number of classes
COMPONENTS = 128
SHRINKAGE = 0.1  # of the mean variance, added to each component's
DIGITS = 5  # of cosines: the last bits are the number of threads'
CELLS = 1 << 23  # cosines in memory at once, and three times their bytes to find the largest
CLASSES_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Drawings without labels, which are predicted together.

    Attributes:
        features: Features of the drawings, by the backbone that the labelled ones' features are by.
        probs: Class probabilities by the head; rows sum to 1.
        apart: Numberings of the drawings, each with one number per drawing: two drawings with an equal number in any of them,
            such as drawings of one group, are not joined to each other. None joins any.
        parts: Number of each drawing's part; drawings are joined within their part only. None takes all for one part.
    """

    features: Float[np.ndarray, "m d"]
    probs: Float[np.ndarray, "m classes"]
    apart: Sequence[Int64[np.ndarray, " m"]] = ()
    parts: Int64[np.ndarray, " m"] | None = None

    def unjoined(self, rows: slice) -> Bool[np.ndarray, "rows m"]:
        """Return which unlabelled drawings some of them must not be joined to; none to itself."""
        numbers = np.arange(len(self.probs))
        unjoined: np.ndarray = numbers[rows, None] == numbers
        for codes in self.apart:
            unjoined |= codes[rows, None] == codes
        if self.parts is not None:
            unjoined |= self.parts[rows, None] != self.parts
        return unjoined


@dataclass(frozen=True, slots=True)
class Whitening:
    """A projection of features on principal components, each scaled to the same spread.

    Without it label propagation gained nothing here: few directions of large spread decide the cosines of raw features.

    Attributes:
        mean: Mean of each feature, which is subtracted.
        components: What the features are multiplied by.
    """

    mean: Float32[np.ndarray, " d"]
    components: Float32[np.ndarray, "d components"]

    @classmethod
    def fit(cls, features: Float[np.ndarray, "n d"]) -> "Whitening":
        """Find the principal components of some drawings' features, two drawings at least; labels have no part in it."""
        from scipy.linalg import eigh  # noqa: PLC0415 - 200 ms

        x = features.astype(np.float32)
        mean = x.mean(0, dtype=np.float64).astype(np.float32)
        x -= mean
        n, d = x.shape
        by_drawings = n < d  # by the drawings' products, of which there are fewer than the features'
        products = (x @ x.T if by_drawings else x.T @ x).astype(np.float64) / n
        count = max(1, min(COMPONENTS, n // 2, d))
        values, vectors = eigh(products, subset_by_index=[len(products) - count, len(products) - 1])
        values = np.maximum(values, 0)
        if by_drawings:
            vectors = (x.T @ vectors) * _inverse(np.sqrt(values * n))
        floor = SHRINKAGE * float(np.trace(products)) / d
        return cls(mean, (vectors * _inverse(np.sqrt(values + floor))).astype(np.float32))

    def apply(self, features: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n components"]:
        """Project drawings' features, and scale each drawing to length 1."""
        return unit_length((features.astype(np.float32) - self.mean) @ self.components)


def propagate(
    whitening: Whitening, labelled: Float[np.ndarray, "n d"], targets: Int64[np.ndarray, " n"], unlabelled: Unlabelled
) -> Float32[np.ndarray, "m classes"]:
    """Predict drawings together, by their neighbours' labels and by their head.

    The head's probabilities are multiplied by the root of the share of labels of each class that arrive: a mean of both was as
    accurate, and its probabilities far too low.

    Args:
        whitening: Of the labelled drawings' features.
        labelled: Features of the drawings whose classes are known.
        targets: Class id of each of them, below the number of columns of `unlabelled.probs`.
        unlabelled: The drawings to predict.

    Returns:
        Class probabilities of the unlabelled drawings; rows sum to 1. A drawing without any neighbour keeps its head's.

    Source: Zhou et al., "Learning with Local and Global Consistency", NeurIPS 2003; with features of a network: Iscen et al.,
        "Label Propagation for Deep Semi-supervised Learning", CVPR 2019. The product: Hinton, "Training Products of Experts by
        Minimizing Contrastive Divergence", Neural Computation 14 (2002).
    """
    num_classes = unlabelled.probs.shape[1]
    graph = _graph(whitening.apply(labelled), whitening.apply(unlabelled.features), unlabelled)
    arrived = _spread(graph, targets, num_classes)
    total = arrived.sum(1, keepdims=True)
    shares = np.where(total > 0, arrived * _inverse(total), 1 / num_classes)
    product = unlabelled.probs * np.sqrt(shares + FLOOR / num_classes)
    predicted: np.ndarray = (product / product.sum(1, keepdims=True)).astype(np.float32)
    return predicted


def work(labelled: int, unlabelled: int) -> float:
    """Estimate how many multiplications `propagate` needs for so many drawings: those of the cosines."""
    return float(labelled + unlabelled) ** 2 * COMPONENTS


def _inverse(values: np.ndarray) -> np.ndarray:
    """Divide 1 by values of at least 0; 0 gives 0."""
    inverse: np.ndarray = np.where(values > 0, 1 / np.where(values > 0, values, 1), 0)
    return inverse


def _graph(known: np.ndarray, new: np.ndarray, unlabelled: Unlabelled) -> "csr_array":
    """Join each drawing to its nearest ones, in both directions, and divide the weights by the roots of both ends' sums."""
    from scipy.sparse import csr_array, diags_array  # noqa: PLC0415 - 200 ms

    everything = np.concatenate([known, new])
    total, n = len(everything), len(known)
    k = min(NEIGHBOURS, total - 1)
    nearest, weights = np.zeros((total, k), np.int32), np.zeros((total, k), np.float32)
    step = max(1, CELLS // total)
    for first, last in ((0, n), (n, total)):  # rows of one kind at a time
        for start in range(first, last, step):
            rows = slice(start, min(start + step, last))
            cosines = np.round(everything[rows] @ everything.T, DIGITS)
            if first:
                cosines[:, n:][unlabelled.unjoined(slice(rows.start - n, rows.stop - n))] = 0
            else:
                cosines[np.arange(rows.stop - rows.start), np.arange(rows.start, rows.stop)] = 0
            columns = _largest(cosines, k)
            nearest[rows] = columns
            weights[rows] = np.maximum(np.take_along_axis(cosines, columns, 1), 0) ** SHARPNESS
    directed = csr_array((weights.ravel(), nearest.ravel(), np.arange(0, total * k + 1, k)), shape=(total, total))
    joined = (directed + directed.T).tocsr()
    sums = np.asarray(joined.sum(1), np.float64)
    scale = diags_array(_inverse(np.sqrt(sums)).astype(np.float32))
    return (scale @ joined @ scale).tocsr()


def _largest(cosines: np.ndarray, k: int) -> np.ndarray:
    """Return the columns of the k largest cosines of each row, from the left."""
    if k == cosines.shape[1]:
        return np.broadcast_to(np.arange(k), cosines.shape)
    return np.sort(np.argpartition(cosines, cosines.shape[1] - k, axis=1)[:, -k:], axis=1)


def _spread(graph: "csr_array", targets: np.ndarray, num_classes: int) -> Float32[np.ndarray, "m classes"]:
    """Let the labels flow along the graph's edges, some classes at a time, and return what reaches the unlabelled drawings."""
    n = len(targets)
    reached = np.zeros((graph.shape[0] - n, num_classes), np.float32)
    for start in range(0, num_classes, CLASSES_AT_ONCE):
        classes = np.arange(start, min(start + CLASSES_AT_ONCE, num_classes))
        labels = np.zeros((graph.shape[0], len(classes)), np.float32)
        labels[:n] = targets[:, None] == classes
        flowing = labels
        for _ in range(STEPS):
            flowing = ALPHA * (graph @ flowing) + (1 - ALPHA) * labels
        reached[:, classes] = flowing[n:]
    return reached
