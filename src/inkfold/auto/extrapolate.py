"""What an accuracy on a sample lets expect on all drawings: more of each class to learn from, and more classes to confuse."""

import math

import numpy as np
from jaxtyping import Float, Int64

LEAST_SLOPE, LARGEST_SLOPE = 0.0, 0.12  # accuracy per doubling of the training drawings
DECAY = 0.8  # of the slope, from one doubling to the next


def with_more_drawings(accuracy: float, with_half: float, factor: float) -> float:
    """Extrapolate an accuracy along its learning curve.

    The gain of the last doubling of the training drawings is continued, each further doubling with 0.8 of the one before.

    Args:
        accuracy: Accuracy of heads that were trained on all drawings of a sample, 0 to 1.
        with_half: Accuracy of heads that were trained on half of them, 0 to 1.
        factor: By how much there are more training drawings of each class, at least 1.

    Returns:
        The accuracy to expect, 0 to 1.
    """
    slope = min(max(accuracy - with_half, LEAST_SLOPE), LARGEST_SLOPE)
    doublings = math.log2(max(factor, 1.0))
    gain = slope * DECAY * (1 - DECAY**doublings) / (1 - DECAY)
    return float(min(accuracy + gain, 1.0))


def with_more_classes(probs: Float[np.ndarray, "n classes"], targets: Int64[np.ndarray, " n"], classes: int) -> float:
    """Extrapolate an accuracy to more classes, by how it falls from half of the classes to all of them.

    Which classes are more probable than the true one says how often it would be first among any half of them.

    Args:
        probs: Class probabilities.
        targets: True class of each drawing.
        classes: Number of classes to extrapolate to, at least as many as there are.

    Returns:
        The factor by which the accuracy changes, above 0 and at most 1.

    Source: Zheng, Achanta and Benjamini, "Extrapolating expected accuracies for large multi-class problems", JMLR 19 (2018).
    """
    own, among = probs[np.arange(len(targets)), targets], probs.shape[1]
    better = (probs > own[:, None]).sum(1)
    accuracy, in_half = float((better == 0).mean()), float((0.5**better).mean())
    if classes <= among or accuracy == 0:
        return 1.0
    return float((accuracy / in_half) ** math.log2(classes / among))
