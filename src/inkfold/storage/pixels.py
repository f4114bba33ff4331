"""The pixel store: uint8 squares on disk, each drawing decoded once for all runs with the same image settings.

Worker processes decode chunks and write whole shards, so that memory stays bounded, nothing large crosses a pipe, and a
killed run continues at the first missing shard.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from inkfold.images.decode import BrokenImage
from inkfold.images.preprocess import FITTING_VERSION, ImageOptions, read_drawing
from inkfold.runtime.parallel import available_cores, map_in_processes
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.hashing import DIGEST_DTYPE, digest
from inkfold.storage.shards import ShardSet

log = logging.getLogger("inkfold.storage")

SHARD_BYTES = 64 << 20
SHARD_ROWS = 512


@dataclass(frozen=True, slots=True)
class BrokenFile:
    """A drawing that can't be read.

    Attributes:
        index: The file's row number among the requested files.
        kind: `missing_file`, or the kind of `images.decode.BrokenImage`.
        message: What was got, what was expected and what to do.
    """

    index: int
    kind: str
    message: str


def digest_files(files: Sequence[str], progress: Progress = silent) -> tuple[Shaped[np.ndarray, " n"], list[BrokenFile]]:
    """Compute each file's digest. All bytes are read each time, since modification times aren't reliable.

    Args:
        files: Absolute path of each file; the results have their order.
        progress: Called after each thousand files.

    Returns:
        The digests, empty for unreadable files, and the unreadable files.
    """
    digests = np.zeros(len(files), DIGEST_DTYPE)
    broken = []
    with ThreadPoolExecutor(min(8, 2 * available_cores())) as pool:
        for index, answer in enumerate(pool.map(_digest_file, files)):
            if isinstance(answer, str):
                digests[index] = answer
            else:
                broken.append(missing_file(index, answer))
            if (index + 1) % 1000 == 0 or index + 1 == len(files):
                progress("reading files", index + 1, len(files))
    return digests, broken


class ImageStore:
    """Decoded drawings under one set of image settings.

    Args:
        parent: Directory that holds all pixel stores.
        options: Image options: size, resizing, colour, inversion, interpolation and the pixel limit.
    """

    def __init__(self, parent: Path, options: ImageOptions) -> None:
        self.options = options
        key = {**options.key(), "version": FITTING_VERSION}
        self.grey = ShardSet(parent, f"grey-{options.size_px}", {**key, "channels": 1})
        self.colour = ShardSet(parent, f"rgb-{options.size_px}", {**key, "channels": 3})

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to other processes without the index, which each of them reads by itself."""
        return ImageStore, (self.grey.directory.parent, self.options)

    def missing(self, digests: Shaped[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Return which drawings aren't decoded yet."""
        absent = self.grey.missing(digests)
        absent[absent] = self.colour.missing(digests[absent])
        return absent

    def look(self) -> None:
        """Read again which drawings the store has, without reading their pixels; see `ShardSet.look`."""
        self.grey.look()
        self.colour.look()

    def build(
        self, files: Sequence[str], digests: Shaped[np.ndarray, " n"], progress: Progress = silent, workers: int = 0
    ) -> list[BrokenFile]:
        """Decode the drawings that are missing.

        Args:
            files: Absolute paths of the drawings.
            digests: Digest of each file's bytes, in the order of `files`.
            progress: Called after each shard.
            workers: Number of processes; 0 takes one per core.

        Returns:
            The drawings that can't be decoded, with their row numbers in `files`.

        Raises:
            CacheError: If the disk is full, or a worker was killed.
        """
        self.grey.create()
        self.colour.create()
        if not self.missing(digests).any():
            return []
        with self.grey.lock():
            _, first = np.unique(digests, return_index=True)
            todo = first[
                self.missing(digests[first])
            ]  # by digest, as chunks of features do, whose drawings then share few shards
            log.info(
                "%d of %d drawings are in %s, decoding %d", len(first) - len(todo), len(first), self.grey.directory, len(todo)
            )
            broken = self._decode(files, digests, todo, progress, workers or available_cores())
        return spread_broken(broken, digests)

    def read(self, digests: Shaped[np.ndarray, " n"]) -> UInt8[np.ndarray, "n size size *channels"]:
        """Read drawings that are in the store.

        Args:
            digests: Digests of drawings that `build` has decoded.

        Returns:
            Pixels (n, size, size) if all are grey, otherwise (n, size, size, 3).
        """
        in_colour = ~self.grey.present(digests)
        if not self.colour.present(digests[in_colour]).all():  # another instance may have decoded them since the last look
            in_colour = self.grey.missing(digests)
            self.colour.missing(digests[in_colour])
        if not in_colour.any():
            return self.grey.read(digests)
        pixels = np.empty((len(digests), self.options.size_px, self.options.size_px, 3), np.uint8)
        pixels[in_colour] = self.colour.read(digests[in_colour])
        if not in_colour.all():
            pixels[~in_colour] = self.grey.read(digests[~in_colour])[..., None]
        return pixels

    def _decode(
        self, files: Sequence[str], digests: np.ndarray, todo: np.ndarray, progress: Progress, workers: int
    ) -> list[BrokenFile]:
        rows = min(SHARD_ROWS, max(16, SHARD_BYTES // (3 * self.options.size_px**2)), -(-len(todo) // workers))
        chunks = [todo[i : i + rows] for i in range(0, len(todo), max(rows, 1))]
        tasks = [(self, [str(files[i]) for i in chunk], digests[chunk], chunk) for chunk in chunks]
        counts = [len(chunk) for chunk in chunks]
        answers = map_in_processes(_decode_chunk, tasks, counts, "decoding", progress, workers)
        return [file for broken in answers for file in broken]


def _digest_file(file: str) -> str | OSError:
    try:
        return digest(Path(file).read_bytes())
    except OSError as error:
        return error


def read_known(
    files: Sequence[str],
    digests: Shaped[np.ndarray, " n"],
    indices: Shaped[np.ndarray, " n"],
    read: Callable[[bytes], UInt8[np.ndarray, "..."]],
) -> tuple[list[tuple[bytes, UInt8[np.ndarray, "..."]]], list[BrokenFile]]:
    """Read files whose digests are known.

    Args:
        files: Absolute path of each file, in the order of `digests`.
        digests: Digest that each file's bytes had when it was first read.
        indices: The files' row numbers among all requested files.
        read: Turns a file's bytes into pixels, or raises `BrokenImage`.

    Returns:
        Digest and pixels of each readable file, and the files that are unreadable or have changed.
    """
    known: list[tuple[bytes, np.ndarray]] = []
    broken = []
    for file, expected, index in zip(files, digests, indices, strict=True):
        try:
            data = Path(file).read_bytes()
            if digest(data).encode() != expected:
                raise BrokenImage("changed", "the file changed during the run. Run again when nothing writes to it.")
            known.append((expected, read(data)))
        except BrokenImage as error:
            broken.append(BrokenFile(int(index), error.kind, str(error)))
        except OSError as error:
            broken.append(missing_file(int(index), error))
    return known, broken


def spread_broken(broken: Sequence[BrokenFile], digests: Shaped[np.ndarray, " n"]) -> list[BrokenFile]:
    """Extend a list of broken files to all files with the same digests, in the files' order."""
    by_digest = {digests[file.index]: file for file in broken}
    return [replace(by_digest[name], index=index) for index, name in enumerate(digests) if name in by_digest]


def missing_file(index: int, error: OSError) -> BrokenFile:
    """Describe a file that the system can't read."""
    return BrokenFile(index, "missing_file", f"{error.strerror}. Restore the file or leave it out.")


def _decode_chunk(store: ImageStore, files: list[str], digests: np.ndarray, indices: np.ndarray) -> list[BrokenFile]:
    known, broken = read_known(files, digests, indices, lambda data: read_drawing(data, store.options))
    decoded: dict[int, list[tuple[bytes, np.ndarray]]] = {2: [], 3: []}
    for name, pixels in known:
        decoded[pixels.ndim].append((name, pixels))
    for ndim, shard_set in ((2, store.grey), (3, store.colour)):
        if decoded[ndim]:
            names, rows = zip(*decoded[ndim], strict=True)
            shard_set.append(np.array(names, DIGEST_DTYPE), np.stack(rows))
    return broken
