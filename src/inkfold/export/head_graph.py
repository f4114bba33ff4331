"""Fitted heads as ONNX nodes: `heads.head.head_probs` for all heads at once, and the votes over folds and models."""

from collections.abc import Sequence

import numpy as np

from inkfold.config.sections import Ballot, TieRule
from inkfold.data.class_prior import ClassPrior
from inkfold.ensemble.methods import FittedMethod
from inkfold.ensemble.voting import LEAST_PROBABILITY, TIE_SHARE
from inkfold.export.graph import Graph
from inkfold.heads.head import KNN_PRIOR, KNN_TEMPERATURE, LENGTH_EPS, NORM_EPS, HeadSpec, Tensors

UNSEEN = -4.0  # below every cosine, so far that its weight vanishes


def add_heads(g: Graph, features: str, tensors: Tensors, spec: HeadSpec) -> str:
    """Add the class probabilities of every head, (heads, n, classes), from features, (n, d)."""
    x = _scaled(g, g.op("Unsqueeze", features, g.ints(0)), tensors, spec)
    if spec.kind == "knn":
        return _knn_probs(g, x, tensors, spec)
    for i in range(len(spec.hidden) + 1):
        x = g.op("MatMul", x, _single(g, tensors[f"layers.{i}.weight"]))
        if f"layers.{i}.bias" in tensors:
            x = g.op("Add", x, _single(g, tensors[f"layers.{i}.bias"]))
        if i < len(spec.hidden):
            x = _activated(g, x, tensors, spec, i)
    return g.op("Softmax", x, axis=-1)


def add_fold_means(g: Graph, probs: str, folds: Sequence[Sequence[int]]) -> str:
    """Average each fold's members: (members, n, classes) gives (folds, n, classes)."""
    if [list(members) for members in folds] == [[i] for i in range(len(folds))]:
        return probs
    means = [g.op("ReduceMean", g.op("Gather", probs, g.ints(*members), axis=0), g.ints(0)) for members in folds]
    return g.op("Concat", *means, axis=0)


def add_fold_vote(g: Graph, folds: str, within: Ballot, ties: TieRule) -> str:
    """Let one model's folds vote as `ensemble.voting.vote_of_folds` does: (folds, n, classes) gives (1, n, classes)."""
    return g.op("ReduceMean", folds, g.ints(0)) if within == "soft" else _hard_vote(g, folds, ties)


def add_prior(g: Graph, probs: str, prior: ClassPrior) -> str:
    """Add the correction of class probabilities for a class prior; see `ClassPrior.correct`.

    Args:
        g: Graph that the nodes are added to.
        probs: Name of the class probabilities, (folds, batch, classes).
        prior: How frequent the classes are among the drawings to predict.

    Returns:
        Name of the corrected probabilities, of the same shape.
    """
    corrected = g.op("Mul", probs, _single(g, prior.weights))
    total = g.op("ReduceSum", corrected, g.ints(2))
    is_zero = g.op("Equal", total, g.const(0.0, np.float32))
    shares = g.op("Div", corrected, g.op("Where", is_zero, g.const(1.0, np.float32), total))
    return g.op("Where", is_zero, _single(g, np.array(prior.shares, np.float32)), shares)


def add_pool(g: Graph, members: str, fitted: FittedMethod) -> str:
    """Pool the members, (members, n, classes), as `ensemble.methods.FittedMethod.pool` does: (n, classes)."""
    if fitted.temperatures is not None:
        inverse = (1 / fitted.temperatures).astype(np.float32).reshape(-1, 1, 1)
        members = g.op("Softmax", g.op("Mul", _logs(g, members), g.const(inverse)), axis=-1)
    match fitted.method.kind:
        case "hard":
            pooled = _hard_vote(g, members, fitted.method.ties)
        case "geometric":
            pooled = g.op("Softmax", g.op("ReduceMean", _logs(g, members), g.ints(0)), axis=-1)
        case "rank":
            pooled = _rank_vote(g, members)
        case "stack":
            assert fitted.weights is not None
            scores = _weighted(g, _logs(g, members), fitted.weights)
            if fitted.bias is not None:
                scores = g.op("Add", scores, _single(g, fitted.bias.reshape(1, 1, -1)))
            pooled = g.op("Softmax", scores, axis=-1)
        case _:
            shares = None if fitted.weights is None else fitted.weights / fitted.weights.sum()
            pooled = g.op("ReduceMean", members, g.ints(0)) if shares is None else _weighted(g, members, shares)
    return g.op("Squeeze", pooled, g.ints(0))


def _scaled(g: Graph, x: str, tensors: Tensors, spec: HeadSpec) -> str:
    if spec.is_scaled_by_fold:
        x = g.op("Mul", g.op("Sub", x, _single(g, tensors["mean"])), _single(g, tensors["scale"]))
    if spec.scaling != "normalise" and spec.kind not in ("cosine", "knn"):
        return x
    length = g.op("ReduceL2", x, g.ints(2))
    return g.op("Div", x, g.op("Max", length, g.const(LENGTH_EPS, np.float32)))


def _activated(g: Graph, x: str, tensors: Tensors, spec: HeadSpec, layer: int) -> str:
    if spec.norm == "layer":
        centred = g.op("Sub", x, g.op("ReduceMean", x, g.ints(2)))
        variance = g.op("ReduceMean", g.op("Mul", centred, centred), g.ints(2))
        normed = g.op("Div", centred, g.op("Sqrt", g.op("Add", variance, g.const(NORM_EPS, np.float32))))
        scale, shift = (_single(g, tensors[f"norms.{layer}.{name}"]) for name in ("scale", "shift"))
        x = g.op("Add", g.op("Mul", normed, scale), shift)
    if spec.activation == "relu":
        return g.op("Relu", x)
    erf = g.op("Erf", g.op("Mul", x, g.const(np.sqrt(0.5), np.float32)))
    return g.op("Mul", g.op("Mul", x, g.const(0.5, np.float32)), g.op("Add", erf, g.const(1.0, np.float32)))


def _knn_probs(g: Graph, x: str, tensors: Tensors, spec: HeadSpec) -> str:
    """Weigh the nearest drawings' classes; the drawings' features are stored once, in half precision, for all folds."""
    seen, classes = tensors["seen"].astype(bool), int(tensors["classes"][0, 0, 0])
    nearest, cosines = _nearest(g, x, tensors, spec, seen)
    powers = g.op("Exp", g.op("Mul", g.op("Sub", cosines, g.const(1.0, np.float32)), g.const(1 / KNN_TEMPERATURE, np.float32)))
    weights = g.op("Div", powers, g.op("ReduceSum", powers, g.ints(2)))
    targets = g.op("Gather", g.const(tensors["targets"][0, 0].astype(np.int64)), nearest)
    hot = g.op("OneHot", targets, g.const(classes, np.int64), g.const([0.0, 1.0], np.float32))
    votes = g.op("ReduceSum", g.op("Mul", hot, g.op("Unsqueeze", weights, g.ints(3))), g.ints(2), keepdims=0)
    votes = g.op("Add", votes, g.const(KNN_PRIOR, np.float32))
    return g.op("Div", votes, g.op("ReduceSum", votes, g.ints(2)))


def _nearest(g: Graph, x: str, tensors: Tensors, spec: HeadSpec, seen: np.ndarray) -> tuple[str, str]:
    """Find each head's nearest drawings among those that it was trained on: their numbers and cosines, (heads, n, k).

    The cosine with a scaled neighbour, x . ((y - mean) scale) / length, is computed as (x scale) . y less (x scale) . mean,
    so that heads with different scaling share one matrix of neighbours.
    """
    neighbours, shift = tensors["neighbours"][0], None
    scaled = neighbours.astype(np.float32)[None]
    if spec.is_scaled_by_fold:
        scaled = (scaled - tensors["mean"]) * tensors["scale"]
        x = g.op("Mul", x, _single(g, tensors["scale"]))
        means = np.ascontiguousarray(np.swapaxes(tensors["mean"], 1, 2))
        shift = g.op("MatMul", x, _single(g, means))
    inverse = 1 / np.maximum(np.sqrt((scaled**2).sum(2)), LENGTH_EPS)
    columns = g.op("Cast", g.const(np.ascontiguousarray(neighbours.T)), to=1)
    products = g.op("MatMul", x, columns)
    if shift is not None:
        products = g.op("Sub", products, shift)
    cosines = g.op("Mul", products, _single(g, inverse[:, None]))
    cosines = g.op("Where", g.const(seen), cosines, g.const(UNSEEN, np.float32))
    k = min(spec.neighbours, int(seen.sum(2).max()))
    values, numbers = g.ops("TopK", 2, cosines, g.ints(k), axis=2)
    return numbers, values


def _hard_vote(g: Graph, members: str, ties: TieRule) -> str:
    """Count each class's votes; to settle ties, mean probabilities add half a vote at most."""
    answers = g.op("ArgMax", members, axis=2, keepdims=0)
    classes = g.op("Gather", g.op("Shape", members), g.const(2, np.int64))
    counts = g.op("ReduceSum", g.op("OneHot", answers, classes, g.const([0.0, 1.0], np.float32)), g.ints(0))
    if ties == "mean_probability":
        mean = g.op("ReduceMean", members, g.ints(0))
        counts = g.op("Add", counts, g.op("Mul", mean, g.const(TIE_SHARE, np.float32)))
    return g.op("Div", counts, g.op("ReduceSum", counts, g.ints(2)))


def _rank_vote(g: Graph, members: str) -> str:
    """Average ranks: how many classes are less probable, and half of the others that are equally so."""
    own, others = g.op("Unsqueeze", members, g.ints(3)), g.op("Unsqueeze", members, g.ints(2))
    below, equal = (g.op("Cast", g.op(kind, others, own), to=1) for kind in ("Less", "Equal"))
    ranks = g.op("Add", below, g.op("Mul", equal, g.const(0.5, np.float32)))
    ranks = g.op("Sub", g.op("ReduceSum", ranks, g.ints(3), keepdims=0), g.const(0.5, np.float32))  # it equals itself
    shares = g.op("ReduceMean", ranks, g.ints(0))
    return g.op("Div", shares, g.op("ReduceSum", shares, g.ints(2)))


def _logs(g: Graph, probs: str) -> str:
    return g.op("Log", g.op("Max", probs, g.const(LEAST_PROBABILITY, np.float32)))


def _weighted(g: Graph, members: str, weights: np.ndarray) -> str:
    return g.op("ReduceSum", g.op("Mul", members, _single(g, weights.reshape(-1, 1, 1))), g.ints(0))


def _single(g: Graph, values: np.ndarray) -> str:
    return g.const(values, np.float32)
