"""Backbones: timm's models, `ink-small`, and their weights.

`weights` resolves a name to everything that decides the features, and `backbone` computes them.
`from inkfold.models import timm` imports timm wherever inkfold does, also beside a torchvision that was built for
another PyTorch.
"""

from typing import TYPE_CHECKING

from inkfold.lazy import lazy_names

if TYPE_CHECKING:
    import timm as timm

    from inkfold.models.backbone import Backbone as Backbone
    from inkfold.models.weights import BackboneInfo as BackboneInfo
    from inkfold.models.weights import BackboneSpec as BackboneSpec
    from inkfold.models.weights import resolve_backbone as resolve_backbone

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Backbone": "backbone",
        "BackboneInfo": "weights",
        "BackboneSpec": "weights",
        "resolve_backbone": "weights",
        "timm": "torchvision_compat",
    },
)
