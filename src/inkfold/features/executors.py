"""Where a plan's chunks are computed: in this process, in processes of this machine, or on Ray. Each leaves the same bytes.

An executor is chosen by its short form: `inline`, `pool`, `pool:4`, `ray`, `ray:auto`, `ray:10.0.0.1:6379`.
"""

import contextlib
import logging
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Protocol

from inkfold.errors import RecipeError
from inkfold.features.tasks import Chunk, ChunkTracker, FeatureJob, Worker, worker_settings

log = logging.getLogger("inkfold.features")

INLINE = "inline"
RAY = re.compile(
    r"ray(?P<address>:auto|:[^\s:/]+:[1-9]\d{0,4}|:\[[0-9a-fA-F:]+\]:[1-9]\d{0,4})?(?P<workers>:[1-9]\d{0,3})?", re.ASCII
)
CONCURRENT_ON_DEVICE = 2  # one reads, renders and writes while the other has the device


class Executor(Protocol):
    """Computes chunks, all of them or with an error."""

    def run(self, chunks: Sequence[Chunk], tracker: ChunkTracker) -> None:
        """Compute the chunks of one job, at least one, and count them in the tracker."""

    def close(self) -> None:
        """End the processes and connections that were started."""


class InlineExecutor:
    """Computes chunks in this process: on the CPU as many at once as PyTorch has threads, each with its share of them.

    Args:
        worker: Computes the chunks, and keeps the backbone from plan to plan; None creates one for each plan.
    """

    def __init__(self, worker: Worker | None = None) -> None:
        self._worker = worker

    def run(self, chunks: Sequence[Chunk], tracker: ChunkTracker) -> None:
        """Compute chunks; see `Worker.run` for the errors."""
        job = chunks[0].job
        worker = self._worker or Worker(job)
        waiting = deque(chunks)
        stop = threading.Event()
        take_device = _same_device()

        def on_batch(rows: int) -> None:
            tracker.advance(rows)
            if stop.is_set():
                raise _Stopped

        def work() -> None:
            take_device()
            with contextlib.suppress(IndexError):  # none is left
                while not stop.is_set():
                    chunk = waiting.popleft()
                    tracker.finish(chunk, worker.run(chunk, on_batch))

        with worker_settings():
            concurrent = min(len(chunks), count_concurrent(job))
            log.info("chunks computed in this process: %d, at once: %d", len(chunks), concurrent)
            if concurrent == 1:
                work()
            else:
                _in_threads(concurrent, work, stop)

    def close(self) -> None:
        """Nothing was started."""


def _same_device() -> Callable[[], None]:
    """Return a function that lets another thread use this thread's GPU: new threads use the first one."""
    import torch  # noqa: PLC0415 - seconds

    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return lambda: None
    return partial(torch.cuda.set_device, torch.cuda.current_device())


class _Stopped(Exception):  # noqa: N818 - no error
    """Another thread failed, or the user pressed Ctrl-C."""


def _in_threads(concurrent: int, work: Callable[[], None], stop: threading.Event) -> None:
    with ThreadPoolExecutor(concurrent) as threads:
        try:
            working = [threads.submit(work) for _ in range(concurrent)]
            for done in wait(working, return_when="FIRST_EXCEPTION").done:
                done.result()
        finally:
            stop.set()


def count_concurrent(job: FeatureJob) -> int:
    """Count how many chunks this process computes at once.

    Args:
        job: Names the device, and the threads of a forward pass.

    Returns:
        On the CPU as many as fit into PyTorch's threads, which OMP_NUM_THREADS limits; 2 on an accelerator.
    """
    import torch  # noqa: PLC0415 - seconds

    return max(1, torch.get_num_threads() // job.threads) if job.on_cpu else CONCURRENT_ON_DEVICE


def open_executor(on: str | Executor = INLINE) -> contextlib.AbstractContextManager[Executor]:
    """Choose an executor. It starts nothing before it has chunks to compute.

    Args:
        on: `inline`; `pool` or `pool:N` with at most N processes; `ray` on this machine, `ray:auto` or `ray:HOST:PORT` on a
            cluster that is there, each also with `:N` for N processes that fine-tune together; or an executor that
            the caller closes.

    Returns:
        A context manager that gives the executor, and closes it when the block ends if it was opened here.

    Raises:
        RecipeError: At once, if there is no such executor, or Ray isn't installed.
    """
    return contextlib.closing(_new(on)) if isinstance(on, str) else contextlib.nullcontext(on)


def _new(on: str) -> Executor:
    kind, _, rest = on.partition(":")
    if on == INLINE:
        return InlineExecutor()
    if kind == "pool" and (on == kind or re.fullmatch(r"[1-9]\d{0,3}", rest)):
        from inkfold.features.process_pool import PoolExecutor  # noqa: PLC0415 - loky, which inline needn't have

        return PoolExecutor(int(rest) if rest else None)
    if match := RAY.fullmatch(on):
        from inkfold.features.ray_cluster import RayExecutor  # noqa: PLC0415

        address, workers = ((part or "")[1:] for part in match.groups())
        return RayExecutor(address or None, int(workers) if workers else None)
    raise RecipeError(
        f"on: got '{on}', expected inline, pool, pool:N with N from 1, ray, ray:auto or ray:HOST:PORT, "
        "each of the last three also with :N. It says where features are computed, and where N processes fine-tune."
    )
