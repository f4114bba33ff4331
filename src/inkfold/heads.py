"""Heads: what turns features into class scores. Many members of one kind stand side by side in one set of tensors.

A member is one fold's head. Tensor `layers.i.weight` is (members, in, out), `layers.i.bias` (members, 1, out); `mean` and
`scale` (members, 1, d) standardise the features first. `head_probs` needs numpy alone; `training` fits the same tensors with
PyTorch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32

Activation = Literal["relu", "gelu"]
CHUNK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """The kind of head.

    Attributes:
        hidden: Widths of hidden layers; none makes multinomial logistic regression.
        activation: What follows each hidden layer.
    """

    hidden: tuple[int, ...] = ()
    activation: Activation = "relu"

    def widths(self, num_features: int, num_classes: int) -> list[int]:
        """List the widths from features to classes."""
        return [num_features, *self.hidden, num_classes]


def init_members(
    spec: HeadSpec, num_features: int, num_classes: int, seeds: Sequence[Sequence[int]]
) -> dict[str, Float32[np.ndarray, "members rows columns"]]:
    """Draw starting weights as `torch.nn.Linear` does: uniform within 1 / sqrt(inputs).

    Args:
        spec: The kind of head.
        num_features: Inputs.
        num_classes: Outputs.
        seeds: A member's own entropy; equal seeds make equal members.

    Returns:
        The layers' tensors.
    """
    widths = spec.widths(num_features, num_classes)
    generators = [np.random.Generator(np.random.Philox(np.random.SeedSequence(list(seed)))) for seed in seeds]
    tensors = {}
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        bound = 1 / math.sqrt(inputs)
        for name, rows in (("weight", inputs), ("bias", 1)):
            drawn = [generator.uniform(-bound, bound, (rows, outputs)) for generator in generators]
            tensors[f"layers.{i}.{name}"] = np.stack(drawn).astype(np.float32)
    return tensors


def head_probs(
    tensors: Mapping[str, Float32[np.ndarray, "members rows columns"]],
    spec: HeadSpec,
    features: Float[np.ndarray, "n d"],
    member: int,
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
    parts = []
    for start in range(0, max(len(features), 1), CHUNK_ROWS):
        x = features[start : start + CHUNK_ROWS].astype(np.float32)
        if "mean" in tensors:
            x = (x - tensors["mean"][member]) * tensors["scale"][member]
        for i in range(len(spec.hidden) + 1):
            x = x @ tensors[f"layers.{i}.weight"][member] + tensors[f"layers.{i}.bias"][member]
            if i < len(spec.hidden):
                x = np.maximum(x, 0) if spec.activation == "relu" else _gelu(x)
        parts.append(_softmax(x))
    return np.concatenate(parts)


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    probs: np.ndarray = powers / powers.sum(1, keepdims=True)
    return probs


def _gelu(x: np.ndarray) -> np.ndarray:
    import torch  # noqa: PLC0415 - numpy has no erf; PyTorch's exact GELU is the one that was trained with

    return torch.nn.functional.gelu(torch.from_numpy(x)).numpy()
