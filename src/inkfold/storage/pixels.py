"""The pixel store: each drawing decoded once, for all runs with the same image settings, as uint8 squares on disk.

Worker processes decode chunks and write whole shards, so that memory stays bounded, nothing large crosses a pipe, and a
killed run continues at the first missing shard.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
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
        index: Its place among the files asked for.
        kind: `missing_file`, or what `images.BrokenImage` says.
        message: Got, expected, what to do.
    """

    index: int
    kind: str
    message: str


def digest_files(files: Sequence[str], progress: Progress = silent) -> tuple[Shaped[np.ndarray, " n"], list[BrokenFile]]:
    """Name each file by its bytes. Every byte is read each time: dates lie, content doesn't.

    Args:
        files: Absolute paths.
        progress: Told of each thousand.

    Returns:
        The digests, empty where a file can't be read, and the files that can't be.
    """
    digests = np.zeros(len(files), DIGEST_DTYPE)
    broken = []
    with ThreadPoolExecutor(min(8, 2 * available_cores())) as pool:
        for index, answer in enumerate(pool.map(_digest_file, files)):
            if isinstance(answer, str):
                digests[index] = answer
            else:
                broken.append(_missing(index, answer))
            if (index + 1) % 1000 == 0 or index + 1 == len(files):
                progress("reading files", index + 1, len(files))
    return digests, broken


class ImageStore:
    """Decoded drawings under one set of image settings.

    Args:
        parent: Directory of all pixel stores.
        options: Size, fit, colour, inversion, interpolation and the pixel limit.
    """

    def __init__(self, parent: Path, options: ImageOptions) -> None:
        self.options = options
        key = {**asdict(options), "version": FITTING_VERSION}
        self.grey = ShardSet(parent, f"grey-{options.size_px}", {**key, "channels": 1})
        self.colour = ShardSet(parent, f"rgb-{options.size_px}", {**key, "channels": 3})

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to other processes without the index, which each of them reads by itself."""
        return ImageStore, (self.grey.directory.parent, self.options)

    def missing(self, digests: Shaped[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Tell which drawings aren't decoded yet."""
        absent = self.grey.missing(digests)
        absent[absent] = self.colour.missing(digests[absent])
        return absent

    def look(self) -> None:
        """Learn anew what is in the store, without reading the drawings; see `ShardSet.look`."""
        self.grey.look()
        self.colour.look()

    def build(
        self, files: Sequence[str], digests: Shaped[np.ndarray, " n"], progress: Progress = silent, workers: int = 0
    ) -> list[BrokenFile]:
        """Decode what is missing.

        Args:
            files: Absolute paths.
            digests: Of the files' bytes.
            progress: Told after each shard.
            workers: Processes; 0 takes a process a core.

        Returns:
            The drawings that can't be decoded, by their place in `files`.

        Raises:
            CacheError: If the disk is full, or a worker was killed.
        """
        self.grey.create()
        self.colour.create()
        if not self.missing(digests).any():
            return []
        with self.grey.lock():
            _, first = np.unique(digests, return_index=True)
            todo = first[self.missing(digests[first])]  # by digest, as cells read them: a cell's drawings share few shards
            log.info(
                "%d of %d drawings are in %s, decoding %d", len(first) - len(todo), len(first), self.grey.directory, len(todo)
            )
            broken = self._decode(files, digests, todo, progress, workers or available_cores())
        return spread_broken(broken, digests)

    def read(self, digests: Shaped[np.ndarray, " n"]) -> UInt8[np.ndarray, "n size size *channels"]:
        """Gather drawings that are in the store.

        Args:
            digests: Of drawings that `build` has decoded.

        Returns:
            (n, size, size) where all are grey, else (n, size, size, 3).
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
        return [one for broken in answers for one in broken]


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
    """Read files that are named by their bytes already.

    Args:
        files: Absolute paths.
        digests: Of the bytes that they had.
        indices: Their places among all files asked for.
        read: Turns a file's bytes into pixels, or raises `BrokenImage`.

    Returns:
        Digest and pixels of each file that can be read, and those that can't or have changed since.
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
            broken.append(_missing(int(index), error))
    return known, broken


def spread_broken(broken: Sequence[BrokenFile], digests: Shaped[np.ndarray, " n"]) -> list[BrokenFile]:
    """Say of every copy of a broken file that it is broken.

    Args:
        broken: One of each, by its place in `digests`.
        digests: Of all files.

    Returns:
        All of them, in the files' order.
    """
    by_digest = {digests[one.index]: one for one in broken}
    return [replace(by_digest[name], index=index) for index, name in enumerate(digests) if name in by_digest]


def _missing(index: int, error: OSError) -> BrokenFile:
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
