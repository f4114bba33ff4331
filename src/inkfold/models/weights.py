"""Resolves a backbone's name to a weights file, its digest, and all that decides the features.

Weights are searched in this order: the file that the recipe names, the directories in INKFOLD_WEIGHTS, the hub's cache, the
hub (`hub`); those of `ink-small` come with inkfold.
A file `NAME.json` beside `NAME.safetensors` may give what timm doesn't know of the weights: mean, std, interpolation,
image_size, model_args. The recipe overrides it, and it overrides timm's own configuration.
"""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from inkfold.config.sections import BackboneSettings
from inkfold.errors import WeightsError
from inkfold.models import ink_small as inksmall
from inkfold.models.hub import download, timm_config
from inkfold.storage.hashing import digest_file, key_digest
from inkfold.storage.sealed import DamagedError, read_sealed, write_sealed

log = logging.getLogger("inkfold.models")

UNTRAINED = "untrained"
AUTO, USUAL = "auto", "tf_efficientnet_lite0"
AUTO_CANDIDATES = (inksmall.NAME, USUAL)  # the first comes with inkfold and is taken in doubt
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
SIDECAR_KEYS = ("mean", "std", "interpolation", "image_size", "model_args")


class BackboneSpec(BackboneSettings):
    """The recipe's section `backbone` with what other sections say of it, and its precision settled for the device."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the forward pass."""
    image_size: int | None = None
    """Side of the square that it takes, in px; None takes the weights' own, then timm's."""
    seed: int = 0
    """Seed of untrained weights."""

    def key(self) -> dict[str, Any]:
        """Name all that decides what is resolved but the weights, under the names that kept descriptions have."""
        return _without_default(self.model_dump(mode="json", exclude={"device", "batch_size", "weights", "beside"}))


@dataclass(frozen=True, slots=True)
class BackboneInfo:
    """A backbone with all that decides its features: its weights, input size, normalisation and precision.

    Attributes:
        name: timm's full name, tag included.
        weights_digest: BLAKE2b of the weights file, or the seed of untrained weights.
        weights_file: Present path of the weights file; not part of the key.
        weights_source: Origin of the weights, for people; not part of the key.
        init_seed: Seed of untrained weights; None for a weights file.
        image_size: Side of the square input in px.
        resize_embeddings: Whether the model is built for this size, as vision transformers need.
        mean: Mean of the input in 0..1, per channel; one value for a network of grey drawings.
        std: Standard deviation of the input in 0..1, per channel.
        interpolation: Interpolation by which drawings are resized.
        model_args: Further arguments of timm's constructor.
        precision: `float32` or `bfloat16`.
        timm_version: Version of timm that builds the model.
        changes_digest: BLAKE2b of the file with the parameters that fine-tuning changed; None if not fine-tuned.
        changes_file: Present path of that file; not part of the key.
        features: `last`, the vector that a classifier would get, or `layers`, the pooled outputs of all stages beside it.
        blocks: Widths of the layers' parts of the features; empty for `last`. They follow from the rest and aren't in the key.
    """

    name: str
    weights_digest: str
    weights_file: str | None
    weights_source: str
    init_seed: int | None
    image_size: int
    resize_embeddings: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    model_args: Mapping[str, Any]
    precision: str
    timm_version: str
    changes_digest: str | None = None
    changes_file: str | None = None
    features: str = "last"
    blocks: tuple[int, ...] = ()

    def key(self) -> dict[str, Any]:
        """Return all that decides the features, which paths of files don't."""
        key = _without_default(asdict(self))
        del key["weights_file"], key["weights_source"], key["changes_file"], key["blocks"]
        if self.changes_digest is None:
            del key["changes_digest"]
        return {**key, "mean": list(self.mean), "std": list(self.std), "model_args": dict(self.model_args)}

    def as_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        blocks = {"blocks": list(self.blocks)} if self.blocks else {}
        return {**self.key(), **blocks, "weights_file": self.weights_file, "weights_source": self.weights_source}

    @property
    def title(self) -> str:
        """The name, with what is taken of the network where that isn't its last vector; for people."""
        return self.name if self.features == "last" else f"{self.name}, all layers"

    def tuned(self, changes: Path) -> "BackboneInfo":
        """Return the backbone with the parameters that fine-tuning changed."""
        return replace(self, changes_digest=digest_weights(changes), changes_file=str(changes))

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "BackboneInfo":
        """Rebuild a backbone from the values that `as_json` returned.

        Raises:
            WeightsError: If a field is missing or unknown.
        """
        try:
            listed = {"mean": tuple(raw["mean"]), "std": tuple(raw["std"]), "blocks": tuple(raw.get("blocks", ()))}
            return cls(**{**raw, **listed})
        except (KeyError, TypeError) as error:
            raise WeightsError(f"backbone description: {error}. It was written by another version of inkfold.") from None


def _without_default(key: dict[str, Any]) -> dict[str, Any]:
    """Leave `features: last` out of a key, as it was when there was nothing else."""
    if key["features"] == "last":
        del key["features"]
    return key


def resolve_backbone(spec: BackboneSpec, descriptions: Path | None = None, *, remember: bool = True) -> BackboneInfo:
    """Find the weights and determine everything that decides the features.

    Args:
        spec: The backbone's name, weights file, image size and precision, as far as the recipe says them.
        descriptions: Directory in which results are stored, so that a second run needn't import timm; None stores nothing.
        remember: Whether a new result is stored there; False writes nothing.

    Raises:
        RecipeError: If timm has no such model.
        WeightsError: If there are no weights (the message lists the ways to provide them), or a safetensors file is damaged.
    """
    file = find_weights_file(spec)
    log.info("backbone %s: weights %s", spec.name, _origin(spec, file))
    if file is None or descriptions is None:
        return _resolve(spec, file)
    weights_digest = digest_weights(file)
    key = {**spec.key(), "weights": weights_digest, "sidecar": _sidecar(file), "timm": version("timm"), "form": 1}
    key |= {} if spec.features == "last" else {"blocks": True}
    path = descriptions / f"{key_digest(key)}.json"
    if (known := _read_description(path, weights_digest)) is not None:
        return replace(known, weights_file=str(file), weights_source=str(file))
    info = _resolve(spec, file)
    if remember:
        write_sealed(path, info.as_json())
    return info


def _read_description(path: Path, weights_digest: str) -> BackboneInfo | None:
    """Read a backbone that was resolved before; None where there is none, or it isn't what was written."""
    try:
        info = BackboneInfo.from_json(read_sealed(path, must_be_sealed=True))
        if info.weights_digest != weights_digest:
            raise DamagedError("it is of other weights")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, WeightsError) as error:
        log.warning("%s: %s, so the backbone is resolved again", path, error)
        return None
    return info


def find_weights_file(spec: BackboneSpec) -> Path | None:
    """Find a local weights file.

    Args:
        spec: The backbone's name and, where the recipe says it, its weights file.

    Returns:
        The file that the recipe names, otherwise one in INKFOLD_WEIGHTS named after the model, otherwise the one that comes
        with inkfold, otherwise None.

    Raises:
        WeightsError: If the recipe names a file that doesn't exist or has another suffix.
    """
    if spec.weights == UNTRAINED:
        return None
    if spec.weights is not None:
        path = Path(spec.weights).expanduser().absolute()  # processes elsewhere look there too
        if not path.is_file() or path.suffix not in SUFFIXES:
            raise WeightsError(
                f"backbone.weights: '{path}' is not a file ending in {', '.join(SUFFIXES)}. "
                "Correct the path, or leave it out to use INKFOLD_WEIGHTS and the hub."
            )
        return path
    for candidate in _candidates(spec.name):
        if candidate.is_file():
            return candidate
    return inksmall.WEIGHTS if spec.name == inksmall.NAME else None


def _origin(spec: BackboneSpec, file: Path | None) -> str:
    """Say for the log which weights are taken, and why."""
    if file is None:
        return (
            "untrained, as set"
            if spec.weights == UNTRAINED
            else "from the hub's cache or the hub, as no local file has its name"
        )
    if spec.weights is not None:
        return f"{file}, which backbone.weights names"
    return f"{file}, which comes with inkfold" if file == inksmall.WEIGHTS else f"{file}, found in INKFOLD_WEIGHTS"


def digest_weights(file: Path) -> str:
    """Return BLAKE2b of a weights file.

    Each process reads a file, which may have gigabytes, again only if its inode, size or modification time has changed.
    """
    status = file.stat()
    return _digest_once(file.absolute(), status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _digest_once(file: Path, *_: int) -> str:
    return digest_file(file)


def is_obtainable(name: str) -> bool:
    """Return whether a backbone's weights are at hand; if not, they are downloaded where the hub answers."""
    try:
        if find_weights_file(BackboneSpec(name=name)) is None:
            download(*timm_config(name))
    except WeightsError as error:
        log.info("backbone auto: there are no weights of %s: %s", name, error)
        return False
    return True


def pretrained_overlay(info: BackboneInfo) -> dict[str, Any] | None:
    """Return timm's configuration for a weights file, which timm then filters and resizes as its own."""
    if info.weights_file is None:
        return None
    return {"file": info.weights_file, "source": "timm", "custom_load": info.weights_file.endswith(".npz")}


def _candidates(name: str) -> list[Path]:
    directories = [
        Path(part).expanduser().absolute() for part in os.environ.get("INKFOLD_WEIGHTS", "").split(os.pathsep) if part
    ]
    stems = dict.fromkeys((name, name.partition(".")[0]))
    return [directory / f"{stem}{suffix}" for directory in directories for stem in stems for suffix in SUFFIXES]


def _sidecar(file: Path | None) -> dict[str, Any]:
    path = file.with_suffix(".json") if file else None
    if path is None or not path.is_file():
        return {}
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path}: not JSON: {error}. It may hold {', '.join(SIDECAR_KEYS)}.") from None
    if not isinstance(raw, dict):
        raise WeightsError(f"{path}: got {type(raw).__name__}, expected an object with {', '.join(SIDECAR_KEYS)}.")
    if unknown := sorted(set(raw) - set(SIDECAR_KEYS)):
        raise WeightsError(f"{path}: got {', '.join(unknown)}, expected only {', '.join(SIDECAR_KEYS)}.")
    return dict(raw)


def _resolve(spec: BackboneSpec, file: Path | None) -> BackboneInfo:
    name, config = timm_config(spec.name)
    untrained = spec.weights == UNTRAINED
    if not untrained and file is None:
        file = download(name, config)
    if file is None:
        weights_digest, source = f"untrained-{spec.seed}-torch-{version('torch')}", f"untrained weights, seed {spec.seed}"
    else:
        _check_whole(file)
        weights_digest, source = digest_weights(file), str(file)
    sidecar = _sidecar(file)

    def settle(key: str, default: Any) -> Any:
        chosen = getattr(spec, key)
        return chosen if chosen is not None else sidecar.get(key, default)

    own_size = config.input_size[-1]
    image_size = settle("image_size", own_size)
    info = BackboneInfo(
        name=name,
        weights_digest=weights_digest,
        weights_file=str(file) if file else None,
        weights_source=source,
        init_seed=spec.seed if untrained else None,
        image_size=image_size,
        resize_embeddings=config.fixed_input_size and image_size != own_size,
        mean=tuple(settle("mean", config.mean)),
        std=tuple(settle("std", config.std)),
        interpolation=settle("interpolation", config.interpolation),
        model_args=dict(spec.model_args) or sidecar.get("model_args", {}),
        precision=spec.precision,
        timm_version=version("timm"),
        features=spec.features,
    )
    if spec.features != "last":
        from inkfold.models.backbone import widths_of_layers  # noqa: PLC0415 - torch takes a second

        info = replace(info, blocks=widths_of_layers(info))
    return info


def _check_whole(file: Path) -> None:
    """Refuse a truncated file before hours of other work."""
    with file.open("rb") as opened:
        if opened.read(len(LFS_POINTER)) == LFS_POINTER:
            raise WeightsError(f"{file}: a pointer of Git LFS, not the weights themselves. Fetch them: git lfs pull.")
    if file.suffix != ".safetensors":
        return
    try:
        with safe_open(file, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{file}: not a whole safetensors file: {error}. Copy or fetch it again.") from None
