"""Cells carried out by processes of this machine, each with its share of the cores, or with a CUDA device of its own.

Every process is its own small pool, so that one which is killed takes no other with it: it is replaced, and its cell is done
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
from inkfold.features.tasks import Account, Chunk, FeatureJob, run_chunk
from inkfold.runtime.parallel import available_cores, end_with_parent

log = logging.getLogger("inkfold.features")

ATTEMPTS = 3
# loky replaces a worker that has grown by 300 MB, and takes the mapped pixel store for growth.
NO_LEAK_CHECK = {"LOKY_MAX_MEMORY_LEAK_SIZE": "1e15"}


class PoolExecutor:
    """Processes that are started when there is something to do, and kept until `close`.

    Args:
        workers: At most so many; never more than the cores allow with a cell's threads. None: as many as that, or one a
            CUDA device.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._wanted = workers
        self._slots: list[_Slot] = []

    def run(self, cells: Sequence[Chunk], account: Account) -> None:
        """Carry out cells.

        Args:
            cells: Of one making.
            account: Told of each cell when it is done.

        Raises:
            CacheError: If the process at one cell was killed each of three times; what is done is kept.
        """
        environments = slot_environments(cells[0].making, self._wanted)[: len(cells)]
        log.info("chunks computed by the pool: %d, processes: %d", len(cells), len(environments))
        self._slots += [_Slot(environment) for environment in environments[len(self._slots) :]]
        waiting, stop = deque(cells), threading.Event()
        with ThreadPoolExecutor(len(environments)) as threads:
            try:
                working = [threads.submit(slot.work, waiting, account, stop) for slot in self._slots[: len(environments)]]
                for done in wait(working, return_when="FIRST_EXCEPTION").done:
                    done.result()
            finally:
                stop.set()  # after Ctrl-C or an error: nobody is at a cell otherwise
                if waiting or not all(one.done() for one in working):
                    self.close()

    def close(self) -> None:
        """End all processes."""
        for slot in self._slots:
            slot.end()
        self._slots = []


class _Slot:
    """One process, replaced when it is killed."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._executor: Any = None

    def work(self, waiting: deque[Chunk], account: Account, stop: threading.Event) -> None:
        while waiting and not stop.is_set():
            try:
                cell = waiting.popleft()
            except IndexError:  # another slot took the last one
                return
            seconds = self._attempt(cell, stop)
            account.advance(len(cell))
            account.finish(cell, seconds)

    def _attempt(self, cell: Chunk, stop: threading.Event) -> float:
        for attempt in range(1, ATTEMPTS + 1):
            if self._executor is None:
                initial = {"initializer": _begin, "initargs": (os.getpid(),)}
                self._executor = loky.ProcessPoolExecutor(1, **initial, env=self._environment)
            try:
                seconds: float = self._executor.submit(run_chunk, cell).result()
                return seconds
            except TerminatedWorkerError as error:
                if attempt == ATTEMPTS or stop.is_set():
                    raise CacheError(
                        f"{cell}: the process at it was killed {attempt} times ({_reason(error)}), probably for lack of "
                        "memory. Take fewer processes or a smaller backbone.batch_size, and run again; what is done is kept."
                    ) from None
                log.info("%s: the process was killed (%s), and is replaced", cell, _reason(error))
                self.end()
        raise AssertionError

    def end(self) -> None:
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=True, kill_workers=True)


def slot_environments(making: FeatureJob, wanted: int | None) -> list[dict[str, str]]:
    """Give each process its surroundings.

    Args:
        making: Says what the cells run on, and with how many threads.
        wanted: At most so many processes; None for as many as there is room for.

    Returns:
        Environment variables, a process each: of cores no more than there are, of CUDA devices one each, shared only if
        more processes are wanted than there are devices.
    """
    common = {"OMP_NUM_THREADS": str(making.threads), "OPENBLAS_NUM_THREADS": "1", **NO_LEAK_CHECK}
    room = max(1, available_cores() // making.threads)
    if making.on_cpu:
        return [common] * min(wanted or room, room)
    devices = cuda_devices() if making.device == "cuda" else []
    count = min(wanted or max(1, len(devices)), room)
    if not devices:
        return [common] * count
    return [{**common, "CUDA_VISIBLE_DEVICES": devices[i % len(devices)]} for i in range(count)]


def cuda_devices() -> list[str]:
    """Name the CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch  # noqa: PLC0415 - seconds

    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    count = torch.cuda.device_count()
    return named[:count] if named else [str(i) for i in range(count)]


def _begin(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent ends this one
    end_with_parent(parent)


def _reason(error: BaseException) -> str:
    """Take the exit codes out of loky's long message."""
    text = str(error)
    return text[text.index("{") + 1 : text.index("}")] if "{" in text and "}" in text else "no exit code is known"
