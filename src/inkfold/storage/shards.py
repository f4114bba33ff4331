"""Stores rows on disk by the digest of their source: the mechanism below the pixel store and the feature bank.

A shard set is a directory of safetensors files, each with some rows and the digests of their sources. A shard is complete or
absent, never changed, and named by its digests, so writers need no coordination: two at once leave the same bytes, and a
killed writer loses at most the current shard. `key.json` describes everything else that decides the rows; its digest is part of
the directory's name, so rows with another description are never found.
"""

import contextlib
import json
import logging
import math
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from inkfold.errors import CacheError
from inkfold.runtime.memory import is_lack_of_memory
from inkfold.storage.files import atomic_file, sweep_temp_files, write_json
from inkfold.storage.hashing import DIGEST_BYTES, DIGEST_DTYPE, digest, key_digest
from inkfold.storage.locks import FileLock, Timeout

log = logging.getLogger("inkfold.storage")

OPEN_SHARDS = 64  # each memory map holds a file descriptor, of which a process often has 1,024
HEADER_LIMIT_BYTES = 1 << 20
_DTYPES: dict[str, np.dtype[Any]] = {"U8": np.dtype(np.uint8), "F16": np.dtype(np.float16), "F32": np.dtype(np.float32)}


@dataclass(frozen=True, slots=True)
class _Shard:
    """One file: offset, type, shape and checksum of its rows."""

    path: Path
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    checksum: int

    def open(self) -> np.ndarray:
        return np.memmap(self.path, dtype=self.dtype, mode="r", offset=self.offset, shape=self.shape)

    def is_intact(self) -> bool:
        try:
            return _checksum(self.open()) == self.checksum
        except (FileNotFoundError, ValueError):  # gone, or shorter than it says
            return False
        except OSError as error:
            if is_lack_of_memory(error):
                raise
            raise _unreadable(self.path, error) from None


class ShardSet:
    """Rows on disk that were all made in one way, each found by the digest of its source.

    Args:
        parent: Directory that holds all shard sets of this kind.
        name: First part of the directory's name, for people.
        key: Everything that decides the rows besides their sources' bytes; JSON values.
    """

    def __init__(self, parent: Path, name: str, key: Mapping[str, Any]) -> None:
        self.key = dict(key)
        self.directory = parent / f"{name}-{key_digest(self.key)[:16]}"
        self._shards: list[_Shard] = []
        self._digests = np.empty(0, DIGEST_DTYPE)
        self._shard_of = np.empty(0, np.int32)
        self._row_of = np.empty(0, np.int32)
        self._intact: set[Path] = set()
        self._open: OrderedDict[int, np.ndarray] = OrderedDict()

    def create(self) -> None:
        """Create the directory and its description, and remove temporary files of killed writers."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if described(self.directory) is None:
                write_json(self.directory / "key.json", self.key)
            sweep_temp_files(self.directory)
        except OSError as error:
            raise CacheError(f"{self.directory}: {error.strerror}. Set INKFOLD_HOME to a directory you can write.") from None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock that keeps two runs from computing the same rows; it dies with its process."""
        lock = FileLock(self.directory / "lock")
        try:
            try:
                lock.acquire(blocking=False)
            except Timeout:
                log.info("%s: waiting for another run that computes the same", self.directory)
                lock.acquire()
        except OSError as error:
            raise CacheError(f"{self.directory}: {error.strerror}. Set INKFOLD_HOME to a directory you can write.") from None
        try:
            yield
        finally:
            lock.release()

    def missing(self, digests: Shaped[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Read the directory again and return which rows are absent.

        Shards that hold wanted rows are checked against their checksums; a damaged one is removed, so that its rows are
        computed again.

        Args:
            digests: Digest of each row's source; the result has their order.

        Returns:
            True for sources without a row.
        """
        while True:
            self.look()
            found, position = self._locate(digests)
            wanted = np.unique(self._shard_of[position[found]])
            damaged = [shard for shard in (self._shards[i] for i in wanted) if not self._check(shard)]
            if not damaged:
                return ~found
            for shard in damaged:
                _discard(shard.path)

    def look(self) -> None:
        """Read the directory again without verifying checksums, for workers whose driver has called `missing`."""
        known = {shard.path for shard in self._shards}
        current = set(self.directory.glob("*.safetensors"))
        if current == known:
            return
        self._shards, digests, shard_of, row_of = [], [], [], []
        self._open.clear()
        for path in sorted(current):
            shard, names = _read_header(path)
            if shard is None:
                _discard(path)
                continue
            shard_of.append(np.full(len(names), len(self._shards), np.int32))
            row_of.append(np.arange(len(names), dtype=np.int32))
            self._shards.append(shard)
            digests.append(names)
        names = np.concatenate([np.empty(0, DIGEST_DTYPE), *digests])
        order = np.argsort(names, kind="stable")
        self._digests = names[order]
        self._shard_of = np.concatenate([np.empty(0, np.int32), *shard_of])[order]
        self._row_of = np.concatenate([np.empty(0, np.int32), *row_of])[order]

    def present(self, digests: Shaped[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Return which rows were there when the directory was last read."""
        return self._locate(digests)[0]

    def read(
        self, digests: Shaped[np.ndarray, " n"], empty: Callable[[tuple[int, ...], np.dtype[Any]], np.ndarray] = np.empty
    ) -> Shaped[np.ndarray, "n ..."]:
        """Read copies of rows, in the order of the digests.

        Args:
            digests: Digests of the sources; all have rows, as `missing` has returned before.
            empty: Creates the array that the rows are copied to, of a shape and a type, for example on disk.

        Raises:
            CacheError: If a row is absent.
        """
        found, position = self._locate(digests)
        if not found.all():
            raise CacheError(f"{self.directory}: {int((~found).sum())} of {len(digests)} rows are gone. Run again.")
        if not self._shards:
            raise CacheError(f"{self.directory}: has no rows. Run again.")
        shards, rows = self._shard_of[position], self._row_of[position]
        sample = self._shards[shards[0] if len(shards) else 0]
        gathered = empty((len(digests), *sample.shape[1:]), sample.dtype)
        order = np.argsort(shards, kind="stable")  # a mask for each of 10,000 shards would take longer than reading them
        for of_shard in np.split(order, np.flatnonzero(np.diff(shards[order])) + 1):
            if len(of_shard):
                gathered[of_shard] = self._rows(int(shards[of_shard[0]]))[rows[of_shard]]
        return gathered

    def close(self) -> None:
        """Close the files that were read from; they are opened again when they are needed."""
        self._open.clear()

    def append(self, digests: Shaped[np.ndarray, " n"], rows: Shaped[np.ndarray, "n ..."]) -> None:
        """Write rows as one shard, a file that is whole or absent.

        Args:
            digests: Digest of each row's source, in the order of the rows.
            rows: The rows, uint8, float16 or float32, all of one shape.

        Raises:
            CacheError: If the disk is full or can't be written.
        """
        names = np.ascontiguousarray(digests.astype(DIGEST_DTYPE))
        rows = np.ascontiguousarray(rows)
        metadata = {"crc32": str(_checksum(rows))}
        table = names.view(np.uint8).reshape(len(names), -1)
        path = self.directory / f"{digest(names.tobytes())}.safetensors"
        try:
            with atomic_file(path) as file:
                file.write(to_safetensors({"digests": table, "rows": rows}, metadata=metadata))
        except OSError as error:
            raise CacheError(f"{path}: {error.strerror}. Free some space or set INKFOLD_HOME; finished work is kept.") from None

    def _locate(self, digests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not len(self._digests):
            return np.zeros(len(digests), bool), np.zeros(len(digests), np.int64)
        wanted = digests.astype(DIGEST_DTYPE)
        position = np.minimum(np.searchsorted(self._digests, wanted), len(self._digests) - 1)
        return self._digests[position] == wanted, position

    def _check(self, shard: _Shard) -> bool:
        if shard.path not in self._intact and shard.is_intact():
            self._intact.add(shard.path)
        return shard.path in self._intact

    def _rows(self, index: int) -> np.ndarray:
        if index not in self._open:
            self._open[index] = self._opened(self._shards[index])
            if len(self._open) > OPEN_SHARDS:
                self._open.popitem(last=False)
        self._open.move_to_end(index)
        return self._open[index]

    def _opened(self, shard: _Shard) -> np.ndarray:
        """Map a shard, in the room of all others where address space is short."""
        try:
            try:
                return shard.open()
            except OSError as error:
                if not self._open or not is_lack_of_memory(error):
                    raise
                self._open.clear()
                return shard.open()
        except (FileNotFoundError, ValueError) as error:
            raise CacheError(f"{shard.path}: {error}. It went during the run: run again.") from None
        except OSError as error:
            if is_lack_of_memory(error):
                raise
            raise _unreadable(shard.path, error) from None


def _checksum(rows: np.ndarray) -> int:
    return zlib.crc32(rows.reshape(-1).view(np.uint8).data)


def described(directory: Path) -> dict[str, Any] | None:
    """Read what lies in a directory of the cache and how it was made; the directory's name has a digest of that.

    Args:
        directory: A directory of shards, or of a served model, with a `key.json`.

    Returns:
        The description; None where there is none, or it isn't what was written.
    """
    path = directory / "key.json"
    try:
        key = json.loads(path.read_bytes())
        is_whole = isinstance(key, dict) and key_digest(key).startswith(directory.name.rpartition("-")[2])
    except FileNotFoundError:
        return None
    except ValueError:
        is_whole = False
    if not is_whole:
        log.warning("%s: isn't what was written", path)
        return None
    return dict(key)


def _discard(path: Path) -> None:
    """Remove a damaged shard, so that its rows are computed again."""
    was_there = path.exists()  # else another process has removed it, or the user has pruned the cache
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CacheError(f"{path}: is damaged and can't be removed: {error.strerror}. Remove it or set INKFOLD_HOME.") from None
    if was_there:
        log.warning("%s: was damaged and is removed; what it held is computed again", path)


def _unreadable(path: Path, error: OSError) -> CacheError:
    """Return the error of a file that can't be read now. It isn't removed: the cause may be rights or too many open files."""
    return CacheError(f"{path}: can't be read: {error.strerror or error}. It is kept; correct that and run again.")


def _read_header(path: Path) -> tuple[_Shard | None, np.ndarray]:
    """Read a shard's header and digests; None for a damaged file."""
    nothing = np.empty(0, DIGEST_DTYPE)
    try:
        with path.open("rb") as raw:
            header_bytes = int.from_bytes(raw.read(8), "little")
            header = raw.read(min(header_bytes, HEADER_LIMIT_BYTES))
    except FileNotFoundError:
        return None, nothing
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        rows = json.loads(header)["rows"]
        with safe_open(path, framework="numpy") as file:
            checksum, names = int(file.metadata()["crc32"]), file.get_tensor("digests")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        if is_lack_of_memory(error):  # the file may be whole
            raise
        return None, nothing
    shape, begin = tuple(rows["shape"]), rows["data_offsets"][0]
    if digest(names.tobytes()) != path.stem:  # the digests say whose rows these are
        return None, nothing
    if rows["dtype"] not in _DTYPES or names.dtype != np.uint8 or names.shape != (*shape[:1], 2 * DIGEST_BYTES):
        return None, nothing
    if begin + math.prod(shape) * _DTYPES[rows["dtype"]].itemsize != rows["data_offsets"][1]:
        return None, nothing
    shard = _Shard(path, 8 + header_bytes + begin, _DTYPES[rows["dtype"]], shape, checksum)
    return shard, np.ascontiguousarray(names).view(DIGEST_DTYPE).reshape(-1)
