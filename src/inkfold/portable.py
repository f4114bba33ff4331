"""A run's network as one safetensors file, for people who use PyTorch without inkfold."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save as to_safetensors

from inkfold.atomic import write_bytes
from inkfold.backbone import build_model
from inkfold.errors import ExportError
from inkfold.inksmall import timm_name
from inkfold.run import Run, head_spec


def write_network(run: Run, about: str, out: Path) -> int:
    """Write backbones and heads.

    Tensors are `backbone.*` in timm's own names, or `backbone0.*`, `backbone1.*` where each fold has its own, and
    `heads.*` with the member first, as `inkfold.heads` describes them.

    Args:
        run: A finished run.
        about: What the file says of itself, JSON.
        out: Replaced when it exists.

    Returns:
        The file's bytes.

    Raises:
        ExportError: If the disk is full, or it can't be written there.
    """
    import torch  # noqa: PLC0415

    seers = run.seers()
    tensors: dict[str, torch.Tensor] = {}
    for number, (extractor, _) in enumerate(seers):
        prefix = f"backbone{number}." if run.is_tuned else "backbone."
        tensors |= {prefix + name: values.contiguous() for name, values in build_model(extractor.backbone).state_dict().items()}
    tensors |= {f"heads.{name}": torch.from_numpy(np.array(values)) for name, values in run.heads.items()}
    info = seers[0][0].backbone
    arguments = {**info.model_args, **({"img_size": info.image_size} if info.resize_embeddings else {})}
    spec = head_spec(run.recipe)
    described: dict[str, Any] = {
        "timm": {"model_name": timm_name(info.name).split(".")[0], **arguments},
        "mean": info.mean,
        "std": info.std,
        "head": {name: getattr(spec, name) for name in ("kind", "hidden", "activation", "norm", "scaling", "neighbours")},
        "folds": run.folds,
    }
    data = to_safetensors(_unshared(tensors), metadata={"inkfold": about, "network": json.dumps(described)})
    try:
        write_bytes(out, data)
    except OSError as error:
        raise ExportError(f"{out}: {error.strerror}. Choose a place that you can write to and that has room.") from None
    return len(data)


def _unshared(tensors: dict[str, Any]) -> dict[str, Any]:
    """Copy what lies in memory of another tensor, which safetensors refuses."""
    seen: set[int] = set()
    own = {}
    for name, values in tensors.items():
        place = values.untyped_storage().data_ptr()
        own[name] = values.clone() if place in seen else values
        seen.add(place)
    return own
