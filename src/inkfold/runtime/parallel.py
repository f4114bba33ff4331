"""Work done ahead of whoever needs it, in threads: OpenCV works outside of Python's lock."""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
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
