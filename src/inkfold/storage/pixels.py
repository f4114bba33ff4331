"""Decodes each drawing once for all stores that lack a row of it; and the pixel store, whose rows are uint8 squares.

Worker processes decode chunks and write whole shards, so that memory stays bounded, nothing large crosses a pipe, and a
killed run continues at the first missing shard.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from jaxtyping import Bool, Int64, Shaped, UInt8

from inkfold.images.decode import DEFAULT_PIXEL_LIMIT, BrokenImage
from inkfold.images.page import Page
from inkfold.images.preprocess import FITTING_VERSION, ImageOptions, square_of
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


class PageStore(Protocol):
    """A store on disk with a row of each drawing, which is made from the drawing's page and found by its file's digest."""

    @property
    def directory(self) -> Path:
        """Directory by which the store is known, and in the order of which stores are locked."""

    @property
    def pixel_limit(self) -> int:
        """Drawings with more pixels are refused as broken."""

    @property
    def row_bytes(self) -> int:
        """Most bytes that a row takes."""

    def create(self) -> None:
        """Create the store's directories."""

    def lock(self) -> AbstractContextManager[None]:
        """Hold the lock that keeps two runs from computing the same rows."""

    def missing(self, digests: Shaped[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Read the directories again, and return which drawings have no row."""

    def row(self, page: Page) -> Shaped[np.ndarray, "..."]:
        """Make a drawing's row from its page."""

    def append(self, digests: Shaped[np.ndarray, " n"], rows: Sequence[np.ndarray]) -> None:
        """Write the rows of some drawings."""


class SingleSetStore(Protocol):
    """A `PageStore` whose rows all lie in one set of shards; what makes a row is its own.

    Attributes:
        name: First part of the directory's name.
        made_by: What decides the rows besides the files' bytes and the pixel limit, such as versions of the code; JSON values.
        shards: The rows on disk, found by the digest of the drawing's file.
        pixel_limit: Drawings with more pixels are refused as broken.

    Args:
        parent: Directory that holds all sets of such rows.
        pixel_limit: Drawings with more pixels are refused as broken.
    """

    name: ClassVar[str]
    made_by: ClassVar[Mapping[str, Any]]
    shards: ShardSet
    pixel_limit: int

    def __init__(self, parent: Path, pixel_limit: int = DEFAULT_PIXEL_LIMIT) -> None:
        self.pixel_limit = pixel_limit
        self.shards = ShardSet(parent, self.name, {**self.made_by, "pixel_limit": pixel_limit})

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""

    def row(self, page: Page) -> Shaped[np.ndarray, "..."]:
        """Make a drawing's row from its page."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to other processes without the index, which each of them reads by itself."""
        return type(self), (self.shards.directory.parent, self.pixel_limit)

    @property
    def directory(self) -> Path:
        """The store's directory."""
        return self.shards.directory

    def create(self) -> None:
        """Create the directory."""
        self.shards.create()

    def lock(self) -> AbstractContextManager[None]:
        """Hold the lock that keeps two runs from computing the same rows."""
        return self.shards.lock()

    def missing(self, digests: Shaped[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Read the directory again, and return which drawings have no row."""
        return self.shards.missing(digests)

    def append(self, digests: Shaped[np.ndarray, " n"], rows: Sequence[np.ndarray]) -> None:
        """Write the rows of some drawings."""
        self.shards.append(digests, np.stack(rows))

    def build(
        self, files: Sequence[str], digests: Shaped[np.ndarray, " n"], progress: Progress = silent, workers: int = 0
    ) -> list[BrokenFile]:
        """Compute the rows that are missing; takes, returns and raises the same as `build_rows`."""
        return build_rows({self: np.ones(len(digests), bool)}, files, digests, progress, workers)

    def read_rows(self, digests: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, "n ..."]:
        """Read rows that the store has, or that were written since its directory was last read."""
        if not self.shards.present(digests).all():
            self.shards.look()
        return self.shards.read(digests)


def build_rows(
    wanted: Mapping[PageStore, Bool[np.ndarray, " n"]],
    files: Sequence[str],
    digests: Shaped[np.ndarray, " n"],
    progress: Progress = silent,
    workers: int = 0,
) -> list[BrokenFile]:
    """Read and decode each drawing once, and make from it the rows that stores lack.

    Args:
        wanted: By store, True for the drawings of which it shall have a row.
        files: Absolute paths of the drawings.
        digests: Digests of the files' bytes.
        progress: Called after each chunk of drawings.
        workers: Number of processes; 0 takes one per core.

    Returns:
        The drawings that can't be decoded, with their row numbers in `files`.

    Raises:
        CacheError: If the disk is full, or a worker was killed.
    """
    names, first = np.unique(digests, return_index=True)  # by digest, as features are computed: they then read few shards
    needed = {store: np.isin(names, digests[rows]) for store, rows in wanted.items()}
    lacking = [store for store, rows in needed.items() if _lacks(store, names[rows])]
    with ExitStack() as locks:
        for store in sorted(lacking, key=lambda store: store.directory):  # in one order: no two runs wait for each other
            locks.enter_context(store.lock())
        absent = {store: _absent(store, names, needed[store]) for store in lacking}
        todo = np.flatnonzero(np.any([np.zeros(len(names), bool), *absent.values()], axis=0))
        for store, rows in absent.items():
            log.info(
                "%d of %d drawings are in %s, decoding %d", len(names) - rows.sum(), len(names), store.directory, rows.sum()
            )
        chunks = _chunks(todo, lacking, workers or available_cores())
        tasks = []
        for chunk in chunks:
            masks = [(store, rows[chunk]) for store, rows in absent.items()]
            tasks.append((masks, [str(files[row]) for row in first[chunk]], names[chunk], first[chunk]))
        answers = map_in_processes(_decode_chunk, tasks, list(map(len, chunks)), "decoding", progress, workers)
    return spread_broken([file for broken in answers for file in broken], digests)


def count_missing(wanted: Mapping[PageStore, Bool[np.ndarray, " n"]], digests: Shaped[np.ndarray, " n"]) -> int:
    """Count the drawings that `build_rows` would decode: files of equal bytes once."""
    missing = np.zeros(len(digests), bool)
    for store, rows in wanted.items():
        missing[rows] |= store.missing(digests[rows])
    return len(np.unique(digests[missing]))


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

    @property
    def directory(self) -> Path:
        """Directory of the grey squares, whose lock is both's."""
        return self.grey.directory

    @property
    def pixel_limit(self) -> int:
        """Drawings with more pixels are refused as broken."""
        return self.options.pixel_limit

    @property
    def row_bytes(self) -> int:
        """Bytes of a coloured square."""
        return 3 * self.options.size_px**2

    def create(self) -> None:
        """Create both directories."""
        self.grey.create()
        self.colour.create()

    def lock(self) -> AbstractContextManager[None]:
        """Hold the lock that keeps two runs from decoding the same drawings."""
        return self.grey.lock()

    def missing(self, digests: Shaped[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Return which drawings aren't decoded yet."""
        absent = self.grey.missing(digests)
        absent[absent] = self.colour.missing(digests[absent])
        return absent

    def look(self) -> None:
        """Read again which drawings the store has, without reading their pixels; see `ShardSet.look`."""
        self.grey.look()
        self.colour.look()

    def row(self, page: Page) -> UInt8[np.ndarray, "size size *channels"]:
        """Make a drawing's square."""
        return square_of(page, self.options)

    def append(self, digests: Shaped[np.ndarray, " n"], rows: Sequence[np.ndarray]) -> None:
        """Write squares, the grey ones and the coloured ones apart."""
        for ndim, shard_set in ((2, self.grey), (3, self.colour)):
            own = [place for place, row in enumerate(rows) if row.ndim == ndim]
            if own:
                shard_set.append(digests[own], np.stack([rows[place] for place in own]))

    def build(
        self, files: Sequence[str], digests: Shaped[np.ndarray, " n"], progress: Progress = silent, workers: int = 0
    ) -> list[BrokenFile]:
        """Decode the drawings that are missing; takes, returns and raises the same as `build_rows`."""
        return build_rows({self: np.ones(len(digests), bool)}, files, digests, progress, workers)

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


def _digest_file(file: str) -> str | OSError:
    try:
        return digest(Path(file).read_bytes())
    except OSError as error:
        return error


def _lacks(store: PageStore, digests: Shaped[np.ndarray, " n"]) -> bool:
    """Return whether a store lacks one of some drawings; its directories are created."""
    store.create()
    return bool(store.missing(digests).any())


def _absent(store: PageStore, names: Shaped[np.ndarray, " n"], needed: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Mark the drawings that are needed and that the store lacks."""
    absent = needed.copy()
    absent[needed] = store.missing(names[needed])
    return absent


def _chunks(todo: Int64[np.ndarray, " n"], stores: Sequence[PageStore], workers: int) -> list[Int64[np.ndarray, " rows"]]:
    """Divide drawings into chunks, each of which becomes a shard of every store."""
    if not len(todo):
        return []
    rows = min(SHARD_ROWS, max(16, SHARD_BYTES // max(store.row_bytes for store in stores)), -(-len(todo) // workers))
    return [todo[start : start + rows] for start in range(0, len(todo), rows)]


def _decode_chunk(
    wanted: Sequence[tuple[PageStore, Bool[np.ndarray, " n"]]], files: list[str], digests: np.ndarray, indices: np.ndarray
) -> list[BrokenFile]:
    """Make and store the rows of some drawings, and return the broken ones."""
    rows: list[list[tuple[bytes, np.ndarray]]] = [[] for _ in wanted]
    limit = _shared_pixel_limit([store for store, _ in wanted])
    broken = []
    for place, (file, expected, index) in enumerate(zip(files, digests.tolist(), indices.tolist(), strict=True)):
        try:
            page = Page(read_unchanged(file, expected), limit)
            made = [(number, store.row(page)) for number, (store, lacking) in enumerate(wanted) if lacking[place]]
        except BrokenImage as error:
            broken.append(BrokenFile(index, error.kind, str(error)))
        except OSError as error:
            broken.append(missing_file(index, error))
        else:
            for number, row in made:
                rows[number].append((expected, row))
    for (store, _), own in zip(wanted, rows, strict=True):
        if own:
            store.append(np.array([name for name, _ in own], DIGEST_DTYPE), [row for _, row in own])
    return broken


def read_unchanged(file: str, expected: bytes) -> bytes:
    """Read a file whose digest is known.

    Args:
        file: Absolute path of the file.
        expected: Digest that its bytes had when the data set was read.

    Returns:
        The file's bytes.

    Raises:
        BrokenImage: If the file has changed since.
        OSError: If it can't be read any more.
    """
    data = Path(file).read_bytes()
    if digest(data).encode() != expected:
        raise BrokenImage("changed", "the file changed during the run. Run again when nothing writes to it.")
    return data


def _shared_pixel_limit(stores: Sequence[PageStore]) -> int:
    [limit] = {store.pixel_limit for store in stores}
    return limit


def spread_broken(broken: Sequence[BrokenFile], digests: Shaped[np.ndarray, " n"]) -> list[BrokenFile]:
    """Extend a list of broken files to all files with the same digests, in the files' order."""
    by_digest = {digests[file.index]: file for file in broken}
    return [replace(by_digest[name], index=index) for index, name in enumerate(digests) if name in by_digest]


def missing_file(index: int, error: OSError) -> BrokenFile:
    """Describe a file that the system can't read."""
    return BrokenFile(index, "missing_file", f"{error.strerror}. Restore the file or leave it out.")
