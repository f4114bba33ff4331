"""Features of a run's training drawings for a map of them: out of the bank, where it has them."""

import numpy as np

from inkfold.augment.views import IDENTITY
from inkfold.errors import PredictionError
from inkfold.evaluation.error_analysis import turns_by_class
from inkfold.evaluation.projection import MapFeatures
from inkfold.pipeline.build import read_again
from inkfold.pipeline.prepare import Needed, decode
from inkfold.pipeline.run import Run
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent

COLOURS, METHODS = ("class", "doubt"), ("tsne", "pca")


def check_map_options(colour: str, method: str, drawings: int, thumbnails: int) -> None:
    """Check what `Run.map` was called with.

    Raises:
        PredictionError: With the first that is none of what is expected.
    """
    for name, got, words in (("colour", colour, COLOURS), ("method", method, METHODS)):
        if got not in words:
            raise PredictionError(f"map: got {name}={got!r}, expected {' or '.join(map(repr, words))}.")
    for name, number, least, most in (("drawings", drawings, 10, 3000), ("thumbnails", thumbnails, 0, 200)):
        if not isinstance(number, int) or not least <= number <= most:
            raise PredictionError(f"map: got {name}={number!r}, expected a whole number from {least} to {most}.")


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
