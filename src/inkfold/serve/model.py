"""An exported model in ONNX Runtime: squares in, probabilities and features out. No PyTorch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from jaxtyping import Float32

from inkfold.data.from_memory import Drawing, draw, read_drawings
from inkfold.errors import DataError, ExportError
from inkfold.export.metadata import SET, About, read_about
from inkfold.export.own_digest import check_own_digest
from inkfold.images.announced import Announced, PictureLimits, check_announced
from inkfold.images.decode import BrokenImage, Pixels, as_broken
from inkfold.images.page import Page
from inkfold.images.preprocess import ImageOptions, preprocess, stack_squares
from inkfold.pipeline.manifest import is_below
from inkfold.runtime.foreign import parse_json, read_whole
from inkfold.runtime.parallel import available_cores
from inkfold.serve.framing import Choice, Frame, frame_picture
from inkfold.storage.sealed import unsealed

MOST_THREADS = 2
BATCH = 64  # drawings of a forward pass
PICTURES = PictureLimits()

Squares = tuple[Pixels, ...]  # one per file of the model


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """What the model says of some drawings.

    Attributes:
        probs: Class probabilities, one row per drawing; rows sum to 1.
        features: The first backbone's features, one row per drawing; None where the file gives none.
    """

    probs: Float32[np.ndarray, "n classes"]
    features: Float32[np.ndarray, "n d"] | None


class _File:
    """One ONNX file."""

    def __init__(self, path: Path, threads: int) -> None:
        check_own_digest(path)
        try:
            self.session = onnxruntime.InferenceSession(path, _session_options(threads), ["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises classes that it doesn't name publicly
            words = str(error).splitlines()[0][:300]
            raise ExportError(f"{path}: can't be loaded ({words}), expected an ONNX file. Export the run again.") from None
        self.about = read_about(self.session)
        try:
            image = {**self.about.image, "pixel_limit": min(int(self.about.image["pixel_limit"]), PICTURES.pixels)}
            self.image = ImageOptions.from_key(image)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            words = " ".join(str(error).split())[:300]
            raise ExportError(f"{path}: its description of pictures can't be used ({words}). Export the run again.") from None
        available = [output.name for output in self.session.get_outputs()]
        self.outputs = [name for name in ("probs", "features") if name in available]

    def run(self, squares: Sequence[Pixels]) -> list[np.ndarray]:
        """Run a batch."""
        batch = stack_squares(squares)
        outputs: list[np.ndarray] = self.session.run(self.outputs, {"images": batch if batch.ndim == 4 else batch[..., None]})
        return outputs


class OnnxModel:
    """A model of one ONNX file, or of a set of files whose probabilities are averaged.

    Args:
        path: The exported ONNX file, or the directory of an exported set.
        threads: Threads of each forward pass; None takes two, or one where there is one core.
        decoding_bytes: The most bytes of memory that reading a picture may take.

    Raises:
        ExportError: If it can't be loaded, or isn't inkfold's.
    """

    def __init__(self, path: Path, threads: int | None = None, decoding_bytes: int = PICTURES.decoded_bytes) -> None:
        threads = threads or min(MOST_THREADS, available_cores())
        self.about: About
        if path.is_dir():
            members, self.about = _read_set(path)
            self._files = [_File(path / name, threads) for name in members["files"]]
            self._weights = np.array(members["weights"], np.float32) / np.sum(members["weights"], dtype=np.float32)
        else:
            self._files, self._weights = [_File(path, threads)], np.ones(1, np.float32)
            self.about = self._files[0].about
        pixels = min(file.image.pixel_limit for file in self._files)
        self.limits = replace(PICTURES, pixels=pixels, decoded_bytes=decoding_bytes)
        self._warm_up(path)

    def _warm_up(self, path: Path) -> None:
        """Predict a blank page, as the first time takes longer, and refuse a file whose graph doesn't do what it says."""
        classes, width = len(self.about.class_names), self.about.num_features
        try:
            output = self.predict([self.preprocess(np.full((8, 8), 255, np.uint8))])
        except Exception as error:  # ONNX Runtime raises classes that it doesn't name publicly
            words = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
            raise ExportError(f"{path}: can't predict a blank page ({words}). Export the run again.") from None
        shape = None if output.features is None else output.features.shape
        if output.probs.shape != (1, classes) or shape not in (None, (1, width)) or not np.isfinite(output.probs).all():
            got = f"probs {output.probs.shape} and features {shape}, or no finite numbers"
            raise ExportError(f"{path}: gives {got}, expected (1, {classes}) and (1, {width}). Export the run again.")

    @property
    def image(self) -> ImageOptions:
        """How drawings become the squares of the first file."""
        return self._files[0].image

    @property
    def images(self) -> list[ImageOptions]:
        """How drawings become the squares of each of the files."""
        return [file.image for file in self._files]

    def check(self, data: bytes) -> Announced:
        """Refuse a picture file by its header if it would take too much memory or time.

        Args:
            data: The bytes of a file in any format that is read.

        Returns:
            What the header announces.

        Raises:
            BrokenImage: If the header can't be read, or is beyond `limits`.
        """
        try:
            return check_announced(data, self.limits)
        except Exception as error:  # decoders raise anything
            raise as_broken(data, error) from error

    def read(self, data: bytes, announced: Announced, chosen: Choice = None) -> tuple[Squares, Frame | None]:
        """Decode a picture file and turn the drawing into one square per file of the model.

        Args:
            data: The bytes of a file in any format that is read.
            announced: What `check` returned for it.
            chosen: The part of the picture that the client chose, if any.

        Returns:
            The squares, and the part of the picture that the first of them shows, in px of the picture.

        Raises:
            BrokenImage: If it can't be decoded.
            Refusal: With 422 if the chosen frame lies outside of the picture.
        """
        page, sides = Page(data, self.limits.pixels, self.limits.frame_pixels), (announced.width, announced.height)
        framed = [frame_picture(page, file.image, self.about.look, sides, chosen) for file in self._files]
        return tuple(each.square for each in framed), framed[0].frame

    def preprocess(self, pixels: Pixels) -> Squares:
        """Turn a page into one square per file of the model."""
        return tuple(preprocess(pixels, file.image) for file in self._files)

    def predict_proba(self, drawings: Any) -> Float32[np.ndarray, "n classes"]:
        """Predict the class probabilities of drawings, which are read as the server reads them.

        Args:
            drawings: One drawing or many, in any form that `data.from_memory.read_drawings` takes, generators among them.

        Returns:
            One row for each drawing, in the order of `about.class_names`.

        Raises:
            DataError: At the first drawing that can't be read, with its name or place.
        """
        squares = map(self._squares_of, read_drawings(drawings))
        batches = iter(lambda: [*islice(squares, BATCH)], [])
        probs = [self.predict(batch).probs for batch in batches]
        return np.concatenate(probs) if probs else np.empty((0, len(self.about.class_names)), np.float32)

    def _squares_of(self, drawing: Drawing) -> Squares:
        content = drawing.content
        try:
            if isinstance(content, BrokenImage):
                raise content
            if isinstance(content, str | bytes):
                data = content if isinstance(content, bytes) else Path(content).read_bytes()
                return self.read(data, self.check(data))[0]
        except (BrokenImage, OSError) as error:
            raise DataError(f"drawing {drawing.name}: {error}") from None
        return self.preprocess(content if isinstance(content, np.ndarray) else draw(content, self.about.look))

    def predict(self, drawings: Sequence[Squares]) -> ModelOutput:
        """Run a batch of one drawing at least, as `read` and `preprocess` return them; the output has one row per drawing."""
        outputs = [file.run(squares) for file, squares in zip(self._files, zip(*drawings, strict=True), strict=True)]
        probs = sum(weight * output[0] for weight, output in zip(self._weights, outputs, strict=True))
        return ModelOutput(np.asarray(probs, np.float32), outputs[0][1] if len(outputs[0]) > 1 else None)


def _session_options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.enable_mem_pattern = False  # it keeps a plan for every batch size that ever occurred
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait would burn a core
    return options


def _read_set(path: Path) -> tuple[dict[str, Any], About]:
    try:
        text = read_whole(path / SET).decode()
        members = unsealed(parse_json(text), must_be_sealed=False)
        files, weights = members["files"], members["weights"]
        if not isinstance(files, list) or not all(is_below(name) for name in files):
            raise ValueError("files aren't names of files beside it")
        if not isinstance(weights, list) or len(files) != len(weights) or not files:
            raise ValueError("files and weights differ in number")
        if not all(isinstance(weight, int | float) and 0 <= weight < math.inf for weight in weights) or not sum(weights):
            raise ValueError("weights aren't numbers from 0")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{path / SET}: not the list of a set of models: {error}. Export the ensemble again.") from None
    return members, About.from_json(text, str(path / SET))
