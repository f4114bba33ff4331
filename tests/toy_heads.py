import dataclasses
from typing import get_args

import numpy as np
import torch

from inkfold.config import sections
from inkfold.heads.closed_form import compute_heads, fold_scaling
from inkfold.heads.head import HeadSpec, init_heads

HEADS = {get_args(section.model_fields["kind"].annotation)[0]: section for section in get_args(sections.HeadSettings)}
SCHEDULES = {
    "step": sections.StepSchedule,
    "cosine": sections.CosineSchedule,
    "one_cycle": sections.OneCycleSchedule,
    "constant": sections.ConstantSchedule,
}


def head_spec(kind="linear", hidden=(), activation="relu", norm="none", scaling="none", **values):
    """A head of a kind, by what its section has."""
    values |= {"hidden": hidden, "activation": activation, "norm": norm} if kind == "mlp" else {}
    return HeadSpec(HEADS[kind](kind=kind, **values), scaling)


def schedule_of(kind, **steps):
    return SCHEDULES[kind](kind=kind, **(steps if kind == "step" else {}))


def settings_of(epochs=20, schedule="cosine", every=10, gamma=0.1, **values):
    """How a head is trained, also by values that no recipe may have."""
    changes = {"epochs": epochs, "schedule": schedule_of(schedule, every=every, gamma=gamma), "precision": "float32", **values}
    return sections.TrainHeadSettings().model_copy(update=changes)


def replace(value, **changes):
    """A value with other fields; those of a head's section are changed there."""
    if not dataclasses.is_dataclass(value):
        return value.model_copy(update=changes)
    if isinstance(value, HeadSpec) and (inner := {name: changes.pop(name) for name in {*changes} - {"scaling", "settings"}}):
        changes["settings"] = value.settings.model_copy(update=inner)
    return dataclasses.replace(value, **changes)


LINEAR, COSINE, CLASS_MEAN, KNN = head_spec(), head_spec("cosine"), head_spec("class_mean"), head_spec("knn", neighbours=5)
MLPS = [
    head_spec("mlp", (7,)),
    head_spec("mlp", (7, 4), "gelu"),
    head_spec("mlp", (7,), norm="layer"),
    head_spec("mlp", (7, 4), "gelu", "layer"),
]
SCALINGS = ["none", "standardise", "normalise"]


STEPPED = [LINEAR, *MLPS, *(head_spec(kind) for kind in sections.TRAINED_HEADS if kind not in ("linear", "mlp"))]
COMPUTED = [KNN if kind == "knn" else head_spec(kind) for kind in HEADS if kind not in sections.TRAINED_HEADS]
EVERY_KIND = [*STEPPED, *COMPUTED]


N, D, CLASSES, FOLDS = 60, 5, 3, 3


class Cosine(torch.nn.Module):
    """The angle to each class's direction, times a factor whose logarithm is trained."""

    def __init__(self, weight, log_factor):
        super().__init__()
        self.weight, self.log_factor = torch.nn.Parameter(weight), torch.nn.Parameter(log_factor)

    def forward(self, x):
        return torch.cosine_similarity(x[:, None], self.weight[None], dim=2) * self.log_factor.exp()


def plain_model(spec, tensors, head):
    """A head that was drawn, as a plain PyTorch model."""
    drawn = {name: torch.from_numpy(values[head].copy()) for name, values in tensors.items()}
    if spec.kind == "cosine":
        return Cosine(drawn["layers.0.weight"].T.contiguous(), drawn["temperature"])
    layers = []
    for i in range(len(spec.hidden) + 1):
        weight = drawn[f"layers.{i}.weight"].T.contiguous()
        layer = torch.nn.Linear(*weight.T.shape)
        layer.weight.data, layer.bias.data = weight, drawn[f"layers.{i}.bias"][0]
        layers.append(layer)
        if i < len(spec.hidden):
            layers += [torch.nn.LayerNorm(len(weight))] * (spec.norm == "layer")
            layers.append(torch.nn.ReLU() if spec.activation == "relu" else torch.nn.GELU())
    return torch.nn.Sequential(*layers)


def as_fitted(spec, tensors):
    """Drawn tensors in the form that heads have once they are fitted."""
    if spec.kind != "cosine":
        return tensors
    weight = tensors["layers.0.weight"]
    return {"layers.0.weight": weight / np.linalg.norm(weight, axis=1, keepdims=True) * np.exp(tensors["temperature"])}


def scaled_by_torch(spec, features, own):
    """A head's features as PyTorch would scale them."""
    x, own = torch.from_numpy(features).float(), torch.from_numpy(own)
    if spec.scaling == "standardise":
        return (x - x[own].mean(0)) / x[own].std(0, correction=0)
    return torch.nn.functional.normalize(x) if spec.scaling == "normalise" else x


def toy(separation=1.0):
    generator = np.random.default_rng(0)
    targets = generator.permutation(np.arange(N) % CLASSES)
    features = (generator.normal(0, 1, (N, D)) + np.eye(CLASSES, D)[targets] * separation + 0.5).astype(np.float16)
    fold = generator.permutation(np.arange(N) % FOLDS)
    return features, targets, np.stack([fold != i for i in range(FOLDS)])


def heads_of(spec):
    """One head per fold: computed, or as it was drawn."""
    features, targets, folds = toy()
    if not spec.is_fitted_by_steps:
        return compute_heads(spec, features, targets, folds, CLASSES)
    drawn = as_fitted(spec, init_heads(spec, D, CLASSES, [(1, i) for i in range(FOLDS)]))
    return {**drawn, **(fold_scaling(features, folds) if spec.scaling == "standardise" else {})}


def unseen(n=20, seed=1):
    return np.random.default_rng(seed).normal(0.5, 2, (n, D)).astype(np.float16)
