"""What an exported model says of itself, in the metadata of its ONNX file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inkfold.errors import ExportError

METADATA_KEY = "inkfold"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class About:
    """What an exported model says of itself.

    Attributes:
        name: Of the run's directory.
        run: Digest that names the run.
        class_names: In the order of the probabilities.
        class_targets: The number of each class in the data's tables.
        image: What `fit.ImageOptions` takes.
        num_features: Length of the features.
        backbones: Their names.
        folds: How many vote.
        precision: Of the weights.
        accuracy: `value`, `ci95` and what it is `of`.
        reliability: Bins of confidence with `low`, `high`, `count`, `confidence`, `accuracy`.
        look: Line width and margin as fractions of the page's side, ink and paper as grey values.
        versions: Of what made it.
    """

    name: str
    run: str
    class_names: tuple[str, ...]
    class_targets: tuple[int, ...]
    image: Mapping[str, Any]
    num_features: int
    backbones: tuple[str, ...]
    folds: int
    precision: str
    accuracy: Mapping[str, Any]
    reliability: tuple[Mapping[str, Any], ...]
    look: Mapping[str, Any]
    versions: Mapping[str, str]


def about_from_json(values: Mapping[str, Any]) -> About:
    """Read the metadata's object.

    Args:
        values: As it stands in the file.

    Returns:
        The same, typed.

    Raises:
        ExportError: If something is missing or of another format.
    """
    if values.get("format") != FORMAT:
        raise ExportError(f"model: its metadata has format {values.get('format')!r}, expected {FORMAT}. Export it again.")
    try:
        return About(
            name=str(values["name"]),
            run=str(values["run"]),
            class_names=tuple(values["class_names"]),
            class_targets=tuple(values["class_targets"]),
            image=dict(values["image"]),
            num_features=int(values["num_features"]),
            backbones=tuple(values["backbones"]),
            folds=int(values["folds"]),
            precision=str(values["precision"]),
            accuracy=dict(values["accuracy"]),
            reliability=tuple(values["reliability"]),
            look=dict(values["look"]),
            versions=dict(values["versions"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ExportError(f"model: its metadata lacks {error}. Export it again.") from None


def read_about(session: Any) -> About:
    """Read what an ONNX Runtime session's model says of itself.

    Args:
        session: An `onnxruntime.InferenceSession`.

    Returns:
        The metadata.

    Raises:
        ExportError: If the model wasn't exported by inkfold.
    """
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ExportError("model: has no metadata of inkfold's. Export a run with `inkfold export RUN --out model.onnx`.")
    return about_from_json(json.loads(text))
