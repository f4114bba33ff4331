"""How fast backbones are on this machine: guessed from their cost before they are tried, then measured on real drawings.

What is computed while measuring is in the feature bank afterwards, so that it costs nothing.
"""

import logging
import statistics
import time
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Shaped

from inkfold.augment.views import IDENTITY
from inkfold.features.executors import count_concurrent
from inkfold.features.extractor import Extractor
from inkfold.features.tasks import Chunk, ChunkTracker, FeatureJob
from inkfold.runtime.progress import Progress, silent

log = logging.getLogger("inkfold.auto")

# Until anything is measured: two cores of 2020 do about 40 with small convolutional networks, a GPU some thousands.
GUESSED_GMACS_PER_S = {"cpu": 15.0, "cuda": 3000.0, "mps": 500.0}  # of a core, of a device
USUAL_DECODE_S = 0.002  # per drawing, until it was measured
PROBE_BATCHES = 6  # batches of each core, or of the device
WARM_UP_BATCHES = 1  # of each core: the first forward chooses kernels and lays weights out


@dataclass(slots=True)
class MachineSpeed:
    """What this machine was seen to do, from which backbones are guessed that have not been tried.

    Attributes:
        device: `cpu`, `cuda` or `mps`.
        cores: Number of forward passes that run at once.
        measured: 10^9 multiplications with an addition per second, of each backbone that was measured.
    """

    device: str
    cores: int = 1
    measured: list[float] = field(default_factory=list)

    @property
    def gmacs_per_s(self) -> float:
        """The median of what was measured, else a guess by the kind of device."""
        if self.measured:
            return statistics.median(self.measured)
        return GUESSED_GMACS_PER_S.get(self.device, GUESSED_GMACS_PER_S["cpu"]) * (self.cores if self.device == "cpu" else 1)

    def images_per_s(self, gmacs: float) -> float:
        """Guess how many drawings per second a backbone of a certain cost takes."""
        return self.gmacs_per_s / max(gmacs, 1e-3)

    def note(self, gmacs: float, images_per_s: float) -> None:
        """Learn from a backbone that was measured."""
        self.measured.append(gmacs * images_per_s)


class _TimeIsUp(Exception):  # noqa: N818 - no error
    """The measuring has taken as long as it may."""


class _StoppingTracker(ChunkTracker):
    """Ends an extraction after a time, and notes when each batch was done."""

    def __init__(self, chunks: list[Chunk], progress: Progress, limit_s: float) -> None:
        super().__init__(chunks, progress)
        self.limit_s = limit_s
        self.began: float | None = None
        self.done: list[tuple[float, int]] = []

    def finish(self, chunk: Chunk, seconds: float) -> None:
        super().finish(chunk, seconds)
        now = time.perf_counter()
        with self._lock:
            self.began = now - seconds if self.began is None else min(self.began, now - seconds)
            self.done.append((now, len(chunk)))
            if now - self.began > self.limit_s:
                raise _TimeIsUp


def count_probed(extractor: Extractor) -> int:
    """Count the drawings that a backbone's speed is measured on: some whole batches for each core, or for the device."""
    job = extractor.job()
    return PROBE_BATCHES * count_concurrent(job) * job.batch_size


def measure_images_per_s(
    extractor: Extractor, digests: Shaped[np.ndarray, " n"], limit_s: float, progress: Progress = silent
) -> float | None:
    """Measure how many drawings per second a backbone takes, by the forward passes that an extraction would make.

    Batches are as large, and as many run at once, as when features are computed. It stops after the batch that exceeds the
    time, and the first batches don't count where there are more.

    Args:
        extractor: The backbone, its image options and where its features are computed.
        digests: Digests of drawings that have been decoded; those whose features are in the bank are not computed again.
        limit_s: Seconds after which no further batch is begun.
        progress: Called after each batch.

    Returns:
        Drawings per second; the bank's own note where nothing had to be computed, and None where it has none.

    Raises:
        InkfoldError: If the backbone can't be built, or gives no features.
    """
    job = extractor.job()
    bank = job.bank(IDENTITY)
    bank.shards.create()
    with bank.shards.lock():
        missing = digests[bank.shards.missing(digests)]
        chunks = _single_batches(job, missing[: count_probed(extractor)])
        if not chunks:
            return extractor.rate()
        tracker = _StoppingTracker(chunks, progress, limit_s)
        try:
            extractor.executor.run(chunks, tracker)
        except _TimeIsUp:
            log.info("%s: measured for %.1f s, not longer", extractor.backbone.name, limit_s)
    return _rate(tracker, count_concurrent(job))


def _single_batches(job: FeatureJob, digests: Shaped[np.ndarray, " n"]) -> list[Chunk]:
    """Make each batch a chunk of its own, so that what is done is kept when the time is up."""
    drawings, directory = sorted(set(digests.tolist())), job.bank(IDENTITY).shards.directory
    starts = range(0, len(drawings), job.batch_size)
    return [Chunk(job, IDENTITY, directory, tuple(drawings[start : start + job.batch_size])) for start in starts]


def _rate(tracker: _StoppingTracker, concurrent: int) -> float | None:
    """Divide drawings by seconds, without the first batch of each core where enough follow."""
    if tracker.began is None:
        return None
    done = sorted(tracker.done)
    warm = WARM_UP_BATCHES * concurrent
    began, counted = (done[warm - 1][0], done[warm:]) if len(done) >= warm + concurrent else (tracker.began, done)
    seconds = counted[-1][0] - began
    return sum(rows for _, rows in counted) / seconds if seconds > 0 else None
