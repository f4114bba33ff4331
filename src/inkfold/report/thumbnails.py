"""Small pictures of drawings for a page, each read and embedded once however often it is shown."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from inkfold.config.sections import Paper
from inkfold.data.dataset import DataOptions, Dataset, read_dataset
from inkfold.errors import InkfoldError
from inkfold.images.decode import BrokenImage, Pixels
from inkfold.images.preprocess import ImageOptions, read_drawing
from inkfold.storage.hashing import digest

SIDE_PX = 96
GREYS = 16  # 4 bits per pixel; more looks the same at this size
WEBP_QUALITY = 60
MOST_BYTES = 3_000_000  # of all embedded pictures; of a page of 5 MB the rest is left to tables


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture whose bytes are part of the page.

    Attributes:
        name: Name by which the page refers to it.
        uri: The picture's bytes as a data URI, which needs no file beside the page.
        grey: Whether it has no colour, so that a dark page may invert it.
    """

    name: str
    uri: str
    grey: bool


class Album:
    """The pictures of a page.

    Args:
        files: File of each drawing, by part (`train` or `test`) and image path.
        by_class: Image paths of training drawings by class name, in the order in which samples are taken.
        options: How drawings are resized to squares.
        why: Why there are no pictures, as a sentence; None if there are.
        prefix: How the pictures' names begin, which tells the albums of a page apart.
    """

    def __init__(
        self,
        files: Mapping[tuple[str, str], str],
        by_class: Mapping[str, list[str]],
        options: ImageOptions,
        why: str | None = None,
        prefix: str = "d",
    ) -> None:
        self.why, self._prefix = why, prefix
        self.pictures: dict[tuple[str, str], Picture] = {}
        self._files, self._by_class, self._options = files, by_class, options
        self._missing: set[tuple[str, str]] = set()
        self._left_bytes = MOST_BYTES

    @property
    def missing(self) -> int:
        """Number of drawings that should be shown but couldn't be read."""
        return len(self._missing)

    def show(self, path: str, part: str = "train") -> Picture | None:
        """Embed a drawing of the part `train` or `test`, once; None if it can't be read, or the page is full."""
        key = (part, path)
        if key not in self.pictures and key not in self._missing:
            self._embed(key)
        return self.pictures.get(key)

    def samples(self, class_name: str, count: int, avoid: str = "") -> list[Picture]:
        """Embed training drawings of a class, always the same ones but `avoid`, which is shown beside them already."""
        paths = [path for path in self._by_class.get(class_name, []) if path != avoid][:count]
        return [picture for picture in map(self.show, paths) if picture is not None]

    def embed(self, key: tuple[str, str], pixels: Pixels) -> Picture | None:
        """Embed a picture that isn't a drawing of the data, under a key of its own, once; None if the page is full."""
        if key not in self.pictures and self._left_bytes > 0:
            uri, grey = encode(pixels)
            self._left_bytes -= len(uri)
            self.pictures[key] = Picture(f"{self._prefix}{len(self.pictures)}", uri, grey)
        return self.pictures.get(key)

    def pixels(self, path: str, part: str = "train") -> Pixels | None:
        """Read a drawing of the part `train` or `test` as a square without embedding it; None if it can't be read."""
        try:
            return read_drawing(Path(self._files.get((part, path)) or "").read_bytes(), self._options)
        except (BrokenImage, OSError):
            return None

    def _embed(self, key: tuple[str, str]) -> None:
        file = self._files.get(key)
        if not file or self._left_bytes <= 0:
            if not file and self.why is None:
                self._missing.add(key)
            return
        try:
            pixels = read_drawing(Path(file).read_bytes(), self._options)
        except (BrokenImage, OSError):
            self._missing.add(key)
            return
        uri, grey = encode(pixels)
        self._left_bytes -= len(uri)
        self.pictures[key] = Picture(f"{self._prefix}{len(self.pictures)}", uri, grey)


def open_album(options: DataOptions, root: str | Path | None, fit: str, invert: str, paper: Paper = "keep") -> Album:
    """Open an album of the drawings of a run.

    Args:
        options: How the data set is read.
        root: Folder of the data set; None if it is not known.
        fit: How the run resized drawings to squares: `pad`, `squash` or `crop_to_ink`.
        invert: Whether the run inverted light strokes on a dark ground: `auto` or `never`.
        paper: What the run did about the paper: `auto`, `flatten` or `keep`.

    Returns:
        The album; one without pictures, with the reason in `why`, if the data set can't be read.
    """
    image = ImageOptions(size_px=SIDE_PX, resize=fit, invert=invert, paper=paper)
    if root is None:
        return Album({}, {}, image, "The run doesn't say where its drawings are.")
    try:
        dataset = read_dataset(root, options, strict=False)
    except InkfoldError as error:
        return Album({}, {}, image, f"The drawings can't be read: {str(error).splitlines()[0]}")
    return album_of(dataset, image)


def album_of(dataset: Dataset, image: ImageOptions) -> Album:
    """Open an album of a dataset's drawings.

    Args:
        dataset: The drawings.
        image: How they are resized to squares.
    """
    return Album(_files(dataset), _by_class(dataset), image)


def encode(pixels: Pixels) -> tuple[str, bool]:
    """Encode a square picture as a data URI.

    Args:
        pixels: The square picture, (s, s) if grey, else (s, s, 3).

    Returns:
        The URI, and whether it is grey. Grey pictures become PNG with 16 shades, which keeps thin lines sharp; others WebP.
    """
    if pixels.ndim == 2:
        return f"data:image/png;base64,{base64.b64encode(grey_png(pixels)).decode()}", True
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "WEBP", quality=WEBP_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}", False


def grey_png(pixels: UInt8[np.ndarray, "h w"]) -> bytes:
    """Encode a grey picture as a PNG file with 16 shades."""
    shades = np.rint(pixels.astype(np.float32) / 255 * (GREYS - 1)).astype(np.uint8)
    picture = Image.fromarray(shades).convert("P")
    picture.putpalette([channel for shade in range(GREYS) for channel in [round(shade * 255 / (GREYS - 1))] * 3])
    data = io.BytesIO()
    picture.save(data, "PNG", optimize=True, bits=4)
    return data.getvalue()


def _files(dataset: Dataset) -> dict[tuple[str, str], str]:
    return {
        (part, path): file
        for part, drawings in (("test", dataset.test), ("train", dataset.train))
        if drawings is not None
        for path, file in zip(drawings.image_paths.tolist(), drawings.files.tolist(), strict=True)
    }


def _by_class(dataset: Dataset) -> dict[str, list[str]]:
    """Order the drawings of each class by the digests of their paths, so that samples are not hand-picked."""
    targets = dataset.train.targets
    assert targets is not None
    by_class: dict[str, list[str]] = {}
    for path, target in zip(dataset.train.image_paths.tolist(), targets.tolist(), strict=True):
        by_class.setdefault(dataset.class_names[target], []).append(path)
    return {name: sorted(paths, key=lambda path: digest(path.encode())) for name, paths in by_class.items()}
