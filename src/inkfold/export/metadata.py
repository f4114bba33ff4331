"""What an exported file says of itself: one JSON object in its metadata. Reading it needs neither PyTorch nor onnx."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from inkfold.errors import ExportError

FORMAT = 1
KEY = "inkfold"
SET = "set.json"  # of a directory that holds a set of files; it says of them all what each says of itself


@dataclass(frozen=True, slots=True)
class About:
    """What a file says of itself.

    Attributes:
        name: The run directory's name.
        run: Digest of the run's manifest.
        class_names: In the order of the probabilities.
        class_targets: Each class's number in the data's tables.
        image: How drawings become squares: what `ImageOptions.from_key` takes.
        fitted: Whether drawings must come as `fit.fit_image` leaves them; otherwise any size will do.
        num_features: Width of the `features` output.
        backbones: timm's names.
        folds: How many models vote: of one run, or of all members together.
        precision: `float32` or `int8`.
        accuracy: Of the run, also in 8 bits: value, 95 % interval, and of which drawings; None where nothing was measured.
        reliability: Of the run: ten bins of confidence: low, high, count, mean confidence, accuracy.
        look: How the training drawings look: see `look.measure_look`.
        versions: Of inkfold, torch, timm and onnx.
        format: Of this object.
    """

    name: str
    run: str
    class_names: tuple[str, ...]
    class_targets: tuple[int, ...]
    image: Mapping[str, Any]
    fitted: bool
    num_features: int
    backbones: tuple[str, ...]
    folds: int
    precision: str
    accuracy: Mapping[str, Any] | None
    reliability: tuple[Mapping[str, Any], ...]
    look: Mapping[str, Any]
    versions: Mapping[str, str]
    format: int = FORMAT

    def as_json(self) -> str:
        """Give the text that a file holds."""
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, where: str = "model") -> "About":
        """Rebuild from `as_json`.

        Args:
            text: JSON.
            where: For the error.

        Returns:
            The same.

        Raises:
            ExportError: If it is none, or of another version.
        """
        try:
            raw = json.loads(text)
            if raw["format"] != FORMAT:
                raise ValueError(f"format {raw['format']}, expected {FORMAT}")
            given = {one.name: raw[one.name] for one in fields(cls)}
            listed = {name: tuple(given[name]) for name in ("class_names", "class_targets", "backbones", "reliability")}
            return cls(**{**given, **listed})
        except (KeyError, TypeError, ValueError) as error:
            raise ExportError(f"{where}: what it says of itself can't be read: {error}. Export again.") from None


def read_about(model: Any) -> About:
    """Read what a file says of itself.

    Args:
        model: An ONNX file, its bytes, or ONNX Runtime's session of it.

    Returns:
        The description.

    Raises:
        ExportError: If it is no model of inkfold.
    """
    where = str(model) if isinstance(model, str | Path) else "model"
    if isinstance(model, str | Path | bytes):
        import onnxruntime  # noqa: PLC0415 - an extra

        try:
            model = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common base
            raise ExportError(f"{where}: no ONNX model: {error}. Give a file that `inkfold export` wrote.") from None
    text = model.get_modelmeta().custom_metadata_map.get(KEY)
    if text is None:
        raise ExportError(f"{where}: an ONNX model, but not one of inkfold's. Give a file that `inkfold export` wrote.")
    return About.from_json(text, where)
