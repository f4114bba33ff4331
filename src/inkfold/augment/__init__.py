"""Augmentation of drawings, with the same bytes on any machine.

Operations such as `rotate(15)@0.5` are parsed, combined to views, applied to drawings, and scheduled by a curriculum.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inkfold.augment.curriculum import Curriculum as Curriculum
    from inkfold.augment.curriculum import Stage as Stage
    from inkfold.augment.operations import Operation as Operation
    from inkfold.augment.operations import parse_operation as parse_operation
    from inkfold.augment.views import View as View
    from inkfold.augment.views import parse_view as parse_view
    from inkfold.augment.views import render as render

_HOMES = {
    "Curriculum": "curriculum",
    "Operation": "operations",
    "Stage": "curriculum",
    "View": "views",
    "parse_operation": "operations",
    "parse_view": "views",
    "render": "views",
}
__all__ = ["Curriculum", "Operation", "Stage", "View", "parse_operation", "parse_view", "render"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing a module of the package imports no other."""
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
