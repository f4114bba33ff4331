"""What timm knows of a model, and its pretrained weights: from the hub's own cache, which answers alone without a network."""

import difflib
import logging
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


def timm_config(name: str) -> tuple[str, Any]:
    """Ask timm for a model's own size, mean, std and interpolation.

    Args:
        name: With or without a tag.

    Returns:
        timm's full name and its configuration.

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
    """Fetch pretrained weights.

    Args:
        name: timm's full name.
        config: timm's configuration.

    Returns:
        The file, in the hub's own cache.

    Raises:
        WeightsError: If they can't be had; the message names each way to get them.
    """
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
        f"  - none: backbone.weights=untrained tries the rest with random weights"
    )


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
