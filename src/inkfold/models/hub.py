"""Looks up a model's configuration in timm, and its pretrained weights in the hub's cache or on the hub."""

import difflib
import logging
import re
import socket
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from inkfold.errors import RecipeError, WeightsError
from inkfold.models import ink_small as inksmall
from inkfold.models.torchvision_compat import declare_missing_operators

log = logging.getLogger("inkfold.models")
DIGEST_IN_NAME = re.compile(r"-([a-f0-9]{8,})\.")  # as in resnet18-5c106cde.pth: the first digits of its SHA-256


def timm_config(name: str) -> tuple[str, Any]:
    """Look up a model's full name in timm, and its image size, mean, std and interpolation.

    Args:
        name: The model's name, with or without a tag.

    Raises:
        RecipeError: If timm has no such model or no such weights.
    """
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


def download(name: str, config: Any) -> Path:
    """Find pretrained weights in the hub's cache, or fetch them from the hub.

    Args:
        name: The model's full name in timm.
        config: timm's configuration of the model, which says where its weights are.

    Returns:
        Path of the file in the hub's or PyTorch's own cache.

    Raises:
        WeightsError: If the weights can't be found or fetched; the message lists the ways to provide them.
    """
    reason = "timm knows of no pretrained weights for it"
    try:
        if config.hf_hub_id:
            return _from_hub(config)
        if config.url:
            return _from_address(config.url)
    except Exception as error:  # the hub's client raises a dozen kinds, each meaning "not had"
        reason = f"the hub can't give them ({type(error).__name__})"
    architecture = name.partition(".")[0]
    raise WeightsError(
        f"no weights for '{name}': {reason}. Give them in one of these ways:\n"
        f"  - a file: backbone.weights=PATH.safetensors (or a .pth that holds weights only)\n"
        f"  - a directory: set INKFOLD_WEIGHTS to one with {name}.safetensors or {architecture}.safetensors\n"
        f"  - the hub: run once with a network, or copy a hub cache here and point HF_HOME at it\n"
        f"  - another backbone: backbone.name={inksmall.NAME} comes with inkfold\n"
        f"  - none: backbone.weights=untrained tries the rest with random weights"
    )


def _from_address(url: str) -> Path:
    """Fetch a file into PyTorch's own cache, where timm puts it too; a digest in its name is checked."""
    import torch  # noqa: PLC0415 - a second

    target = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        stated = DIGEST_IN_NAME.search(target.name)
        torch.hub.download_url_to_file(url, str(target), stated and stated[1], progress=False)
    return target


def _from_hub(config: Any) -> Path:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache  # noqa: PLC0415
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError  # noqa: PLC0415

    names = [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    for filename in names:
        cached = try_to_load_from_cache(config.hf_hub_id, filename)
        if isinstance(cached, str):
            log.info("%s of %s is in the hub's cache", filename, config.hf_hub_id)
            return Path(cached)
    _check_hub_has_an_address()
    log.info("%s isn't in the hub's cache: asking the hub for it", config.hf_hub_id)
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
