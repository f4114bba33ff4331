"""Votes that pool the members' class probabilities or predicted classes. Pure numpy; nothing is fitted here (see `stacking`).

A vote's result is a row of shares for each drawing that sums to 1 and whose largest entry, the lowest class id among equals,
is the predicted class, whatever the tie rule: a tie that mean probabilities decide is decided in the shares already.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int64, Integer

from inkfold.config.sections import Ballot, TieRule
from inkfold.errors import PredictionError
from inkfold.evaluation.predictions import softmax

LEAST_PROBABILITY = 1e-7  # stands for a probability of 0 in a geometric mean, so that no member alone vetoes a class
TIE_SHARE = 0.5  # of a vote: mean probabilities add no more, and never overrule one
TIE_TOLERANCE = 1e-12  # relative difference by rounding between means that are equal


def soft_vote(
    members: Float[np.ndarray, "members n classes"], weights: Float[np.ndarray, " members"] | None = None
) -> Float[np.ndarray, "n classes"]:
    """Average the members' class probabilities.

    The arithmetic mean keeps rows summing to 1, and no single over-confident member can veto a class.

    Args:
        members: Class probabilities; every row sums to 1. May be memory-mapped: one member at a time is read.
        weights: Non-negative weight of each member; None weighs all alike.

    Returns:
        The pooled probabilities; rows sum to 1.

    Raises:
        PredictionError: If there are no members, or a weight is negative or all are zero.

    Source: Stone, "The Opinion Pool", Ann. Math. Stat. 32 (1961).
    """
    return _pooled(members, weights, np.asarray)


def geometric_vote(members: Float[np.ndarray, "members n classes"]) -> Float[np.ndarray, "n classes"]:
    """Average the members' log-probabilities.

    It is sharper than the arithmetic mean where members agree; a member that is sure of a drawing's not being a class weighs
    heavily.

    Args:
        members: Class probabilities; every row sums to 1, and 0 counts as 1e-7.

    Returns:
        The pooled probabilities; rows sum to 1.

    Raises:
        PredictionError: If there are no members.

    Source: Genest and Zidek, "Combining Probability Distributions", Stat. Sci. 1 (1986).
    """
    return softmax(_pooled(members, None, log_probs))


def rank_vote(members: Float[np.ndarray, "members n classes"]) -> Float[np.ndarray, "n classes"]:
    """Average the classes' ranks within each drawing (Borda count), so that confidence has no influence.

    Args:
        members: Class probabilities; equal ones share the mean of their ranks.

    Returns:
        Mean ranks, 0 for the least probable class, scaled to sum to 1: shares, not probabilities.

    Raises:
        PredictionError: If there are no members.

    Source: Borda, "Mémoire sur les élections au scrutin" (1781).
    """
    classes, ranks = members.shape[2], _pooled(members, None, _ranks)
    return ranks / (classes * (classes - 1) / 2) if classes > 1 else np.ones(ranks.shape)


def hard_vote(
    preds: Integer[np.ndarray, "members n"], num_classes: int, probs: Float[np.ndarray, "n classes"] | None = None
) -> Float[np.ndarray, "n classes"]:
    """Count the members' predicted classes.

    The counts decide, then `probs`, then the lowest class id, and the shares show it: `probs` add half a vote at most, which is
    too little to overrule one.

    Args:
        preds: Class id that each member predicts for each drawing, 0 to `num_classes` - 1.
        num_classes: Number of classes, also of those that no member predicts.
        probs: Mean class probabilities, which decide ties; None leaves ties to the lowest class id, as the reference does.

    Returns:
        Shares of the votes; rows sum to 1.

    Raises:
        PredictionError: If there are no members, or a prediction is no class's id.
    """
    _weights(None, len(preds))
    if preds.size and not 0 <= preds.min() <= preds.max() < num_classes:
        raise PredictionError(
            f"votes: got class ids {preds.min()} to {preds.max()}, expected 0 to {num_classes - 1}. "
            "Give all members the same classes."
        )
    counts, rows = np.zeros((preds.shape[1], num_classes)), np.arange(preds.shape[1])
    for own in preds:
        counts[rows, own] += 1
    if probs is not None:
        counts = _decided(counts, probs)
    shares: np.ndarray = counts / counts.sum(1, keepdims=True)
    return shares


def nested_vote(
    members: Sequence[Float[np.ndarray, "folds n classes"]], within: Ballot, across: Ballot, ties: TieRule
) -> Float[np.ndarray, "n classes"]:
    """Vote over the folds of each model, then over the models, as the reference does.

    The reference's names are WITHIN-ACROSS: `soft-soft` averages probabilities twice; `soft-hard` averages a model's folds and
    counts the models' predictions; `hard-hard` counts the predictions of a model's folds and then the models'.

    Args:
        members: Class probabilities of every fold of every model.
        within: Whether a model's folds are averaged (soft) or counted (hard).
        across: Whether the models are averaged or counted.
        ties: What decides equal counts of a hard vote: the lowest class id (the reference's rule), or the highest mean
            probability of those that vote.

    Returns:
        Class probabilities or shares of votes; rows sum to 1.

    Raises:
        PredictionError: If there are no models or no folds.

    Source: the winning solution of the 2024 ImageNet-Sketch competition.
    """
    _weights(None, len(members))
    if within == across == "hard" and ties == "lowest_id":  # predicted classes are all that the models' vote needs
        return hard_vote(np.stack([hard_preds(folds.argmax(2)) for folds in members]), members[0].shape[2])
    models = np.stack([vote_of_folds(folds, within, ties) for folds in members])
    return vote_of_folds(models, across, ties)


def vote_of_folds(folds: Float[np.ndarray, "folds n classes"], within: Ballot, ties: TieRule) -> Float[np.ndarray, "n classes"]:
    """Pool the folds of one model.

    Args:
        folds: Class probabilities by each fold of one model; rows sum to 1.
        within: Whether the folds are averaged (soft) or counted (hard).
        ties: What decides equal counts of a hard vote.

    Returns:
        Class probabilities or shares of votes; rows sum to 1.

    Raises:
        PredictionError: If there are no folds.
    """
    mean = soft_vote(folds) if within == "soft" or ties == "mean_probability" else None
    if within == "soft":
        assert mean is not None
        return mean
    return hard_vote(folds.argmax(2), folds.shape[2], mean)


def hard_preds(preds: Integer[np.ndarray, "members n"]) -> Int64[np.ndarray, " n"]:
    """Find the class that most members predict, the lowest class id among equals: `hard_vote` without its shares.

    No array has a column per class, so many files are voted over in milliseconds.
    """
    _weights(None, len(preds))
    winners: np.ndarray = preds[0].astype(np.int64)
    most = np.zeros(preds.shape[1], np.int64)
    for own in preds:
        count = np.zeros(preds.shape[1], np.int64)
        for other in preds:
            count += own == other
        better = (count > most) | ((count == most) & (own < winners))
        winners[better], most[better] = own[better], count[better]
    return winners


def log_probs(probs: Float[np.ndarray, "... classes"]) -> Float[np.ndarray, "... classes"]:
    """Take logarithms of probabilities, with 1e-7 in place of 0."""
    logs: np.ndarray = np.log(np.maximum(probs, LEAST_PROBABILITY, dtype=np.float64))
    return logs


def _pooled(
    members: np.ndarray, weights: np.ndarray | None, transform: Callable[[np.ndarray], np.ndarray]
) -> Float[np.ndarray, "n classes"]:
    total = np.zeros(members.shape[1:])
    scaled = _weights(weights, len(members))
    for probs, weight in zip(members, scaled, strict=True):
        if weight:
            total += weight * transform(probs)
    pooled: np.ndarray = total / scaled.sum()
    return pooled


def _weights(weights: np.ndarray | None, members: int) -> Float[np.ndarray, " members"]:
    """Scale weights so that the heaviest is 1: only their ratios matter."""
    if not members:
        raise PredictionError("members: got none, expected one at least. Name the runs or files that vote.")
    if weights is None:
        return np.ones(members)
    values = np.asarray(weights, np.float64)
    if values.shape != (members,) or not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise PredictionError(
            f"weights: got {values.tolist()}, expected {members} numbers of at least 0 that are not all 0. Correct them."
        )
    scaled: np.ndarray = values / values.max()
    return scaled


def _decided(counts: Float[np.ndarray, "n classes"], probs: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "n classes"]:
    """Let probabilities decide between the classes that lead, and order the others."""
    mixed: np.ndarray = counts + TIE_SHARE * probs
    leading = np.where(counts == counts.max(1, keepdims=True), probs, -np.inf)
    winners = (leading >= leading.max(1, keepdims=True) * (1 - TIE_TOLERANCE)).argmax(1)
    beaten = np.flatnonzero(mixed.argmax(1) != winners)  # by rounding: what a tiny gap leaves to add vanishes beside the counts
    mixed[beaten, winners[beaten]] = mixed[beaten].max(1) * (1 + TIE_TOLERANCE)
    return mixed


def _ranks(probs: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "n classes"]:
    """Rank each row from 0, equal values sharing the mean of their ranks."""
    order = np.argsort(probs, axis=1, kind="stable")
    ordered = np.take_along_axis(probs, order, 1)
    places = np.arange(probs.shape[1], dtype=np.float64)
    starts = np.ones(ordered.shape, bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.maximum.accumulate(np.where(starts, places, 0), axis=1)
    ends = np.ones(ordered.shape, bool)
    ends[:, :-1] = starts[:, 1:]
    last = np.minimum.accumulate(np.where(ends, places, np.inf)[:, ::-1], axis=1)[:, ::-1]
    ranks = np.empty(probs.shape)
    np.put_along_axis(ranks, order, (first + last) / 2, 1)
    return ranks
