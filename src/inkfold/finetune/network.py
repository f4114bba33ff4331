"""A backbone and a head as one PyTorch network: which parts of it are trained, at which rates, and what training changed.

Changes are named as in the backbone itself, with LoRA merged, so that a trained network is its backbone's weights plus one
file, however it was trained.
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Shaped

from inkfold.config.sections import FinetuneSettings
from inkfold.errors import RecipeError, WeightsError
from inkfold.heads.head import LENGTH_EPS, NORM_EPS, HeadSpec
from inkfold.models.backbone import build_model
from inkfold.models.layers import features_of
from inkfold.models.weights import BackboneInfo

Tensors = Mapping[str, torch.Tensor]


class HeadModule(torch.nn.Module):
    """A head that is trained by steps, as a PyTorch module.

    Args:
        spec: The head's kind, widths, activation and scaling.
        tensors: Tensors in the form that `heads.head_probs` predicts with.
        head: Number of the head among them, from 0.
        dropout: Share of each hidden layer's outputs that a training step sets to zero, in 0..1.
    """

    mean: torch.Tensor | None
    scale: torch.Tensor | None

    def __init__(
        self, spec: HeadSpec, tensors: Mapping[str, Shaped[np.ndarray, "..."]], head: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.spec, self.dropout = spec, dropout
        own = {name: torch.from_numpy(np.array(values[head])) for name, values in tensors.items()}
        for name in ("mean", "scale"):
            self.register_buffer(name, own.pop(name, None))
        if spec.kind == "cosine":  # in a fitted head the directions have the factor's length
            factor = own["layers.0.weight"].norm(dim=0).mean()
            own["layers.0.weight"] = own["layers.0.weight"] / factor
            own["temperature"] = factor.log().view(1, 1)
        self.values = torch.nn.ParameterDict(
            {name.replace(".", "_"): torch.nn.Parameter(values.contiguous()) for name, values in own.items()}
        )

    def forward(self, x: Float32[torch.Tensor, "n d"]) -> Float32[torch.Tensor, "n classes"]:
        """Compute class scores of features."""
        if self.mean is not None and self.scale is not None:
            x = (x - self.mean) * self.scale
        if self.spec.scaling == "normalise" or self.spec.kind == "cosine":
            x = torch.nn.functional.normalize(x, dim=-1, eps=LENGTH_EPS)
        for i in range(len(self.spec.hidden) + 1):
            x = x @ self._weight(i)
            if f"layers_{i}_bias" in self.values:
                x = x + self.values[f"layers_{i}_bias"]
            if i < len(self.spec.hidden):
                x = self._activated(x, i)
        return x

    def tensors(self) -> dict[str, Float32[np.ndarray, "1 rows columns"]]:
        """Copy the head in the form that `heads.head_probs` predicts with, with a first axis of 1."""
        own = {name.replace("_", "."): values for name, values in self.values.items() if name != "temperature"}
        if self.spec.kind == "cosine":
            own["layers.0.weight"] = self._weight(0)
        own |= {name: values for name, values in self.named_buffers() if values is not None}
        return {name: values.detach()[None].float().cpu().numpy().copy() for name, values in own.items()}

    def _weight(self, layer: int) -> torch.Tensor:
        weight: torch.Tensor = self.values[f"layers_{layer}_weight"]
        if self.spec.kind == "cosine":
            temperature: torch.Tensor = self.values["temperature"]
            return torch.nn.functional.normalize(weight, dim=0, eps=LENGTH_EPS) * temperature.exp()
        return weight

    def _activated(self, x: torch.Tensor, layer: int) -> torch.Tensor:
        if self.spec.norm == "layer":
            x = torch.nn.functional.layer_norm(x, x.shape[-1:], eps=NORM_EPS)
            x = x * self.values[f"norms_{layer}_scale"] + self.values[f"norms_{layer}_shift"]
        x = torch.relu(x) if self.spec.activation == "relu" else torch.nn.functional.gelu(x)
        dropped: torch.Tensor = torch.nn.functional.dropout(x, self.dropout, self.training)
        return dropped


class Network(torch.nn.Module):
    """A backbone with a head on it.

    Args:
        info: The backbone's name, its weights and the normalisation of its input.
        head: Turns the backbone's features into class scores.
        settings: Which part of the backbone is trained; None freezes all of it.
        seed: Seed of LoRA's first matrices; its second ones start at zero.

    Raises:
        WeightsError: If the weights aren't this model's.
        RecipeError: If the model can't be built, or its part that the settings name can't be trained.
    """

    def __init__(self, info: BackboneInfo, head: HeadModule, settings: FinetuneSettings | None = None, seed: int = 0) -> None:
        super().__init__()
        self.info, self.head = info, head
        self.backbone = build_model(info) if settings is None else trainable_backbone(info, settings, seed)

    def forward(
        self, images: Float32[torch.Tensor, "n channels size size"]
    ) -> tuple[Float32[torch.Tensor, "n classes"], Float32[torch.Tensor, "n d"]]:
        """Compute class scores of normalised drawings, and the features that the scores come from."""
        features = features_of(self.backbone, images, self.info.features).float()
        with torch.autocast(images.device.type, enabled=False):
            scores: torch.Tensor = self.head(features)
        return scores, features

    def train(self, mode: bool = True) -> "Network":
        """Set the mode; frozen modules stay in evaluation mode, so that their statistics don't move and they drop nothing."""
        super().train(mode)
        if mode:
            for module in self.backbone.modules():
                if any(True for _ in module.parameters()) and not any(values.requires_grad for values in module.parameters()):
                    module.eval()
        return self

    def trained_tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors that training changes, by their names in the network: parameters and batch norms' statistics."""
        trained = {name: values.detach() for name, values in self.named_parameters() if values.requires_grad}
        statistics = {
            f"{prefix}.{name}": values
            for prefix, module in self.named_modules()
            if any(values.requires_grad for values in module.parameters(recurse=False))
            for name, values in module.named_buffers(recurse=False)
            if name not in module._non_persistent_buffers_set
        }
        return {**trained, **statistics}

    def changes(self) -> dict[str, torch.Tensor]:
        """Return what training changes of the backbone, under the backbone's own names, with LoRA merged."""
        tensors = self.trained_tensors().items()
        own = {name.removeprefix("backbone."): values for name, values in tensors if name.startswith("backbone.")}
        return {**{name: values for name, values in own.items() if ".lora_" not in name}, **dict(_merged(self.backbone))}

    def parameter_groups(self, weight_decay: float, layer_decay: float, head_lr_factor: float) -> list[dict[str, Any]]:
        """Group the trained parameters by learning rate and weight decay, in an order that depends on the network alone.

        Args:
            weight_decay: Weight decay of matrices and kernels, at least 0; norms and biases have none.
            layer_decay: Factor of the learning rate from each layer to the one before it, in 0..1.
            head_lr_factor: Factor of the learning rate for the head, above 0.

        Returns:
            Parameter groups of PyTorch's optimisers, each with its factor of the learning rate as `lr_scale`.
        """
        from timm.optim import param_groups_layer_decay  # noqa: PLC0415 - seconds

        no_weight_decay: Any = getattr(self.backbone, "no_weight_decay", None)
        spared = no_weight_decay() if no_weight_decay else ()
        groups: list[dict[str, Any]] = param_groups_layer_decay(
            self.backbone, weight_decay, no_weight_decay_list=spared, layer_decay=layer_decay
        )
        values = dict(self.head.named_parameters())
        for decayed in (True, False):
            own = [parameter for name, parameter in values.items() if name.endswith("_weight") == decayed]
            if own:
                decay = weight_decay if decayed else 0.0
                groups.append({"params": own, "weight_decay": decay, "lr_scale": head_lr_factor})
        return groups


def interpolated(start: Tensors, end: Tensors, share: float) -> dict[str, torch.Tensor]:
    """Interpolate between two sets of weights.

    Args:
        start: Weights before training; has all names of `end`.
        end: Weights after training, by the names that `start` has.
        share: Share of the way, in 0..1: 0 is the start, 1 the end.

    Returns:
        The weights by name; whole-number tensors, such as counters, are the end's.

    Source: Wortsman et al., "WiSE-FT", arXiv 2109.01903.
    """
    return {
        name: torch.lerp(start[name].to(values.device, values.dtype), values, share) if values.is_floating_point() else values
        for name, values in end.items()
    }


def pretrained_values(info: BackboneInfo, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """Load the named tensors of a backbone as they were before training."""
    own = build_model(info).state_dict()
    return {name: own[name] for name in names}


def trainable_backbone(info: BackboneInfo, settings: FinetuneSettings, seed: int = 0) -> torch.nn.Module:
    """Build a backbone of which a part is trained.

    Args:
        info: The backbone's name, its weights and the normalisation of its input.
        settings: Which part is trained, and the share of residual branches that a step leaves out.
        seed: Seed of LoRA's first matrices, at least 0; used by the part `lora` only.

    Returns:
        The model; all parameters outside of that part are frozen.

    Raises:
        WeightsError: If the weights aren't this model's.
        RecipeError: If the model can't be built, or the part can't be trained.
    """
    model = build_model(info, settings.drop_path)
    match settings.part:
        case "all":
            model.requires_grad_(True)
        case "last_blocks":
            for name in _last_blocks(model, info.name, settings.blocks):
                model.get_parameter(name).requires_grad_(True)
        case "lora":
            model = _with_additions(model, info, settings, seed)
    return model


def recompute_activations(model: torch.nn.Module, name: str) -> None:
    """Make a model compute activations a second time for the backward pass instead of keeping them.

    Args:
        model: A model that timm built; it is changed in place.
        name: The backbone's name, for the message.

    Raises:
        RecipeError: If timm can't do so with this model.
    """
    switchable: Any = model
    try:
        switchable.set_grad_checkpointing(True)
    except (AssertionError, AttributeError):  # timm refuses, or the model has no such method
        raise RecipeError(f"finetune.checkpointing: timm can't do so with '{name}'. Take a smaller micro_batch.") from None


def _last_blocks(model: torch.nn.Module, model_name: str, count: int) -> list[str]:
    """List the parameters of the last blocks and of all that follows them; a group of norms alone is no block."""
    from timm.models import group_parameters  # noqa: PLC0415 - seconds

    matcher: Any = getattr(model, "group_matcher", None)
    if matcher is None:
        raise RecipeError(f"finetune.part: timm doesn't know the blocks of '{model_name}'. Take lora or all.")
    groups: dict[Any, list[str]] = group_parameters(model, matcher(coarse=False))
    names: list[str] = []
    for key in sorted(groups, reverse=True):
        if count == 0:
            break
        names += groups[key]
        count -= any(model.get_parameter(name).ndim > 1 for name in groups[key])
    return names


def _with_additions(model: torch.nn.Module, info: BackboneInfo, settings: FinetuneSettings, seed: int) -> torch.nn.Module:
    """Add low-rank matrices to every linear layer and every ungrouped convolution but the first.

    Layers with more than that, such as convolutions that standardise their weights, are left out: they couldn't be merged.
    """
    from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415 - an extra, and seconds
    from timm.layers import Conv2dSame  # noqa: PLC0415 - seconds

    names = [
        name
        for name, module in model.named_modules()
        if type(module) is torch.nn.Linear or (type(module) in (torch.nn.Conv2d, Conv2dSame) and module.groups == 1)
    ][1:]
    modules: Iterable[Any] = model.modules()
    for module in modules:
        if hasattr(module, "qkv_bias_separate"):  # else timm uses the layer's own weights and bypasses the additions
            module.qkv_bias_separate = True
    if not names:
        raise RecipeError(f"finetune.part: '{info.name}' has no layer that LoRA can add to. Take last_blocks or all.")
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        target_modules=names,
        lora_dropout=0.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        added: torch.nn.Module = inject_adapter_in_model(config, model)
    for name, values in added.named_parameters():
        values.requires_grad_(".lora_" in name)
    return added


def _merged(model: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Return weights with LoRA's additions merged; empty without LoRA."""
    return [
        (f"{name}.weight", (module.base_layer.weight + module.get_delta_weight("default")).detach())
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    ]


def check_trainable(info: BackboneInfo, settings: FinetuneSettings) -> None:
    """Check that a backbone can be trained, by a step on PyTorch's `meta` device, where tensors have shapes alone.

    Args:
        info: The resolved backbone; its weights aren't read.
        settings: Which part is to be trained, and whether activations are to be computed twice.

    Raises:
        RecipeError: If the model can't be built, or the part can't be trained. Models that can't run on `meta` pass this check,
            and raise only when they are trained.
    """
    with torch.device("meta"), contextlib.suppress(WeightsError, RuntimeError):  # NotImplementedError is a RuntimeError
        model = trainable_backbone(replace(info, weights_file=None, changes_file=None), settings)
        if settings.checkpointing:
            recompute_activations(model, info.name)
        images = torch.empty(2, len(info.mean), info.image_size, info.image_size)
        features_of(model.train(), images, info.features).float().sum().backward()  # type: ignore[no-untyped-call]
        idle = [name for name, values in model.named_parameters() if ".lora_" in name and values.grad is None]
        if idle:
            raise RecipeError(
                f"finetune.part: {len(idle)} of LoRA's additions to '{info.name}' would have no effect ({idle[0]} is one). "
                "Take last_blocks or all."
            )
