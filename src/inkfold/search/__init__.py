"""The search for what suits a data set best: hyper-parameters by a study, and backbones by a comparison.

`study` runs trials with Optuna on cached features and measures the gain on drawings that no trial used; `space` defines which
recipe keys vary, `objective` fits and scores the trials. `backbones` compares pretrained backbones under a cosine head.
"""

from typing import TYPE_CHECKING

from inkfold.lazy import lazy_names

if TYPE_CHECKING:
    from inkfold.search.backbones import BackboneScore as BackboneScore
    from inkfold.search.backbones import explore as explore
    from inkfold.search.study import tune as tune

__getattr__, __dir__ = lazy_names(__name__, {"BackboneScore": "backbones", "explore": "backbones", "tune": "study"})
