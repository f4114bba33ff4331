"""Large arrays that needn't stay in memory: they lie in a file without a name, whose pages the system may write out.

A million drawings of 345 classes have 1.4 GB of probabilities, and a vote holds them of every method. The file lies below
INKFOLD_HOME, where features lie already; it is gone with the array, also where the process is killed.
"""

import logging
import mmap
import os
import tempfile
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from inkfold.storage.cache import home

log = logging.getLogger("inkfold.storage")

LEAST_BYTES = 64 << 20  # smaller arrays stay in memory


def scratch_array(shape: tuple[int, ...], dtype: DTypeLike = np.float64) -> np.ndarray[Any, Any]:
    """Make an array of zeros, in a file where it is large.

    Where the disk is full, or refuses to map files, the array is made in memory.

    Args:
        shape: Length of each axis.
        dtype: Type of the numbers.

    Returns:
        An ordinary array that can be written to.
    """
    size = prod(shape) * np.dtype(dtype).itemsize
    if size < LEAST_BYTES:
        return np.zeros(shape, dtype)
    try:
        return np.frombuffer(_mapped(size), dtype).reshape(shape)
    except (
        OSError,
        ValueError,
        AttributeError,
    ) as error:  # platforms without posix_fallocate: a full disk would end the process
        log.info("%.0f MB stay in memory, as no file can hold them: %s", size / 1e6, error)
        return np.zeros(shape, dtype)


def take_rows(matrix: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Copy rows of a matrix, given by their numbers, into a scratch array."""
    taken = scratch_array((len(rows), *matrix.shape[1:]), matrix.dtype)
    np.take(matrix, rows, axis=0, out=taken, mode="clip")  # the usual mode makes a copy of `out` first
    return taken


def _mapped(size: int) -> mmap.mmap:
    """Map a file of so many bytes that has no name; its blocks are reserved at once, as writing into a mapping can't fail."""
    directory = home() / "scratch"
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory) as file:
        os.posix_fallocate(file.fileno(), 0, size)
        return mmap.mmap(file.fileno(), size)
