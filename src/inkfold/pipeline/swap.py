"""Replaces a finished run's files by those of another one, so that a kill at any moment leaves one of the two.

The other run lies whole in a directory below. A list of its files is written first; then each is moved into its place, the
manifest last, and the list is removed. Whoever opens a run that was left in between finishes the moves before reading it.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from inkfold.errors import CacheError
from inkfold.pipeline.manifest import ADDED, MANIFEST, SWAP, finish_swap
from inkfold.storage.sealed import read_sealed, write_sealed


def swap_in(run: Path, files: Sequence[str]) -> None:
    """Put the run that lies in `next/` below another run's directory into its place.

    Args:
        run: The directory of a run, which need not be finished.
        files: Names of all files of the other run, relative to its directory; its manifest is moved last.

    Raises:
        CacheError: If the directory can't be written.
    """
    moved = [name for name in files if name != MANIFEST]
    write_sealed(run / SWAP, {"move": [*moved, MANIFEST], "remove": _outdated(run, files)})
    finish_swap(run)
    if (run / SWAP).is_file():
        raise CacheError(f"{run}: its files can't be replaced. Make the directory writable and run the same command again.")


def all_files(run: Path) -> list[str]:
    """List the files of a run, its members' too, as far as their manifests name them; none where there is no manifest.

    Args:
        run: The directory of a run or an ensemble.

    Returns:
        Names relative to the directory, each once; members' manifests among them, but not the run's own.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        own = [str(name) for name in read_sealed(run / MANIFEST, must_be_sealed=False)["files"]]
        members = [name.removesuffix(f"/{MANIFEST}") for name in own if name.endswith(f"/{MANIFEST}")]
        return [*own, *(f"{member}/{name}" for member in members for name in all_files(run / member))]
    return []


def _outdated(run: Path, files: Sequence[str]) -> list[str]:
    """List the files of the run that is replaced which the other one doesn't have, and those that were added to it."""
    return sorted({*all_files(run), *ADDED} - {*files, MANIFEST})
