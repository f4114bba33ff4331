"""From a backbone's name to a weights file, its digest, and all that decides the features.

Looked for, in this order: the file that the recipe names, the directories in INKFOLD_WEIGHTS, the hub's cache, the hub;
`ink-small`'s come with inkfold.
A file `NAME.json` beside `NAME.safetensors` may say what timm does not know of the weights: mean, std, interpolation,
image_size, model_args. What the recipe gives goes before it, and timm's own configuration comes last.
"""

import contextlib
import difflib
import json
import os
import socket
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from inkfold import inksmall
from inkfold.atomic import write_json
from inkfold.errors import RecipeError, WeightsError
from inkfold.shards import digest_file, key_digest
from inkfold.torchvision_ops import declare_missing_operators

UNTRAINED = "untrained"
AUTO, USUAL = "auto", "tf_efficientnet_lite0"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
SIDECAR_KEYS = ("mean", "std", "interpolation", "image_size", "model_args")


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """What the user asks for; None leaves a choice to the weights' own description, then to timm.

    Attributes:
        name: A timm model.
        weights: A file, `untrained`, or None.
        mean: Of the input in 0..1, per channel.
        std: Of the input in 0..1, per channel.
        interpolation: How drawings are resized.
        image_size: Side in px.
        model_args: Further arguments of timm's constructor.
        precision: `float32` or `bfloat16`.
        seed: Of untrained weights.
    """

    name: str
    weights: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str | None = None
    image_size: int | None = None
    model_args: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "float32"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class BackboneInfo:
    """A resolved backbone.

    Attributes:
        name: timm's full name, tag included.
        weights_digest: BLAKE2b of the weights file, or the seed of untrained weights.
        weights_file: Where the weights lie now; not part of the key.
        weights_source: For people: where the weights come from; not part of the key.
        init_seed: Seed of untrained weights, else None.
        image_size: Side in px.
        resize_embeddings: Whether the model must be told the size, as vision transformers must.
        mean: Of the input in 0..1, per channel; one value for a network of grey drawings.
        std: Of the input in 0..1, per channel.
        interpolation: How drawings are resized.
        model_args: Further arguments of timm's constructor.
        precision: `float32` or `bfloat16`.
        timm_version: Whose code the model is.
        changes_digest: BLAKE2b of the file with what fine-tuning changed; None as it came.
        changes_file: Where that file lies now; not part of the key.
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

    def key(self) -> dict[str, Any]:
        """Name all that decides the features; where the files lie does not."""
        key = asdict(self)
        del key["weights_file"], key["weights_source"], key["changes_file"]
        if self.changes_digest is None:
            del key["changes_digest"]
        return {**key, "mean": list(self.mean), "std": list(self.std), "model_args": dict(self.model_args)}

    def as_json(self) -> dict[str, Any]:
        """Give all fields as JSON values."""
        return {**self.key(), "weights_file": self.weights_file, "weights_source": self.weights_source}

    def tuned(self, changes: Path) -> "BackboneInfo":
        """Give the same backbone with what fine-tuning changed of it."""
        return replace(self, changes_digest=digest_file(changes), changes_file=str(changes))

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "BackboneInfo":
        """Rebuild from `as_json`.

        Raises:
            WeightsError: If a field is missing or unknown.
        """
        try:
            return cls(**{**raw, "mean": tuple(raw["mean"]), "std": tuple(raw["std"])})
        except (KeyError, TypeError) as error:
            raise WeightsError(f"backbone description: {error}. It was written by another version of inkfold.") from None


def resolve_backbone(spec: BackboneSpec, descriptions: Path | None = None) -> BackboneInfo:
    """Find the weights and settle everything that decides the features.

    Args:
        spec: What the user asks for.
        descriptions: Directory in which answers are kept, so that a second run needn't import timm.

    Returns:
        The resolved backbone.

    Raises:
        RecipeError: If timm has no such model.
        WeightsError: If there are no weights; the message names each way to get them.
    """
    file = find_weights_file(spec)
    if file is None or descriptions is None:
        return _resolve(spec, file)
    weights_digest = digest_file(file)
    asked = {**asdict(spec), "weights": weights_digest, "sidecar": _sidecar(file), "timm": version("timm"), "form": 1}
    path = descriptions / f"{key_digest(asked)}.json"
    with contextlib.suppress(OSError, ValueError, WeightsError):  # a damaged description is made anew
        info = BackboneInfo.from_json(json.loads(path.read_text(encoding="utf-8")))
        return replace(info, weights_file=str(file), weights_source=str(file))
    info = _resolve(spec, file)
    write_json(path, info.as_json())
    return info


def find_weights_file(spec: BackboneSpec) -> Path | None:
    """Find a local weights file.

    Args:
        spec: What the user asks for.

    Returns:
        The file that the recipe names, else one in INKFOLD_WEIGHTS called after the model, else the one that comes with
        inkfold, else None.

    Raises:
        WeightsError: If the recipe names a file that isn't there or of another kind.
    """
    if spec.weights == UNTRAINED:
        return None
    if spec.weights is not None:
        path = Path(spec.weights).expanduser()
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


def choose_backbone() -> str:
    """Pick a backbone for who names none: EfficientNet-Lite0 where its weights can be had, else `ink-small`.

    Returns:
        Its name.
    """
    spec = BackboneSpec(USUAL)
    try:
        if find_weights_file(spec) is None:
            _download(*_timm_config(USUAL))
    except WeightsError:
        return inksmall.NAME
    return USUAL


def pretrained_overlay(info: BackboneInfo) -> dict[str, Any] | None:
    """Point timm at a weights file, through its own filters and embedding resizing."""
    if info.weights_file is None:
        return None
    return {"file": info.weights_file, "source": "timm", "custom_load": info.weights_file.endswith(".npz")}


def _candidates(name: str) -> list[Path]:
    directories = [Path(part).expanduser() for part in os.environ.get("INKFOLD_WEIGHTS", "").split(os.pathsep) if part]
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
    name, config = _timm_config(spec.name)
    untrained = spec.weights == UNTRAINED
    if not untrained and file is None:
        file = _download(name, config)
    sidecar = _sidecar(file)

    def settle(key: str, default: Any) -> Any:
        asked = getattr(spec, key)
        return asked if asked is not None else sidecar.get(key, default)

    own_size = config.input_size[-1]
    image_size = settle("image_size", own_size)
    return BackboneInfo(
        name=name,
        weights_digest=f"untrained-{spec.seed}-torch-{version('torch')}" if untrained else digest_file(_given(file)),
        weights_file=str(file) if file else None,
        weights_source=f"untrained weights, seed {spec.seed}" if untrained else str(file),
        init_seed=spec.seed if untrained else None,
        image_size=image_size,
        resize_embeddings=config.fixed_input_size and image_size != own_size,
        mean=tuple(settle("mean", config.mean)),
        std=tuple(settle("std", config.std)),
        interpolation=settle("interpolation", config.interpolation),
        model_args=dict(spec.model_args) or sidecar.get("model_args", {}),
        precision=spec.precision,
        timm_version=version("timm"),
    )


def _given(file: Path | None) -> Path:
    assert file is not None
    return file


def _timm_config(name: str) -> tuple[str, Any]:
    """Ask timm for the model's own size, mean, std and interpolation."""
    declare_missing_operators()
    import timm  # noqa: PLC0415 - seconds

    known = inksmall.timm_name(name)
    architecture, _, tag = known.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), 8)
        raise RecipeError(f"backbone.name: timm {version('timm')} has no '{name}'. Near: {', '.join(near) or 'none'}.")
    try:
        config = timm.get_pretrained_cfg(known, allow_unregistered=False)
    except (RuntimeError, KeyError):
        config = None
    if config is None:
        if tag:
            tags = ", ".join(timm.list_pretrained(f"{architecture}.*")) or "none"
            raise RecipeError(f"backbone.name: '{architecture}' has no weights '{tag}'. Known: {tags}.")
        config = timm.create_model(architecture, num_classes=0).pretrained_cfg
    if name == inksmall.NAME:
        return name, config
    return f"{architecture}.{config.tag}" if config.tag else architecture, config


def _download(name: str, config: Any) -> Path:
    """Fetch the weights through the hub's own cache, which answers alone when there is no network."""
    reason = "timm knows of no pretrained weights for it"
    try:
        if config.hf_hub_id:
            return _from_hub(config)
        if config.url:
            from timm.models._hub import download_cached_file  # noqa: PLC0415

            return Path(download_cached_file(config.url))
    except Exception as error:  # the hub's client raises a dozen kinds, each meaning "not had"
        reason = f"the hub can't give them ({type(error).__name__})"
    architecture = name.partition(".")[0]
    raise WeightsError(
        f"no weights for '{name}': {reason}. Give them in one of these ways:\n"
        f"  - a file: backbone.weights=PATH.safetensors (or a .pth that holds weights only)\n"
        f"  - a directory: set INKFOLD_WEIGHTS to one with {name}.safetensors or {architecture}.safetensors\n"
        f"  - the hub: run once with a network, or copy a hub cache here and point HF_HOME at it\n"
        f"  - another backbone: backbone.name={inksmall.NAME} comes with inkfold\n"
        f"  - none: backbone.weights={UNTRAINED} tries the rest with random weights"
    )


def _from_hub(config: Any) -> Path:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache  # noqa: PLC0415
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError  # noqa: PLC0415

    names = [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    for filename in names:
        cached = try_to_load_from_cache(config.hf_hub_id, filename)
        if isinstance(cached, str):
            return Path(cached)
    _check_hub_has_an_address()
    for filename in names[:-1]:
        try:
            return Path(hf_hub_download(config.hf_hub_id, filename))
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            continue
    return Path(hf_hub_download(config.hf_hub_id, names[-1]))


def _check_hub_has_an_address() -> None:
    """Fail at once where there is no network: the hub's client alone would retry for half a minute."""
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE  # noqa: PLC0415

    if HF_HUB_OFFLINE:  # the client refuses at once, a name server may not
        return
    address = urlsplit(ENDPOINT)
    if not urllib.request.getproxies().get(address.scheme):
        socket.getaddrinfo(address.hostname, address.port or 443)
