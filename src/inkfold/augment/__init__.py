"""Augmentation of drawings, with the same bytes on any machine.

Operations such as `rotate(15)@0.5` are parsed, combined to views, applied to drawings, and scheduled by a curriculum.

`inkfold.augment(...)` is the function `inkfold.api.training.augment`: `help` on that describes it.
"""

from typing import TYPE_CHECKING

from inkfold.lazy import call_package, lazy_names

if TYPE_CHECKING:
    from inkfold.augment.curriculum import Curriculum as Curriculum
    from inkfold.augment.curriculum import Stage as Stage
    from inkfold.augment.views import View as View
    from inkfold.augment.views import parse_view as parse_view
    from inkfold.augment.views import render as render

__getattr__, __dir__ = lazy_names(
    __name__, {"Curriculum": "curriculum", "Stage": "curriculum", "View": "views", "parse_view": "views", "render": "views"}
)

call_package(__name__, "inkfold.api.training:augment")
