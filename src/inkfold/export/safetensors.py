"""Writes a run's network as one safetensors file, for people who use PyTorch without inkfold."""

import json
from typing import Any

import numpy as np
from safetensors.torch import save as to_safetensors

from inkfold.models.backbone import build_model
from inkfold.models.ink_small import timm_name
from inkfold.pipeline.run import Run, head_spec


def network_bytes(run: Run, about: str) -> bytes:
    """Serialise a run's backbones and heads as a safetensors file.

    Tensors are `backbone.*` in timm's own names, or `backbone0.*`, `backbone1.*` where each fold has its own, and
    `heads.*` with the member first, as `inkfold.heads.head` describes them.

    Args:
        run: A finished run of one model, whose weights are still where it found them.
        about: The file's description as JSON, stored in its metadata.
    """
    import torch  # noqa: PLC0415

    seers = run.extractors()
    tensors: dict[str, torch.Tensor] = {}
    for number, (extractor, _) in enumerate(seers):
        prefix = f"backbone{number}." if run.is_finetuned else "backbone."
        tensors |= {prefix + name: values.contiguous() for name, values in build_model(extractor.backbone).state_dict().items()}
    tensors |= {f"heads.{name}": torch.from_numpy(np.array(values)) for name, values in run.heads.items()}
    info = seers[0][0].backbone
    arguments = {**info.model_args, **({"img_size": info.image_size} if info.resize_embeddings else {})}
    spec = head_spec(run.recipe)
    described: dict[str, Any] = {
        "timm": {"model_name": timm_name(info.name).split(".")[0], **arguments},
        **({} if info.features == "last" else {"features": info.features}),
        "mean": info.mean,
        "std": info.std,
        "head": {name: getattr(spec, name) for name in ("kind", "hidden", "activation", "norm", "scaling", "neighbours")},
        "folds": run.folds,
    }
    return to_safetensors(_unshared(tensors), metadata={"inkfold": about, "network": json.dumps(described)})


def _unshared(tensors: dict[str, Any]) -> dict[str, Any]:
    """Copy tensors that share their memory with another one, which safetensors refuses."""
    seen: set[int] = set()
    own = {}
    for name, values in tensors.items():
        place = values.untyped_storage().data_ptr()
        own[name] = values.clone() if place in seen else values
        seen.add(place)
    return own
