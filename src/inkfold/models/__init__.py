"""Backbones: timm's models, `ink-small`, and their weights.

`weights` resolves a name to everything that decides the features, and `backbone` computes them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inkfold.models.backbone import Backbone as Backbone
    from inkfold.models.weights import BackboneInfo as BackboneInfo
    from inkfold.models.weights import BackboneSpec as BackboneSpec
    from inkfold.models.weights import resolve_backbone as resolve_backbone

_HOMES = {"Backbone": "backbone", "BackboneInfo": "weights", "BackboneSpec": "weights", "resolve_backbone": "weights"}
__all__ = ["Backbone", "BackboneInfo", "BackboneSpec", "resolve_backbone"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing a module of the package imports no other."""
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
