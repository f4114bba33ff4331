"""Computes chunks in processes of this machine, each with its share of the cores, or with a CUDA device of its own.

Every process is its own small pool, so that the others survive when one is killed: it is replaced, and its chunk is computed
again. All of them end with this process, however it ends.
"""

import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import loky
from loky.process_executor import TerminatedWorkerError

from inkfold.errors import CacheError
from inkfold.features.tasks import Chunk, ChunkTracker, FeatureJob, run_chunk
from inkfold.runtime.parallel import available_cores, end_with_parent

log = logging.getLogger("inkfold.features")

ATTEMPTS = 3
# loky replaces a worker that has grown by 300 MB, and counts the mapped pixel store as growth.
NO_LEAK_CHECK = {"LOKY_MAX_MEMORY_LEAK_SIZE": "1e15"}


class PoolExecutor:
    """Computes chunks in processes, which are started when the first chunks come and kept until `close`.

    Args:
        workers: Largest number of processes, at least 1; the cores divided by a chunk's threads limit it too. None starts as
            many as that, or one per CUDA device.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers
        self._slots: list[_Slot] = []

    def run(self, chunks: Sequence[Chunk], tracker: ChunkTracker) -> None:
        """Compute chunks.

        Args:
            chunks: Chunks of one job, at least one, in any order.
            tracker: Each chunk is counted in it when it is done.

        Raises:
            CacheError: If the process that computed a chunk was killed three times; finished chunks are kept.
        """
        environments = slot_environments(chunks[0].job, self._workers)[: len(chunks)]
        log.info("chunks computed by the pool: %d, processes: %d", len(chunks), len(environments))
        self._slots += [_Slot(environment) for environment in environments[len(self._slots) :]]
        waiting, stop = deque(chunks), threading.Event()
        with ThreadPoolExecutor(len(environments)) as threads:
            try:
                working = [threads.submit(slot.work, waiting, tracker, stop) for slot in self._slots[: len(environments)]]
                for done in wait(working, return_when="FIRST_EXCEPTION").done:
                    done.result()
            finally:
                stop.set()  # matters after Ctrl-C or an error only
                if waiting or not all(future.done() for future in working):
                    self.close()

    def close(self) -> None:
        """End all processes."""
        for slot in self._slots:
            slot.end()
        self._slots = []


class _Slot:
    """Keeps one process, and replaces it when it is killed."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._process: Any = None

    def work(self, waiting: deque[Chunk], tracker: ChunkTracker, stop: threading.Event) -> None:
        while waiting and not stop.is_set():
            try:
                chunk = waiting.popleft()
            except IndexError:  # another slot took the last one
                return
            seconds = self._attempt(chunk, stop)
            tracker.advance(len(chunk))
            tracker.finish(chunk, seconds)

    def _attempt(self, chunk: Chunk, stop: threading.Event) -> float:
        for attempt in range(1, ATTEMPTS + 1):
            if self._process is None:
                initial = {"initializer": _begin, "initargs": (os.getpid(),)}
                self._process = loky.ProcessPoolExecutor(1, **initial, env=self._environment)
            try:
                seconds: float = self._process.submit(run_chunk, chunk).result()
                return seconds
            except TerminatedWorkerError as error:
                if attempt == ATTEMPTS or stop.is_set():
                    raise CacheError(
                        f"{chunk}: the process that computed them was killed {attempt} times ({_reason(error)}), probably for "
                        "lack of memory. Take fewer processes or a smaller backbone.batch_size, and run again; finished chunks "
                        "are kept."
                    ) from None
                log.info("%s: the process was killed (%s), and is replaced", chunk, _reason(error))
                self.end()
        raise AssertionError

    def end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.shutdown(wait=True, kill_workers=True)


def slot_environments(job: FeatureJob, workers: int | None) -> list[dict[str, str]]:
    """Choose the number of processes, and the environment variables of each.

    Args:
        job: Names the device, and the threads of a forward pass.
        workers: Largest number of processes, at least 1; None for as many as there is room for.

    Returns:
        Environment variables, one mapping per process: together they use no more cores than there are, and each has a CUDA
        device of its own unless `workers` is more than there are devices.
    """
    common = {"OMP_NUM_THREADS": str(job.threads), "OPENBLAS_NUM_THREADS": "1", **NO_LEAK_CHECK}
    room = max(1, available_cores() // job.threads)
    if job.on_cpu:
        return [common] * min(workers or room, room)
    devices = cuda_devices() if job.device == "cuda" else []
    count = min(workers or max(1, len(devices)), room)
    if not devices:
        return [common] * count
    return [{**common, "CUDA_VISIBLE_DEVICES": devices[i % len(devices)]} for i in range(count)]


def cuda_devices() -> list[str]:
    """List the CUDA devices that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    import torch  # noqa: PLC0415 - seconds

    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    count = torch.cuda.device_count()
    return named[:count] if named else [str(i) for i in range(count)]


def _begin(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent ends this one
    end_with_parent(parent)


def _reason(error: BaseException) -> str:
    """Extract the exit codes from loky's long message."""
    text = str(error)
    return text[text.index("{") + 1 : text.index("}")] if "{" in text and "}" in text else "no exit code is known"
