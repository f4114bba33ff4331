"""The training drawings nearest to a new one: a compact index beside the ONNX file, read without PyTorch.

It has one byte per feature: rows of unit length are scaled so that their largest value is 127. Its neighbours are those of the
full features but for ties; see `tests/serve/test_nearest.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int8, Int64, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from inkfold.errors import ExportError
from inkfold.storage.hashing import digest, key_digest
from inkfold.storage.outputs import write_output

SUFFIX = ".nearest.safetensors"
NAMES = ("features", "scale", "targets", "thumbnails", "offsets")
ROWS_AT_ONCE = 8192
UNPACKED_BYTES = 128 << 20  # unpacking at every search takes two thirds of its time


@dataclass(frozen=True, slots=True)
class NearestIndex:
    """An index of training drawings, searched by the cosine of features.

    Attributes:
        features: One row per drawing; whole numbers from -127 to 127, which `load_index` may have made floats.
        scale: The factor that gives each row unit length.
        targets: Class id of each drawing, from 0.
        thumbnails: The drawings' thumbnails as PNG files, one after the other.
        offsets: Where each thumbnail begins, and where the last one ends.
    """

    features: Int8[np.ndarray, "n d"] | Float32[np.ndarray, "n d"]
    scale: Float32[np.ndarray, " n"]
    targets: Int64[np.ndarray, " n"]
    thumbnails: UInt8[np.ndarray, " bytes"]
    offsets: Int64[np.ndarray, " n+1"]

    def find(
        self, features: Float[np.ndarray, "q d"], count: int
    ) -> tuple[Int64[np.ndarray, "q k"], Float32[np.ndarray, "q k"]]:
        """Find the most similar drawings.

        Args:
            features: Features of the new drawings, one row each.
            count: Neighbours per drawing; an index of fewer drawings gives them all.

        Returns:
            The neighbours' rows in the index and their cosines, the most similar first.
        """
        queries = np.asarray(features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12), np.float32)
        similar = np.empty((len(features), len(self.features)), np.float32)
        for start in range(0, len(self.features), ROWS_AT_ONCE):
            rows = self.features[start : start + ROWS_AT_ONCE].astype(np.float32, copy=False)
            similar[:, start : start + ROWS_AT_ONCE] = queries @ rows.T
        similar *= self.scale
        count = min(count, similar.shape[1])
        best = np.argpartition(-similar, max(count - 1, 0), axis=1)[:, :count]
        values = np.take_along_axis(similar, best, 1)
        order = np.lexsort((best, -values), axis=1)
        return np.take_along_axis(best, order, 1), np.take_along_axis(values, order, 1)

    def thumbnail(self, row: int) -> bytes:
        """Return the thumbnail of the drawing in a row, as a PNG file."""
        return self.thumbnails[self.offsets[row] : self.offsets[row + 1]].tobytes()


def build_index(features: Float[np.ndarray, "n d"], targets: Int64[np.ndarray, " n"], thumbnails: list[bytes]) -> NearestIndex:
    """Build an index from features, in one byte per feature.

    Args:
        features: Features of the training drawings, one row each.
        targets: Class id of each drawing, from 0, in the order of the rows.
        thumbnails: The drawings' thumbnails as PNG files.
    """
    rows = np.asarray(features, np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    largest = np.maximum(np.abs(rows).max(1, keepdims=True), 1e-12)
    small = np.rint(rows / largest * 127).astype(np.int8)
    scale = 1 / np.maximum(np.linalg.norm(small.astype(np.float32), axis=1), 1e-12)
    offsets = np.concatenate([[0], np.cumsum([len(thumbnail) for thumbnail in thumbnails])]).astype(np.int64)
    pictures = np.frombuffer(b"".join(thumbnails), np.uint8)
    return NearestIndex(small, scale.astype(np.float32), targets.astype(np.int64), pictures, offsets)


def index_path(model: Path) -> Path:
    """Return the path of the index that belongs to a model."""
    return model.with_name(model.name.removesuffix(".onnx") + SUFFIX)


def save_index(path: Path, index: NearestIndex) -> None:
    """Write an index, whole or not at all."""
    arrays = {name: np.ascontiguousarray(getattr(index, name)) for name in NAMES}
    write_output(path, to_safetensors(arrays, metadata={"digest": _digest(arrays)}))


def load_index(path: Path, num_classes: int, num_features: int) -> NearestIndex:
    """Read an index and check that it fits its model.

    Args:
        path: The index that `inkfold export --nearest` wrote beside an exported model.
        num_classes: How many classes the model knows.
        num_features: How many features the model gives.

    Returns:
        The index, unpacked to floats where that takes at most 128 MiB.

    Raises:
        ExportError: If it is damaged, or another model's.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in NAMES}
            expected = (file.metadata() or {}).get("digest")  # those of older versions have none
        if expected is not None and expected != _digest(arrays):
            raise ValueError("it isn't as it was written")
        index = NearestIndex(*(arrays[name] for name in NAMES))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ExportError(f"{path}: not an index of drawings: {error}. Export the run again.") from None
    n, ends = len(index.targets), index.offsets
    shapes = index.features.shape == (n, num_features) and index.scale.shape == (n,) and ends.shape == (n + 1,)
    types = index.features.dtype == np.int8 and index.targets.dtype.kind == "i" and index.thumbnails.dtype == np.uint8
    types = types and ends.dtype.kind == "i" and index.scale.dtype.kind == "f" and bool(np.isfinite(index.scale).all())
    if not (n and shapes and types and 0 <= index.targets.min() <= index.targets.max() < num_classes):
        got = f"{n} drawings with {index.features.shape} features"
        raise ExportError(f"{path}: {got}, expected {num_features} features and {num_classes} classes. Export the run again.")
    if ends[0] != 0 or ends[-1] != len(index.thumbnails) or np.any(np.diff(ends) < 0):
        raise ExportError(f"{path}: its thumbnails' offsets contradict each other. Export the run again.")
    if index.features.size * 4 <= UNPACKED_BYTES:
        return replace(index, features=index.features.astype(np.float32))
    return index


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    return key_digest(
        {name: [values.dtype.str, list(values.shape), digest(values.tobytes())] for name, values in arrays.items()}
    )
