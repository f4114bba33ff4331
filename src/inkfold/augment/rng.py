"""Random numbers that no library's version changes: Philox's raw stream, which NumPy guarantees, and arithmetic of our own.

NumPy keeps the right to change what `Generator.uniform` and its like make of a stream (NEP 19); pixels that are cached
under a view's name must not follow.
"""

import hashlib
from statistics import NormalDist

import numpy as np
from jaxtyping import UInt8

_STANDARD = NormalDist()


class Draws:
    """A stream of numbers that its name decides.

    Args:
        name: Anything; equal names give equal streams, others independent ones.
    """

    def __init__(self, name: bytes) -> None:
        key = hashlib.blake2b(name, digest_size=16).digest()
        self._stream = np.random.Philox(key=int.from_bytes(key, "little"))

    def uniform(self, low: float, high: float) -> float:
        """Draw from low..high, 53 bits of it."""
        return low + (high - low) * ((int(self._stream.random_raw()) >> 11) / 2**53)

    def normal(self, deviation: float) -> float:
        """Draw from a normal distribution about 0, through its inverse."""
        return deviation * _STANDARD.inv_cdf(((int(self._stream.random_raw()) >> 11) + 0.5) / 2**53)

    def whole(self, highest: int) -> int:
        """Draw one of 0..highest; for small numbers, as its bias is highest / 2^64."""
        return int(self._stream.random_raw()) % (highest + 1)

    def bytes(self, count: int) -> UInt8[np.ndarray, " count"]:
        """Draw bytes."""
        drawn: np.ndarray = self._stream.random_raw(-(-count // 8)).astype("<u8", copy=False).view(np.uint8)[:count]
        return drawn
