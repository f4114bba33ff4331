"""Work on many drawings at once: in threads that run ahead of the consumer, or in worker processes that end with their parent.

OpenCV and decoders work outside of Python's lock, so threads pay for them; processes are for what holds the lock.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from itertools import islice
from typing import Any, TypeVar

import loky
from loky.process_executor import TerminatedWorkerError

from inkfold.errors import CacheError
from inkfold.runtime.progress import Progress, silent

log = logging.getLogger("inkfold.runtime")

T = TypeVar("T")
Task = TypeVar("Task")
PARENT_CHECK_S = 1.0
KILLED = (
    "a decoding process was killed, probably for lack of memory. Lower image.pixel_limit and run again; what is done is kept."
)
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
INLINE_BELOW = 96  # starting processes takes about as long as decoding so many


def ahead(function: Callable[[Task], T], tasks: Iterable[Task], workers: int, depth: int) -> Generator[T]:
    """Call a function on each task in threads, some tasks ahead of the one whose result is consumed.

    Args:
        function: What each task becomes a result by; called from several threads at once.
        tasks: Arguments of the calls; taken in the calling thread, each when it can be queued.
        workers: How many threads call the function, at least 1.
        depth: How many tasks may be queued or running at once.

    Yields:
        The results, in the order of the tasks. When the consumer stops early, tasks that haven't begun are cancelled.
    """
    waiting = iter(tasks)
    with one_opencv_thread(), ThreadPoolExecutor(workers) as pool:
        begun: list[Future[T]] = []
        try:
            begun += [pool.submit(function, task) for task in islice(waiting, depth)]
            while begun:
                result = begun.pop(0).result()
                begun += [pool.submit(function, task) for task in islice(waiting, 1)]
                yield result
        finally:
            for future in begun:
                future.cancel()


@contextlib.contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV from starting threads of its own while the block runs."""
    import cv2  # noqa: PLC0415 - 160 ms that views of drawings as they are needn't pay

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def map_in_processes(
    function: Callable[..., T],
    tasks: Sequence[tuple[Any, ...]],
    counts: Sequence[int],
    stage: str,
    progress: Progress = silent,
    workers: int = 0,
) -> list[T]:
    """Call a function on each task, in processes when there is enough to do.

    Args:
        function: An importable function, so that a process can find it.
        tasks: The arguments of each call; they are sent to the processes.
        counts: The number of drawings in each task, for the progress.
        stage: The name under which progress is reported.
        progress: Called after each task.
        workers: Number of processes; 0 starts one per core.

    Returns:
        The results, in the order of the tasks.

    Raises:
        CacheError: If a process was killed.
    """
    workers = min(workers or available_cores(), len(tasks))
    total, done = sum(counts), 0
    results: dict[int, T] = {}
    inline = total < INLINE_BELOW or workers == 1
    log.debug("%s: %d drawings in %s", stage, total, "this process" if inline else f"{workers} processes")
    if inline:
        for i, task in enumerate(tasks):
            results[i] = function(*task)
            done += counts[i]
            progress(stage, done, total)
        return list(results.values())
    pool = loky.ProcessPoolExecutor(workers, initializer=end_with_parent, initargs=(os.getpid(),), env=ONE_THREAD)
    try:
        futures = {pool.submit(function, *task): i for i, task in enumerate(tasks)}
        for future in as_completed(futures):
            results[futures[future]] = future.result()
            done += counts[futures[future]]
            progress(stage, done, total)
    except TerminatedWorkerError:
        raise CacheError(KILLED) from None
    finally:
        pool.shutdown(wait=True, kill_workers=True)
    return [results[i] for i in range(len(tasks))]


def available_cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent(parent: int) -> None:
    """End this worker process when its parent is gone: a killed parent would leave it waiting for tasks for ever.

    Args:
        parent: The parent's process id.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
