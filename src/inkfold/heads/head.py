"""Heads, which turn features into class scores. Many heads of one kind lie side by side in one set of tensors.

Each head belongs to one fold and one start. The first axis of a tensor counts heads:

    layers.i.weight (heads, in, out), layers.i.bias (heads, 1, out)    linear, mlp, class_mean; cosine without bias
    norms.i.scale, norms.i.shift (heads, 1, width)                     mlp with norm
    mean, scale (heads, 1, d)                                          scaling by the fold: standardise, blocks
    neighbours (1, n, d), targets (1, 1, n), seen (heads, 1, n)        knn, with classes (1, 1, 1)

`head_probs` needs NumPy alone; `batched` fits the same tensors with PyTorch, `closed_form` computes those without training.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Shaped

from inkfold.config.sections import (
    SCALED_BY_FOLD,
    TRAINED_HEADS,
    Activation,
    HeadKind,
    HeadSettings,
    KnnHeadSettings,
    LinearHeadSettings,
    MlpHeadSettings,
    Norm,
    Scaling,
)
from inkfold.evaluation.predictions import softmax

Tensors = Mapping[str, Shaped[np.ndarray, "heads rows columns"]]

CHUNK_ROWS = 4096
LINEAR, MLP_DEFAULTS, KNN_DEFAULTS = LinearHeadSettings(), MlpHeadSettings(kind="mlp"), KnnHeadSettings(kind="knn")
NORM_EPS = 1e-5
LENGTH_EPS = 1e-12
COSINE_TEMPERATURE = 20.0  # the trained factor of cosines starts here
KNN_TEMPERATURE = 0.07
KNN_COSINES = 1 << 25  # at most so many are in memory at once
KNN_PRIOR = 1e-6  # so that a class without a neighbour keeps a probability above 0


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """A head's kind and shape: the recipe's section `head`, and the scaling of features from its section `train_head`.

    Attributes:
        settings: The recipe's section `head`: kind, hidden layers, activation.
        scaling: How features are scaled before they reach the head.
    """

    settings: HeadSettings = LINEAR
    scaling: Scaling = "none"

    @property
    def kind(self) -> HeadKind:
        """Kind of the head."""
        return self.settings.kind

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the hidden layers; empty unless the head is an mlp."""
        return self.settings.hidden if self.settings.kind == "mlp" else ()

    @property
    def activation(self) -> Activation:
        """Activation function after each hidden layer."""
        return self._mlp.activation

    @property
    def norm(self) -> Norm:
        """Whether layer normalisation stands before each activation."""
        return self._mlp.norm

    @property
    def dropout(self) -> float:
        """Share of each hidden layer's outputs that a training step sets to zero."""
        return self._mlp.dropout

    @property
    def neighbours(self) -> int:
        """How many of the nearest drawings vote in a knn."""
        return (self.settings if self.settings.kind == "knn" else KNN_DEFAULTS).neighbours

    @property
    def _mlp(self) -> MlpHeadSettings:
        """The section of an mlp; of another kind, one of defaults, which decides nothing without hidden layers."""
        return self.settings if self.settings.kind == "mlp" else MLP_DEFAULTS

    def without_dropout(self) -> "HeadSpec":
        """Return the spec with dropout 0: heads that differ in dropout alone are fitted side by side."""
        if self.settings.kind != "mlp":
            return self
        return replace(self, settings=self.settings.model_copy(update={"dropout": 0.0}))

    def key(self) -> dict[str, Any]:
        """Return all that decides how the head predicts, under the names that checkpoints have."""
        return {
            "kind": self.kind,
            "hidden": self.hidden,
            "activation": self.activation,
            "norm": self.norm,
            "scaling": self.scaling,
            "neighbours": self.neighbours,
        }

    def widths(self, num_features: int, num_classes: int) -> list[int]:
        """List the widths of all layers, from the number of features to the number of classes."""
        return [num_features, *self.hidden, num_classes]

    @property
    def is_scaled_by_fold(self) -> bool:
        """Whether features are shifted and scaled by what was measured on the fold's own drawings."""
        return self.scaling in SCALED_BY_FOLD

    @property
    def is_fitted_by_steps(self) -> bool:
        """Whether the head is trained by gradient steps; the other kinds are computed."""
        return self.kind in TRAINED_HEADS


def init_heads(
    spec: HeadSpec, num_features: int, num_classes: int, seeds: Sequence[Sequence[int]]
) -> dict[str, Float32[np.ndarray, "heads rows columns"]]:
    """Draw starting weights as `torch.nn.Linear` does: uniform within 1 / sqrt(inputs).

    Args:
        spec: Kind and shape of the heads; a kind that is fitted by steps.
        num_features: Number of features of a drawing: the first layer's inputs.
        num_classes: Number of classes: the last layer's outputs.
        seeds: Integers at least 0 that seed each head's random numbers; equal ones make equal heads.

    Returns:
        The layers' tensors; of a cosine head also `temperature`, the logarithm of its factor, (heads, 1, 1).
    """
    widths = spec.widths(num_features, num_classes)
    generators = [np.random.Generator(np.random.Philox(np.random.SeedSequence(list(seed)))) for seed in seeds]
    tensors = {}
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        bound = 1 / math.sqrt(inputs)
        for name, rows in (("weight", inputs), ("bias", 1)):
            drawn = [generator.uniform(-bound, bound, (rows, outputs)) for generator in generators]
            tensors[f"layers.{i}.{name}"] = np.stack(drawn).astype(np.float32)
        if spec.norm == "layer" and i < len(spec.hidden):
            tensors[f"norms.{i}.scale"] = np.ones((len(seeds), 1, outputs), np.float32)
            tensors[f"norms.{i}.shift"] = np.zeros((len(seeds), 1, outputs), np.float32)
    if spec.kind == "cosine":
        del tensors["layers.0.bias"]
        tensors["temperature"] = np.full((len(seeds), 1, 1), math.log(COSINE_TEMPERATURE), np.float32)
    return tensors


def start_heads(spec: HeadSpec, fitted: Tensors, seeds: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
    """Draw untrained heads of the same sizes and scaling as fitted ones.

    Args:
        spec: Kind, widths and scaling of the heads; a kind that is fitted by steps.
        fitted: Heads whose sizes and scaling are taken over.
        seeds: Integers at least 0 that seed each head's random numbers; equal ones make equal heads.

    Returns:
        Tensors in the form that `head_probs` predicts with.
    """
    first, last = fitted["layers.0.weight"], fitted[f"layers.{len(spec.hidden)}.weight"]
    drawn: dict[str, np.ndarray] = init_heads(spec, first.shape[1], last.shape[2], seeds)
    if spec.kind == "cosine":
        weight = drawn["layers.0.weight"]
        lengths = np.sqrt((weight**2).sum(1, keepdims=True))
        drawn["layers.0.weight"] = weight / lengths * np.exp(drawn.pop("temperature"))
    return {**drawn, **{name: np.asarray(fitted[name]) for name in ("mean", "scale") if name in fitted}}


def head_probs(
    tensors: Tensors, spec: HeadSpec, features: Float[np.ndarray, "n d"], head: int
) -> Float32[np.ndarray, "n classes"]:
    """Predict the classes of drawings with one head.

    Args:
        tensors: Fitted tensors by name, as `heads.safetensors` holds them; their first axis is the head.
        spec: Kind, widths and scaling of the heads, as they were fitted.
        features: Features of the drawings, not yet scaled.
        head: Number of the head, from 0.

    Returns:
        Class probabilities; rows sum to 1.
    """
    if spec.kind == "knn":
        return _knn_probs(tensors, spec, features, head)
    parts, rows = [], rows_at_once(tensors, spec, head)
    for start in range(0, max(len(features), 1), rows):
        x = features[start : start + rows].astype(np.float32)
        parts.append(_layer_probs(tensors, spec, _scaled(tensors, spec, x, head), head))
    return np.concatenate(parts)


def rows_at_once(tensors: Tensors, spec: HeadSpec, head: int) -> int:
    """Return how many drawings go through a head in one matrix product, which changes the last bit of a few probabilities.

    Args:
        tensors: Fitted tensors by name, as `heads.safetensors` holds them; their first axis is the head.
        spec: Kind, widths and scaling of the heads, as they were fitted.
        head: Number of the head, from 0.

    Returns:
        Number of drawings, at least 1: predicting so many at a time gives the same bits as predicting all at once.
    """
    if spec.kind == "knn":
        return max(1, KNN_COSINES // int(np.count_nonzero(tensors["seen"][head, 0])))
    return CHUNK_ROWS


def mean_probs(
    tensors: Tensors, spec: HeadSpec, features: Float[np.ndarray, "n d"], heads: Sequence[int]
) -> Float32[np.ndarray, "n classes"]:
    """Average the class probabilities of several heads.

    Args:
        tensors: Fitted tensors by name, as `heads.safetensors` holds them; their first axis is the head.
        spec: Kind, widths and scaling of the heads, as they were fitted.
        features: Features of the drawings, not yet scaled.
        heads: Numbers of the heads, from 0; at least one.

    Returns:
        Class probabilities; rows sum to 1.
    """
    total = sum(head_probs(tensors, spec, features, head) for head in heads)
    return np.asarray(total / len(heads), np.float32)


def shape_problem(tensors: Tensors, spec: HeadSpec, count: int, num_classes: int) -> str | None:
    """Find what keeps fitted tensors from predicting, whatever the features.

    Args:
        tensors: Tensors by name, as a file holds them that anybody may have made.
        spec: Kind, widths and scaling of the heads.
        count: Number of heads.
        num_classes: Number of classes.

    Returns:
        What was got, for a message; None where the tensors fit, and for nearest neighbours, whose shapes are their drawings'.
    """
    if spec.kind == "knn":
        return None
    names = [f"layers.{i}.weight" for i in range(len(spec.hidden) + 1)]
    if missing := [name for name in names if name not in tensors]:
        return f"no {missing[0]} among {', '.join(sorted(tensors)[:10])}"
    shapes = [tensors[name].shape for name in names]
    is_chained = all(len(shape) == 3 and shape[0] == count for shape in shapes)
    is_chained = is_chained and all(before[2] == after[1] for before, after in pairwise(shapes))
    if not is_chained or shapes[-1][2] != num_classes:
        return f"layers {' '.join(map(str, shapes))} of {count} heads and {num_classes} classes"
    widths = {"mean": shapes[0][1], "scale": shapes[0][1]}
    for i, shape in enumerate(shapes):
        widths |= dict.fromkeys((f"layers.{i}.bias", f"norms.{i}.scale", f"norms.{i}.shift"), shape[2])
    odd = [name for name, width in widths.items() if name in tensors and tensors[name].shape[-1:] not in ((width,), (1,))]
    odd += [name for name in tensors if tensors[name].ndim and len(tensors[name]) != count]
    odd += [name for name in tensors if tensors[name].dtype.kind != "f" or not np.isfinite(tensors[name]).all()]
    return f"odd tensors {', '.join(sorted({*odd})[:10])}" if odd else None


def unit_length(x: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    """Scale each drawing's features to length 1; rows of zeros stay zeros."""
    lengths = np.sqrt(np.einsum("nd,nd->n", x, x))[:, None]
    scaled: np.ndarray = x / np.maximum(lengths, LENGTH_EPS)
    return scaled


def _scaled(tensors: Tensors, spec: HeadSpec, x: np.ndarray, head: int) -> np.ndarray:
    if spec.is_scaled_by_fold:
        x = (x - tensors["mean"][head]) * tensors["scale"][head]
    return unit_length(x) if spec.scaling == "normalise" or spec.kind in ("cosine", "knn") else x


def _layer_probs(tensors: Tensors, spec: HeadSpec, x: np.ndarray, head: int) -> np.ndarray:
    for i in range(len(spec.hidden) + 1):
        x = x @ tensors[f"layers.{i}.weight"][head]
        if f"layers.{i}.bias" in tensors:
            x += tensors[f"layers.{i}.bias"][head]
        if i < len(spec.hidden):
            if spec.norm == "layer":
                x = _layer_normed(x) * tensors[f"norms.{i}.scale"][head] + tensors[f"norms.{i}.shift"][head]
            x = np.maximum(x, 0) if spec.activation == "relu" else _gelu(x)
    return softmax(x)


def _knn_probs(tensors: Tensors, spec: HeadSpec, features: np.ndarray, head: int) -> np.ndarray:
    seen = np.flatnonzero(tensors["seen"][head, 0])
    neighbours = _scaled(tensors, spec, tensors["neighbours"][0, seen].astype(np.float32), head)
    targets, classes = tensors["targets"][0, 0, seen], int(tensors["classes"][0, 0, 0])
    k, rows = min(spec.neighbours, len(seen)), rows_at_once(tensors, spec, head)
    votes = np.full((len(features), classes), KNN_PRIOR, np.float64)
    for start in range(0, len(features), rows):
        x = _scaled(tensors, spec, features[start : start + rows].astype(np.float32), head)
        cosines = x @ neighbours.T
        nearest = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        weights = np.exp((np.take_along_axis(cosines, nearest, 1) - 1) / KNN_TEMPERATURE)
        places = start + np.arange(len(x))[:, None]
        np.add.at(votes, (places, targets[nearest]), weights / weights.sum(1, keepdims=True))
    probs: np.ndarray = (votes / votes.sum(1, keepdims=True)).astype(np.float32)
    return probs


def _layer_normed(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(1, keepdims=True)
    normed: np.ndarray = centred / np.sqrt((centred**2).mean(1, keepdims=True) + NORM_EPS)
    return normed


def _gelu(x: np.ndarray) -> np.ndarray:
    import torch  # noqa: PLC0415 - NumPy has no erf; training used PyTorch's exact GELU

    return torch.nn.functional.gelu(torch.from_numpy(x)).numpy()
