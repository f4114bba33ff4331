"""Lists and prunes the cache: the pixel store, the feature bank, the signatures, the statistics and served models.

Beside the cache lie the sets of drawings that Python programs had in memory (`kept_drawings`). They are listed, too, but can't
be computed again: those that a run names are removed only by their own name.
"""

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from inkfold.storage.shards import described

DRAWINGS = "drawings"
SORTS = ("pixels", "features", "signatures", "statistics", "served", DRAWINGS)
ABOUT, RUNS = "set.json", "runs.txt"  # of a set of drawings: what it holds, and the runs that were trained on it
SHOWN_RUNS = 3
DAY_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One directory of the cache.

    Attributes:
        name: `pixels/NAME`, `features/NAME`, `signatures/NAME`, `statistics/NAME` or `served/NAME`.
        path: Absolute path of the directory.
        bytes: Size of all its files on disk, in bytes.
        shards: Number of files that hold rows: pixels, features or signatures.
        age_days: Days since something was last added.
        description: What the rows are and how they were made, in a few words.
    """

    name: str
    path: Path
    bytes: int
    shards: int
    age_days: float
    description: str


def list_cache(home: Path) -> list[CacheEntry]:
    """List the directories of the cache in `home` by name; none if there is no cache."""
    directories = [path for sort in SORTS for path in sorted((home / sort).glob("[!.]*")) if path.is_dir()]
    return [_entry(home, path) for path in directories]


def prune_cache(home: Path, names: Sequence[str] = (), *, older_than_days: float | None = None) -> list[CacheEntry]:
    """Remove directories from the cache, and return their entries. What is removed is computed again when it is needed.

    Args:
        home: inkfold's directory of caches, whose sub-directories hold the entries.
        names: Names of the entries to remove, with or without `features/`; empty for all that are old enough, but for sets of
            drawings that runs were trained on.
        older_than_days: Entries are kept if something was added within so many days; None removes entries of any age.
    """
    chosen = [
        entry
        for entry in list_cache(home)
        if (not (names or _is_needed(entry.path)) or entry.name in names or entry.path.name in names)
        and (older_than_days is None or entry.age_days >= older_than_days)
    ]
    for entry in chosen:
        shutil.rmtree(entry.path)
    return chosen


def _entry(home: Path, path: Path) -> CacheEntry:
    files = [(file, file.stat()) for file in path.rglob("*") if file.is_file()]
    newest = max((status.st_mtime for _, status in files), default=path.stat().st_mtime)
    return CacheEntry(
        name=path.relative_to(home).as_posix(),
        path=path,
        bytes=sum(status.st_size for _, status in files),
        shards=sum(file.suffix == ".safetensors" for file, _ in files),
        age_days=(time.time() - newest) / DAY_S,
        description=_describe_set(path) if path.parent.name == DRAWINGS else _describe(path),
    )


def _is_needed(directory: Path) -> bool:
    return directory.parent.name == DRAWINGS and bool(runs_of(directory))


def runs_of(directory: Path) -> list[str]:
    """Return the directories of the runs that were trained on a set of drawings, as they were named then."""
    try:
        return (directory / RUNS).read_text("utf-8").splitlines()
    except OSError:
        return []


def _describe_set(directory: Path) -> str:
    """Say what a set of drawings holds, and for which runs it is kept."""
    try:
        about = json.loads((directory / ABOUT).read_text("utf-8"))
        what = f"{about['drawings']} drawings of {about['classes']} classes from Python"
    except (OSError, ValueError, KeyError, TypeError):
        return "no description"
    runs = [run if Path(run).is_dir() else f"{run} (gone)" for run in runs_of(directory)]
    more = f" and {len(runs) - SHOWN_RUNS} more" if len(runs) > SHOWN_RUNS else ""
    return f"{what}; for {', '.join(runs[:SHOWN_RUNS])}{more}" if runs else f"{what}; no run needs them"


def _describe(directory: Path) -> str:
    key = described(directory)
    if key is None:
        return "no description"
    if "backbone" in key:
        backbone = key["backbone"]
        name = f"{backbone['name']}, all layers," if backbone.get("features") == "layers" else backbone["name"]
        return f"{name} {backbone['image_size']} px {backbone['precision']}, {key['pixels']['fit']}"
    if "served" in key:
        return f"the exported model of {key['served']}"
    if "signature" in key:
        return f"{key.get('side')} px, ink centred and scaled"
    if "statistics" in key:
        return "size, ink and light of pages"
    return f"{key.get('size_px')} px, resize {key.get('fit')}, colour {key.get('colour')}, channels {key.get('channels')}"


def home() -> Path:
    """Return inkfold's cache directory, `INKFOLD_HOME` or else the platform's, which need not exist yet."""
    configured = os.environ.get("INKFOLD_HOME")
    return Path(configured).expanduser() if configured else platformdirs.user_cache_path("inkfold", appauthor=False)
