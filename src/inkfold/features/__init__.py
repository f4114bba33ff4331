"""From drawings to features, each computed once: the central idea of inkfold.

`extractor` is the way in: it decodes what is missing, plans the missing features as `tasks` (chunks of drawings under one
view, each of which becomes one file that is whole or absent), and has an executor carry them out: `executors` in this
process, `process_pool` in several, `ray_cluster` on other machines. `bank` holds the results under keys that name everything
that made them. Where the work is done changes no byte of it.
"""

from typing import TYPE_CHECKING

from inkfold.lazy import lazy_names

if TYPE_CHECKING:
    from inkfold.features.bank import FeatureBank as FeatureBank
    from inkfold.features.executors import open_executor as open_executor
    from inkfold.features.extractor import Extractor as Extractor
    from inkfold.features.extractor import ViewFeatures as ViewFeatures

__getattr__, __dir__ = lazy_names(
    __name__, {"Extractor": "extractor", "FeatureBank": "bank", "ViewFeatures": "extractor", "open_executor": "executors"}
)
