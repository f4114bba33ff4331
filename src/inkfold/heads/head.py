"""Heads: what turns features into class scores. Many members of one kind stand side by side in one set of tensors.

A member is one head: of one fold and one start. Tensors have the member first:

    layers.i.weight (members, in, out), layers.i.bias (members, 1, out)    linear, mlp, class_mean; cosine without bias
    norms.i.scale, norms.i.shift (members, 1, width)                       mlp with norm
    mean, scale (members, 1, d)                                            standardised features
    neighbours (1, n, d), targets (1, 1, n), seen (members, 1, n)          knn, with classes (1, 1, 1)

`head_probs` needs NumPy alone; `batched` fits the same tensors with PyTorch, `closed_form` computes those that need no steps.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Shaped

from inkfold.config.sections import (
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

Tensors = Mapping[str, Shaped[np.ndarray, "members rows columns"]]

CHUNK_ROWS = 4096
LINEAR, MLP_DEFAULTS, KNN_DEFAULTS = LinearHeadSettings(), MlpHeadSettings(kind="mlp"), KnnHeadSettings(kind="knn")
NORM_EPS = 1e-5
LENGTH_EPS = 1e-12
COSINE_TEMPERATURE = 20.0  # where the learnt factor of cosines starts
KNN_TEMPERATURE = 0.07
KNN_COSINES = 1 << 25  # that are held at once
KNN_PRIOR = 1e-6  # so that a class without a neighbour keeps a probability above 0


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """A head's kind and shape: the recipe's section `head` with the scaling of features, which is the section `train_head`'s.

    Attributes:
        settings: The section.
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
        """Widths of the hidden layers; none but for an mlp."""
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
        """How many drawings a knn takes into account."""
        return (self.settings if self.settings.kind == "knn" else KNN_DEFAULTS).neighbours

    @property
    def _mlp(self) -> MlpHeadSettings:
        """The section of an mlp; of another kind, one of defaults, which decides nothing without hidden layers."""
        return self.settings if self.settings.kind == "mlp" else MLP_DEFAULTS

    def without_dropout(self) -> "HeadSpec":
        """Give the same shape for heads that differ in their dropout alone, which train side by side."""
        if self.settings.kind != "mlp":
            return self
        return replace(self, settings=self.settings.model_copy(update={"dropout": 0.0}))

    def key(self) -> dict[str, Any]:
        """Name all that decides how the head predicts, under the names that checkpoints have."""
        return {
            "kind": self.kind,
            "hidden": self.hidden,
            "activation": self.activation,
            "norm": self.norm,
            "scaling": self.scaling,
            "neighbours": self.neighbours,
        }

    def widths(self, num_features: int, num_classes: int) -> list[int]:
        """List the widths from features to classes."""
        return [num_features, *self.hidden, num_classes]

    @property
    def is_fitted_by_steps(self) -> bool:
        """Whether it is trained by gradient steps; the others are computed."""
        return self.kind in TRAINED_HEADS


def init_heads(
    spec: HeadSpec, num_features: int, num_classes: int, seeds: Sequence[Sequence[int]]
) -> dict[str, Float32[np.ndarray, "members rows columns"]]:
    """Draw starting weights as `torch.nn.Linear` does: uniform within 1 / sqrt(inputs).

    Args:
        spec: A kind that is fitted by steps.
        num_features: Inputs.
        num_classes: Outputs.
        seeds: A member's own entropy; equal seeds make equal members.

    Returns:
        The layers' tensors; a cosine head's factor as `temperature`, its logarithm, (members, 1, 1).
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
    """Draw heads of the same sizes and scaling as fitted ones, as `head_probs` takes them.

    Args:
        spec: Their kind.
        fitted: Heads whose scaling is taken.
        seeds: A member's own entropy.

    Returns:
        Heads that know nothing.
    """
    first, last = fitted["layers.0.weight"], fitted[f"layers.{len(spec.hidden)}.weight"]
    drawn: dict[str, np.ndarray] = init_heads(spec, first.shape[1], last.shape[2], seeds)
    if spec.kind == "cosine":
        weight = drawn["layers.0.weight"]
        lengths = np.sqrt((weight**2).sum(1, keepdims=True))
        drawn["layers.0.weight"] = weight / lengths * np.exp(drawn.pop("temperature"))
    return {**drawn, **{name: np.asarray(fitted[name]) for name in ("mean", "scale") if name in fitted}}


def head_probs(
    tensors: Tensors, spec: HeadSpec, features: Float[np.ndarray, "n d"], member: int
) -> Float32[np.ndarray, "n classes"]:
    """Predict with one member.

    Args:
        tensors: Fitted heads.
        spec: Their kind.
        features: Of the drawings.
        member: Which head.

    Returns:
        Class probabilities; rows sum to 1.
    """
    if spec.kind == "knn":
        return _knn_probs(tensors, spec, features, member)
    parts, rows = [], rows_at_once(tensors, spec, member)
    for start in range(0, max(len(features), 1), rows):
        x = features[start : start + rows].astype(np.float32)
        parts.append(_layer_probs(tensors, spec, _scaled(tensors, spec, x, member), member))
    return np.concatenate(parts)


def rows_at_once(tensors: Tensors, spec: HeadSpec, member: int) -> int:
    """Say how many drawings go through a head in one matrix product, which changes the last bit of a few probabilities.

    Args:
        tensors: Fitted heads.
        spec: Their kind.
        member: Which head.

    Returns:
        Rows: predicting so many at a time gives the same bits as predicting all at once.
    """
    if spec.kind == "knn":
        return max(1, KNN_COSINES // int(np.count_nonzero(tensors["seen"][member, 0])))
    return CHUNK_ROWS


def mean_probs(
    tensors: Tensors, spec: HeadSpec, features: Float[np.ndarray, "n d"], members: Sequence[int]
) -> Float32[np.ndarray, "n classes"]:
    """Predict with several members, and average."""
    total = sum(head_probs(tensors, spec, features, member) for member in members)
    return np.asarray(total / len(members), np.float32)


def unit_length(x: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    """Scale rows to length 1; rows of zeros stay."""
    lengths = np.sqrt(np.einsum("nd,nd->n", x, x))[:, None]
    scaled: np.ndarray = x / np.maximum(lengths, LENGTH_EPS)
    return scaled


def _scaled(tensors: Tensors, spec: HeadSpec, x: np.ndarray, member: int) -> np.ndarray:
    if spec.scaling == "standardise":
        x = (x - tensors["mean"][member]) * tensors["scale"][member]
    return unit_length(x) if spec.scaling == "normalise" or spec.kind in ("cosine", "knn") else x


def _layer_probs(tensors: Tensors, spec: HeadSpec, x: np.ndarray, member: int) -> np.ndarray:
    for i in range(len(spec.hidden) + 1):
        x = x @ tensors[f"layers.{i}.weight"][member]
        if f"layers.{i}.bias" in tensors:
            x += tensors[f"layers.{i}.bias"][member]
        if i < len(spec.hidden):
            if spec.norm == "layer":
                x = _layer_normed(x) * tensors[f"norms.{i}.scale"][member] + tensors[f"norms.{i}.shift"][member]
            x = np.maximum(x, 0) if spec.activation == "relu" else _gelu(x)
    return softmax(x)


def _knn_probs(tensors: Tensors, spec: HeadSpec, features: np.ndarray, member: int) -> np.ndarray:
    seen = np.flatnonzero(tensors["seen"][member, 0])
    neighbours = _scaled(tensors, spec, tensors["neighbours"][0, seen].astype(np.float32), member)
    targets, classes = tensors["targets"][0, 0, seen], int(tensors["classes"][0, 0, 0])
    k, rows = min(spec.neighbours, len(seen)), rows_at_once(tensors, spec, member)
    votes = np.full((len(features), classes), KNN_PRIOR, np.float64)
    for start in range(0, len(features), rows):
        x = _scaled(tensors, spec, features[start : start + rows].astype(np.float32), member)
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
    import torch  # noqa: PLC0415 - numpy has no erf; PyTorch's exact GELU is the one that was trained with

    return torch.nn.functional.gelu(torch.from_numpy(x)).numpy()
