"""Features of a run's training drawings for a map of them: out of the bank, where it has them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from inkfold.augment.views import IDENTITY
from inkfold.evaluation.error_analysis import turns_by_class
from inkfold.pipeline.build import read_again
from inkfold.pipeline.prepare import Needed, decode
from inkfold.pipeline.run import Run
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent


@dataclass(frozen=True, slots=True)
class MapFeatures:
    """Features of some training drawings, evenly of all classes.

    Attributes:
        image_paths: The drawings' names, as the dataset has them.
        features: The first backbone's features of the drawings as they are.
        targets: Class ids.
    """

    image_paths: Shaped[np.ndarray, " n"]
    features: Float32[np.ndarray, "n d"]
    targets: Int64[np.ndarray, " n"]


def read_map_features(run: Run, most: int, progress: Progress = silent) -> MapFeatures:
    """Read the features of a run's training drawings.

    Args:
        run: A finished run. Of a fine-tuned one, the features are of the backbone of its first fold.
        most: Greatest number of drawings. Equally many of each class are taken; their order is by content.
        progress: Called with the stage, what is done and the total.

    Raises:
        PredictionError: If the drawings aren't those that the run was trained on.
        DataError: If the data can't be read any more.
        WeightsError: If features are missing and the backbone's weights are gone.
    """
    extractor, cost = run.extractors()[0][0], Cost()
    read = read_again(run, cost, progress)
    prepared = decode(read, extractor, run.recipe.data, cost, progress, Needed(test_views=()))
    chosen = np.sort(np.argsort(turns_by_class(prepared.targets.tolist()), kind="stable")[:most])
    features = extractor.extract(prepared.digests[chosen], cost, progress).read(IDENTITY)
    names = read.dataset.train.image_paths[prepared.rows[chosen]]
    return MapFeatures(names, features.astype(np.float32), prepared.targets[chosen])
