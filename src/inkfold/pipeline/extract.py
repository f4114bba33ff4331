"""The features of drawings in any form, of a frozen backbone, without a run: batches are read ahead, and the bank is used."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import Float16

from inkfold.augment.views import IDENTITY
from inkfold.data.from_memory import Drawing, read_drawings
from inkfold.features.extractor import Extractor, refuse_broken
from inkfold.features.in_memory import InMemoryExtractor
from inkfold.pipeline.build import build_plan, settle_recipe
from inkfold.pipeline.predict import read_as_squares
from inkfold.runtime.parallel import ahead, available_cores
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.hashing import DIGEST_DTYPE
from inkfold.storage.pixels import BrokenFile

BATCH_BYTES, READ_AHEAD = 256 << 20, 64


def open_extractor(backbone: Mapping[str, Any], image: Mapping[str, Any]) -> Extractor:
    """Choose a backbone, its weights and how drawings become its squares, as a recipe would.

    Args:
        backbone: Keys of the recipe's section `backbone`; the name `auto` takes ink-small.
        image: Keys of its section `image`. Nothing can be compared without labels: `auto` crops to the ink and keeps paper.

    Raises:
        RecipeError: If a key or value is none, or timm has no such backbone.
        WeightsError: If the backbone's weights can't be had.
    """
    return build_plan(settle_recipe({"backbone": dict(backbone), "image": dict(image)}, data=".")).extractor


def extract_features(
    extractor: Extractor, drawings: Any, progress: Progress = silent, *, cache: bool = True
) -> Float16[np.ndarray, "n d"]:
    """Compute the features of drawings.

    Args:
        extractor: The backbone, and how drawings become its squares; one backbone.
        drawings: Drawings in any form that `data.from_memory.read_drawings` takes.
        progress: Called with the drawings done of each batch.
        cache: Whether features are taken from the feature bank where it has them, and new ones are kept there.

    Returns:
        One row for each drawing.

    Raises:
        DataError: With every drawing that can't be read, or the first thing that isn't a drawing.
    """
    source, memory = read_drawings(drawings), InMemoryExtractor(extractor, cache=cache)
    option, rows = extractor.image, max(1, BATCH_BYTES // (3 * extractor.image.size_px**2))
    parts, broken, names, done = list[np.ndarray](), list[BrokenFile](), dict[int, str](), 0

    def read(task: tuple[int, Drawing]) -> tuple[str, tuple[bytes, np.ndarray] | BrokenFile]:
        index, drawing = task
        return drawing.name, read_as_squares(index, drawing, [option])[0]

    with closing(ahead(read, enumerate(source), available_cores(), min(rows, READ_AHEAD))) as reading:
        while batch := list(islice(reading, rows)):
            faults = [one for _, one in batch if isinstance(one, BrokenFile)]
            names |= {done + place: name for place, (name, one) in enumerate(batch) if isinstance(one, BrokenFile)}
            broken, done = broken + faults, done + len(batch)
            if not broken:
                squares = [one for _, one in batch if not isinstance(one, BrokenFile)]
                parts.append(_extract(memory, squares, progress))
    refuse_broken([("drawing", names, broken)], "error", "on_broken")
    return np.concatenate(parts) if parts else np.empty((0, 0), np.float16)


def _extract(memory: InMemoryExtractor, squares: Sequence[tuple[bytes, np.ndarray]], progress: Progress) -> np.ndarray:
    digests = np.array([name for name, _ in squares], DIGEST_DTYPE)
    [features] = memory.extract(dict(squares), digests, (IDENTITY,), progress)
    return features
