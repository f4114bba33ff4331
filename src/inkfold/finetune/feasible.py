"""Finds out before drawings are decoded how a backbone can't be trained: it is built without memory, and gone through once."""

import contextlib
from dataclasses import replace

import torch

from inkfold.errors import RecipeError, WeightsError
from inkfold.finetune.network import TrainedPart, recompute_activations, trainable_backbone
from inkfold.models.weights import BackboneInfo


def check_trainable(info: BackboneInfo, part: TrainedPart, *, checkpointing: bool) -> None:
    """Build a backbone on PyTorch's `meta` device, where tensors have shapes alone, and go forwards and backwards.

    Args:
        info: The resolved backbone; its weights aren't read.
        part: Which part is to be trained.
        checkpointing: Whether activations are to be computed twice.

    Raises:
        RecipeError: If the model can't be built, or part of it can't be trained as asked. A model that `meta` is no place for
            passes: what is wrong with it is told when it is trained.
    """
    with torch.device("meta"), contextlib.suppress(WeightsError, RuntimeError):  # NotImplementedError among the latter
        model = trainable_backbone(replace(info, weights_file=None, changes_file=None), part)
        if checkpointing:
            recompute_activations(model, info.name)
        images = torch.empty(2, len(info.mean), info.image_size, info.image_size)
        model.train()(images).float().sum().backward()
        idle = [name for name, values in model.named_parameters() if ".lora_" in name and values.grad is None]
        if idle:
            raise RecipeError(
                f"backbone.train: {len(idle)} of LoRA's additions to '{info.name}' would have no effect ({idle[0]} is one). "
                "Take last_blocks or all."
            )
