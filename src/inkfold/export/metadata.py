"""An exported file's description: one JSON object in its metadata. Reading it needs neither PyTorch nor onnx."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from inkfold.errors import ExportError, PredictionError
from inkfold.evaluation.decision import Decision

FORMAT = 1
KEY = "inkfold"
SET = "set.json"  # describes a directory that holds one file per member of an ensemble


@dataclass(frozen=True, slots=True)
class About:
    """An exported file's description.

    Attributes:
        name: Name of the directory of the run that was exported, without its path.
        run: Digest of the run's manifest, by which a file is found to be of this run.
        class_names: Names of the classes, in the order of the probabilities.
        class_targets: Each class's number in the data's tables.
        image: How drawings become squares: the fields of `images.preprocess.ImageOptions`.
        fitted: Whether the file takes only squares from `images.preprocess.preprocess`; otherwise drawings of any size.
        num_features: Width of the file's `features` output: of the first backbone's features.
        backbones: timm's names of the backbones.
        folds: Number of models that vote: the folds of one run, or of all members together.
        precision: Precision of the backbone's weights and activations: `float32` or `int8`.
        accuracy: The run's accuracy (also in an 8-bit file): value, 95 % interval, and the drawings that it was measured on;
            None if it wasn't measured.
        reliability: The run's calibration out of fold, in ten bins of confidence: low, high, count, mean confidence, accuracy,
            and how many independent drawings those counted are worth.
        look: The training drawings' line style, from `line_style.measure_line_style`.
        versions: Versions of inkfold, torch, timm and onnx.
        format: Version of this object's format.
        decision: The rule that turns the probabilities into one answer, as `evaluation.decision.Decision.as_json` returns it;
            None where that is the most probable class.
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
    decision: Mapping[str, Any] | None = None

    def values(self) -> dict[str, Any]:
        """Return the description as JSON values; without `decision` where there is none."""
        own = asdict(self)
        return own if self.decision is not None else {name: value for name, value in own.items() if name != "decision"}

    def as_json(self) -> str:
        """Return the JSON text that is stored in the file."""
        return json.dumps(self.values(), ensure_ascii=False, allow_nan=False)

    def decide(self, probs: Float32[np.ndarray, "n classes"]) -> Int64[np.ndarray, " n"]:
        """Decide on one class for each drawing, as the run does.

        Args:
            probs: Class probabilities, as the file gives them.

        Returns:
            Class ids, from 0.
        """
        preds: np.ndarray = probs.argmax(1)
        if self.decision is not None:
            preds = Decision.from_json(self.decision, len(self.class_names), self.name).preds(probs)
        return preds

    @classmethod
    def from_json(cls, text: str, where: str = "model") -> "About":
        """Rebuild a description from the text that `as_json` returned.

        Args:
            text: What `as_json` returned: the value that is stored in the file's metadata.
            where: The file's name, for the message.

        Raises:
            ExportError: If the text is no description, or has another format version.
        """
        try:
            raw = json.loads(text)
            if raw["format"] != FORMAT:
                raise ValueError(f"format {raw['format']}, expected {FORMAT}")
            values = {field.name: raw[field.name] for field in fields(cls) if field.name != "decision"}
            if (rule := raw.get("decision")) is not None:
                values["decision"] = Decision.from_json(rule, len(raw["class_names"]), where).as_json()
            tuples = {name: tuple(values[name]) for name in ("class_names", "class_targets", "backbones", "reliability")}
            return cls(**{**values, **tuples})
        except (KeyError, TypeError, ValueError, PredictionError) as error:
            raise ExportError(f"{where}: its description can't be read: {error}. Export again.") from None


def read_about(model: Any) -> About:
    """Read an exported file's description.

    Args:
        model: Path of an ONNX file, its bytes, or an ONNX Runtime session of it.

    Raises:
        ExportError: If it isn't an ONNX file that inkfold exported.
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
