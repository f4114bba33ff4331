"""Many drawings at once: in threads ahead of whoever needs the answers, or in worker processes that end with their parent.

OpenCV and decoders work outside of Python's lock, so threads pay for them; processes are for what holds the lock.
"""

import contextlib
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

T = TypeVar("T")
PARENT_CHECK_S = 1.0
KILLED = (
    "a decoding process was killed, probably for lack of memory. Lower image.pixel_limit and run again; what is done is kept."
)
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
INLINE_BELOW = 96  # starting processes takes about as long as decoding so many

Task = TypeVar("Task")


def ahead(function: Callable[[Task], T], tasks: Iterable[Task], workers: int, depth: int) -> Generator[T]:
    """Call a function on each task, some tasks before their answers are asked for.

    Args:
        function: Called from several threads.
        tasks: Taken in the calling thread, each when a place for it is free.
        workers: Threads.
        depth: Tasks that are begun or wait beside the answer asked for.

    Yields:
        The answers, in the order of the tasks. What isn't begun when nobody asks any more is left.
    """
    waiting = iter(tasks)
    with one_opencv_thread(), ThreadPoolExecutor(workers) as pool:
        begun: list[Future[T]] = []
        try:
            begun += [pool.submit(function, task) for task in islice(waiting, depth)]
            while begun:
                answer = begun.pop(0).result()
                begun += [pool.submit(function, task) for task in islice(waiting, 1)]
                yield answer
        finally:
            for one in begun:
                one.cancel()


@contextlib.contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Let OpenCV work in the calling thread alone while the block runs."""
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
        function: Importable, so that a process can find it.
        tasks: Arguments, a tuple a call.
        counts: Drawings a task, for the progress.
        stage: The progress's name.
        progress: Told after each task.
        workers: Processes; 0 takes a process a core.

    Returns:
        The answers, in the order of the tasks.

    Raises:
        CacheError: If a process was killed.
    """
    workers = min(workers or available_cores(), len(tasks))
    total, done = sum(counts), 0
    answers: dict[int, T] = {}
    if total < INLINE_BELOW or workers == 1:
        for i, task in enumerate(tasks):
            answers[i] = function(*task)
            done += counts[i]
            progress(stage, done, total)
        return list(answers.values())
    pool = loky.ProcessPoolExecutor(workers, initializer=end_with_parent, initargs=(os.getpid(),), env=ONE_THREAD)
    try:
        futures = {pool.submit(function, *task): i for i, task in enumerate(tasks)}
        for future in as_completed(futures):
            answers[futures[future]] = future.result()
            done += counts[futures[future]]
            progress(stage, done, total)
    except TerminatedWorkerError:
        raise CacheError(KILLED) from None
    finally:
        pool.shutdown(wait=True, kill_workers=True)
    return [answers[i] for i in range(len(tasks))]


def available_cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent(parent: int) -> None:
    """End this worker when its parent was killed: otherwise it would wait for tasks for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
