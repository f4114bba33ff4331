"""inkfold in scikit-learn's words: a classifier and a transformer for its pipelines, cross-validation and searches.

scikit-learn is an extra: only these modules import it, when they are first used.
"""

from typing import TYPE_CHECKING

from inkfold.lazy import lazy_names

if TYPE_CHECKING:
    from inkfold.estimators.classifier import DrawingClassifier as DrawingClassifier
    from inkfold.estimators.features import FeatureExtractor as FeatureExtractor

__getattr__, __dir__ = lazy_names(__name__, {"DrawingClassifier": "classifier", "FeatureExtractor": "features"})
