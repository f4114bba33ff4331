"""Which weights are at hand: in the directories of INKFOLD_WEIGHTS, in the hub's cache, or on the hub if it answers."""

import logging
import os
import threading
import urllib.error
import urllib.request
from itertools import islice
from pathlib import Path

from inkfold.models.weights import SUFFIXES

log = logging.getLogger("inkfold.models")

CACHED_AT_MOST = 1000  # repositories of the hub's cache that are looked at
CACHED_PREFIX = "models--timm--"
CACHED_FILES = ("model.safetensors", "pytorch_model.bin")
ANSWER_S = 2.0


def local_names() -> list[str]:
    """List what the files of weights in INKFOLD_WEIGHTS are named after, each name once; timm may have no such model."""
    directories = [Path(part).expanduser() for part in os.environ.get("INKFOLD_WEIGHTS", "").split(os.pathsep) if part]
    files = [file for directory in directories if directory.is_dir() for file in sorted(directory.iterdir())]
    return list(dict.fromkeys(file.stem for file in files if file.suffix in SUFFIXES))


def cached_names() -> list[str]:
    """List timm's models whose weights are whole in the hub's cache, by their full names.

    Only directories are read, at most 1,000 of them, so that a cache of terabytes or a broken one costs no time.
    """
    try:
        with os.scandir(_cache_directory()) as entries:
            found = sorted(entry.name for entry in islice(entries, CACHED_AT_MOST))
    except OSError:
        return []
    names = [name.removeprefix(CACHED_PREFIX) for name in found if name.startswith(CACHED_PREFIX)]
    return [name for name in names if _is_cached(name)]


def _cache_directory() -> str:
    from huggingface_hub.constants import HF_HUB_CACHE  # noqa: PLC0415 - 100 ms

    return HF_HUB_CACHE


def _is_cached(name: str) -> bool:
    """Return whether one of the files that timm takes is there, and not empty."""
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - 100 ms

    for file in CACHED_FILES:
        try:
            path = try_to_load_from_cache(f"timm/{name}", file, cache_dir=_cache_directory())
            if isinstance(path, str) and Path(path).stat().st_size > 0:
                return True
        except (OSError, ValueError):  # links to nowhere or in a circle, no permission, a name that is none
            continue
    return False


def hub_answers() -> bool:
    """Return whether the hub can be reached, within about two seconds; never where HF_HUB_OFFLINE is set."""
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE  # noqa: PLC0415 - 100 ms

    if HF_HUB_OFFLINE:
        log.info("HF_HUB_OFFLINE is set: no backbones are fetched")
        return False
    answers: list[bool] = []
    address = f"{ENDPOINT}/api/models/timm/resnet18.a1_in1k"
    # In a thread, as a name server may take longer than the timeout, which is for connections.
    asking = threading.Thread(target=lambda: answers.append(_answers(address)), daemon=True)
    asking.start()
    asking.join(ANSWER_S + 0.5)
    reachable = answers == [True]
    log.info("%s %s", ENDPOINT, "answers" if reachable else f"doesn't answer within {ANSWER_S:g} s: no backbones are fetched")
    return reachable


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=ANSWER_S) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, ValueError, urllib.error.URLError):
        return False
