"""The training drawings nearest to a new one: a compact index beside the ONNX file, read without PyTorch.

One byte a feature: rows of unit length are scaled so that their largest value is 127. Its neighbours are those of the
full features but for ties; see `tests/test_nearest.py`.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int8, Int64, UInt8
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as to_safetensors

from inkfold.errors import ExportError
from inkfold.storage.files import write_bytes

SUFFIX = ".nearest.safetensors"
NAMES = ("features", "scale", "targets", "thumbnails", "offsets")
ROWS_AT_ONCE = 8192
UNPACKED_BYTES = 128 << 20  # unpacking at every search takes two thirds of its time


@dataclass(frozen=True, slots=True)
class Nearest:
    """Training drawings that can be asked for.

    Attributes:
        features: A row a drawing; whole numbers, which `load_nearest` may have made floats.
        scale: What a row is multiplied with to have unit length.
        targets: Class ids.
        thumbnails: PNG files, one behind the other.
        offsets: Where each begins and the last one ends.
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
            features: Of the drawings that are asked about.
            count: How many each; fewer where there are fewer.

        Returns:
            Their rows and cosines, the most similar first.
        """
        asked = np.asarray(features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12), np.float32)
        similar = np.empty((len(features), len(self.features)), np.float32)
        for start in range(0, len(self.features), ROWS_AT_ONCE):
            rows = self.features[start : start + ROWS_AT_ONCE].astype(np.float32, copy=False)
            similar[:, start : start + ROWS_AT_ONCE] = asked @ rows.T
        similar *= self.scale
        count = min(count, similar.shape[1])
        best = np.argpartition(-similar, max(count - 1, 0), axis=1)[:, :count]
        values = np.take_along_axis(similar, best, 1)
        order = np.lexsort((best, -values), axis=1)
        return np.take_along_axis(best, order, 1), np.take_along_axis(values, order, 1)

    def thumbnail(self, row: int) -> bytes:
        """Give a drawing's picture as a PNG file."""
        return self.thumbnails[self.offsets[row] : self.offsets[row + 1]].tobytes()


def build_nearest(features: Float[np.ndarray, "n d"], targets: Int64[np.ndarray, " n"], thumbnails: list[bytes]) -> Nearest:
    """Make an index.

    Args:
        features: Of the training drawings.
        targets: Their class ids.
        thumbnails: Their pictures as PNG files.

    Returns:
        The index.
    """
    rows = np.asarray(features, np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    largest = np.maximum(np.abs(rows).max(1, keepdims=True), 1e-12)
    small = np.rint(rows / largest * 127).astype(np.int8)
    scale = 1 / np.maximum(np.linalg.norm(small.astype(np.float32), axis=1), 1e-12)
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in thumbnails])]).astype(np.int64)
    pictures = np.frombuffer(b"".join(thumbnails), np.uint8)
    return Nearest(small, scale.astype(np.float32), targets.astype(np.int64), pictures, offsets)


def index_path(model: Path) -> Path:
    """Name the index that belongs to a model."""
    return model.with_name(model.name.removesuffix(".onnx") + SUFFIX)


def save_nearest(path: Path, index: Nearest) -> None:
    """Write an index, whole or not at all."""
    write_bytes(path, to_safetensors({name: np.ascontiguousarray(getattr(index, name)) for name in NAMES}))


def load_nearest(path: Path, num_classes: int, num_features: int) -> Nearest:
    """Read an index.

    Args:
        path: Its file.
        num_classes: That the model knows.
        num_features: That the model gives.

    Returns:
        The index.

    Raises:
        ExportError: If it is damaged, or another model's.
    """
    try:
        held = load_file(path)
        index = Nearest(*(held[name] for name in NAMES))
    except (SafetensorError, OSError, KeyError) as error:
        raise ExportError(f"{path}: not an index of drawings: {error}. Export the run again.") from None
    n, ends = len(index.targets), index.offsets
    shapes = index.features.shape == (n, num_features) and index.scale.shape == (n,) and ends.shape == (n + 1,)
    types = index.features.dtype == np.int8 and index.targets.dtype.kind == "i" and index.thumbnails.dtype == np.uint8
    if not (n and shapes and types and _within(index.targets, num_classes - 1)):
        got = f"{n} drawings with {index.features.shape} features"
        raise ExportError(f"{path}: {got}, expected {num_features} features and {num_classes} classes. Export the run again.")
    if ends[0] != 0 or ends[-1] != len(index.thumbnails) or np.any(np.diff(ends) < 0):
        raise ExportError(f"{path}: its pictures' places contradict each other. Export the run again.")
    if index.features.size * 4 <= UNPACKED_BYTES:
        return replace(index, features=index.features.astype(np.float32))
    return index


def _within(values: np.ndarray, highest: int) -> bool:
    return not len(values) or (int(values.min()) >= 0 and int(values.max()) <= highest)
