"""The pooled outputs of a network's layers beside its last vector, in one forward pass: `backbone.features: layers`.

Networks that narrow the drawing stage by stage give the mean over the drawing of each stage's output. Those whose blocks all
see the same patches, such as vision transformers, give the class token and the mean of the patches' tokens of the last blocks,
with the network's last norm on them. An output that the last vector is pooled from, and would stand there twice, is left out.

Source for transformers: Ciernik et al., "Beyond the Final Layer", arXiv 2601.09322.
"""

import inspect
from typing import Any

import torch
from jaxtyping import Float, Float32

from inkfold.errors import RecipeError

LAST, LAYERS = "last", "layers"
LAST_BLOCKS = 4
HALF_MAX = 65504.0  # of float16, in which features are kept: a few of a transformer's values are huge before its last norm


def features_of(
    model: torch.nn.Module, images: Float[torch.Tensor, "n channels height width"], kind: str
) -> Float[torch.Tensor, "n d"]:
    """Compute the features of normalised drawings.

    Args:
        model: timm's model without a classifier.
        images: The drawings, normalised for the model.
        kind: `last`: the vector that a classifier would get; `layers`: that and the pooled outputs of the model's layers.

    Returns:
        The features; those of `layers` in float32.
    """
    if kind == LAST:
        last: torch.Tensor = model(images)
        return last
    return torch.cat(layer_blocks(model, images), dim=1)


def layer_blocks(
    model: torch.nn.Module, images: Float[torch.Tensor, "n channels height width"]
) -> list[Float32[torch.Tensor, "n width"]]:
    """Compute the last vector of drawings and the pooled outputs of the layers before it, in one forward pass.

    Args:
        model: timm's model without a classifier.
        images: The drawings, normalised for the model.

    Returns:
        The last vector, then a block for each stage, or two for each transformer block: class token and mean of the patches'.
    """
    timm_model: Any = model
    options, prefixed = _options(timm_model)
    final, outputs = timm_model.forward_intermediates(images, **options)
    last = timm_model.forward_head(final).float()
    if "indices" in options:
        blocks = _token_blocks(outputs, str(getattr(timm_model, "global_pool", "")), prefixed=prefixed)
    else:
        means = [output.float().mean((2, 3)) for output in outputs]
        blocks = means[:-1] if means[-1].shape == last.shape else means
    return [last, *(block.clamp(-HALF_MAX, HALF_MAX) for block in blocks)]


def _options(model: Any) -> tuple[dict[str, Any], bool]:
    """Choose the arguments of timm's `forward_intermediates`, and say whether it returns class tokens."""
    known = inspect.signature(model.forward_intermediates).parameters
    if len({stage["reduction"] for stage in _stages(model)}) > 1:
        return {}, False
    prefixed = "return_prefix_tokens" in known and getattr(model, "cls_token", None) is not None
    options = {"indices": min(LAST_BLOCKS, len(_stages(model)))}
    options |= {"norm": True} if "norm" in known else {}
    return options | ({"return_prefix_tokens": True} if prefixed else {}), prefixed


def _stages(model: Any) -> list[dict[str, Any]]:
    """Return what timm says of the stages: their widths and by how much each reduces the drawing's sides."""
    about = model.feature_info
    return list(about.get_dicts() if hasattr(about, "get_dicts") else about)


def _token_blocks(outputs: list[Any], pool: str, *, prefixed: bool) -> list[torch.Tensor]:
    blocks = []
    for output in outputs:
        patches, prefix = output if prefixed else (output, None)
        mean = patches.float().mean((2, 3))
        tokens = [mean] if prefix is None else [prefix[:, 0].float(), mean]
        if output is outputs[-1]:  # what the last vector is, but for a norm
            tokens = tokens[1:] if prefix is not None and pool == "token" else tokens[:-1] if pool == "avg" else tokens
        blocks += tokens
    return blocks


def layer_widths(model: torch.nn.Module, name: str, size_px: int, channels: int) -> tuple[int, ...]:
    """Find the widths of the blocks of a model's features, on PyTorch's `meta` device, where tensors have shapes alone.

    Args:
        model: timm's model without a classifier, built on `meta`.
        name: The backbone's name, for the message.
        size_px: Side of its square input in px.
        channels: Channels of its input, 1 or 3.

    Returns:
        The blocks' widths, in the features' order; empty if the model can't run on `meta`.

    Raises:
        RecipeError: If timm can't return them.
    """
    if hasattr(model, "forward_intermediates") and hasattr(model, "feature_info"):
        try:
            blocks = layer_blocks(model, torch.empty(2, channels, size_px, size_px, device="meta"))
            return tuple(block.shape[1] for block in blocks)
        except NotImplementedError:  # an operation that `meta` lacks
            return ()
        except Exception as error:  # whatever timm's model raises
            reason = f" ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
    else:
        reason = ""
    raise RecipeError(
        f"backbone.features: timm can't return the layers of '{name}' beside its last vector{reason}. "
        "Take backbone.features=last, or another backbone."
    )
