"""Random numbers that no library's version changes: Philox's raw stream, which NumPy guarantees, and our own arithmetic.

NumPy may change how `Generator.uniform` and the like use a stream (NEP 19); pixels that are cached under a view's name must
not change with it.
"""

import hashlib
from statistics import NormalDist

import numpy as np
from jaxtyping import UInt8

_STANDARD = NormalDist()


class Draws:
    """A stream of random numbers that depends on its name alone.

    Args:
        name: Any bytes; equal names give equal streams, different names independent ones.
    """

    def __init__(self, name: bytes) -> None:
        key = hashlib.blake2b(name, digest_size=16).digest()
        self._stream = np.random.Philox(key=int.from_bytes(key, "little"))

    def uniform(self, low: float, high: float) -> float:
        """Draw from the uniform distribution over low..high, with 53 bits."""
        return low + (high - low) * ((int(self._stream.random_raw()) >> 11) / 2**53)

    def normal(self, deviation: float) -> float:
        """Draw from the normal distribution with mean 0, through its inverse distribution function."""
        return deviation * _STANDARD.inv_cdf(((int(self._stream.random_raw()) >> 11) + 0.5) / 2**53)

    def whole(self, highest: int) -> int:
        """Draw a whole number from 0..highest, a small number: the bias is highest / 2^64."""
        return int(self._stream.random_raw()) % (highest + 1)

    def bytes(self, count: int) -> UInt8[np.ndarray, " count"]:
        """Draw `count` uniformly distributed bytes."""
        return self._stream.random_raw(-(-count // 8)).astype("<u8", copy=False).view(np.uint8)[:count]
