"""An exported file's description: one JSON object in its metadata. Reading it needs neither PyTorch nor onnx."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from inkfold.errors import ExportError, PredictionError
from inkfold.evaluation.decision import Decision
from inkfold.runtime.foreign import parse_json

FORMAT = 1
KEY = "inkfold"
MOST_NUMBER, MOST_SIDE_PX = 1 << 62, 4096
BIN = ("low", "high", "count", "confidence", "accuracy")  # of the reliability
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
            raw = parse_json(text)
            if raw["format"] != FORMAT:
                raise ValueError(f"format {raw['format']}, expected {FORMAT}")
            values = {field.name: raw[field.name] for field in fields(cls) if field.name != "decision"}
            if (rule := raw.get("decision")) is not None:
                values["decision"] = Decision.from_json(rule, len(raw["class_names"]), where).as_json()
            tuples = {name: tuple(values[name]) for name in ("class_names", "class_targets", "backbones", "reliability")}
            about = cls(**{**values, **tuples})
            _check_about(about)
            return about
        except (KeyError, TypeError, ValueError, AttributeError, PredictionError) as error:
            raise ExportError(f"{where}: its description can't be read: {error}. Export again.") from None


def _check_about(about: About) -> None:
    """Check the types of what a stranger may have written, as far as those who read it rely on them; raises ValueError."""
    texts = (
        about.name,
        about.run,
        about.precision,
        *about.class_names,
        *about.backbones,
        *about.versions,
        *about.versions.values(),
    )
    numbers = (about.num_features, about.folds, *about.class_targets)
    bins = [[row[name] for name in BIN] for row in about.reliability]
    size_px = about.image["size_px"]
    wrong = {
        "texts": all(isinstance(text, str) for text in texts),
        "whole numbers": all(isinstance(number, int) and abs(number) < MOST_NUMBER for number in numbers),
        "classes": len(about.class_names) == len(about.class_targets) > 0
        and len({*about.class_names}) == len(about.class_names),
        "size": isinstance(size_px, int) and 1 <= size_px <= MOST_SIDE_PX,
        "accuracy": about.accuracy is None or _are_numbers([about.accuracy["value"], *about.accuracy["ci95"]]),
        "reliability": all(map(_are_numbers, bins)),
        "look": _are_numbers([value for value in about.look.values() if not isinstance(value, bool)]),
        "fitted": isinstance(about.fitted, bool),
    }
    if faults := [what for what, is_right in wrong.items() if not is_right]:
        raise ValueError(f"{', '.join(faults)}: not as inkfold writes them")


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(value is None or (isinstance(value, int | float) and abs(value) < MOST_NUMBER) for value in values)


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
