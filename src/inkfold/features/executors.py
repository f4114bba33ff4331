"""Where the cells of a plan are carried out: here, in processes of this machine, or on Ray. Nothing of it is in a result.

`inline`, `pool`, `pool:4`, `ray`, `ray:auto`, `ray:10.0.0.1:6379`. Each leaves the same bytes.
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
from inkfold.features.tasks import Account, Chunk, FeatureJob, Worker, undisturbed

log = logging.getLogger("inkfold.features")

INLINE = "inline"
RAY = re.compile(
    r"ray(?P<address>:auto|:[^\s:/]+:[1-9]\d{0,4}|:\[[0-9a-fA-F:]+\]:[1-9]\d{0,4})?(?P<workers>:[1-9]\d{0,3})?", re.ASCII
)
DEVICE_LANES = 2  # one reads, shows and writes while the other has the device


class Executor(Protocol):
    """Carries out cells, all of them or with an error."""

    def run(self, cells: Sequence[Chunk], account: Account) -> None:
        """Carry out cells of one making, at least one, and tell the account."""

    def close(self) -> None:
        """Give back what was started."""


class InlineExecutor:
    """This process: on the CPU as many cells at once as PyTorch has threads, each with its own share of them.

    Args:
        worker: Makes the cells, and keeps the backbone from plan to plan; None builds one for each plan.
    """

    def __init__(self, worker: Worker | None = None) -> None:
        self._worker = worker

    def run(self, cells: Sequence[Chunk], account: Account) -> None:
        """Carry out cells; see `Worker.run` for what may go wrong."""
        workshop, waiting, stop = self._worker or Worker(cells[0].making), deque(cells), threading.Event()
        take_device = _same_device()

        def tell(rows: int) -> None:
            account.advance(rows)
            if stop.is_set():
                raise _Stopped

        def work() -> None:
            take_device()
            with contextlib.suppress(IndexError):  # none is left
                while not stop.is_set():
                    cell = waiting.popleft()
                    account.finish(cell, workshop.run(cell, tell))

        with undisturbed():
            lanes = min(len(cells), count_lanes(cells[0].making))
            log.info("chunks computed in this process: %d, at once: %d", len(cells), lanes)
            if lanes == 1:
                work()
            else:
                _in_threads(lanes, work, stop)

    def close(self) -> None:
        """Nothing was started."""


def _same_device() -> Callable[[], None]:
    """Give what makes another thread take this one's GPU: threads begin with the first one."""
    import torch  # noqa: PLC0415 - seconds

    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return lambda: None
    return partial(torch.cuda.set_device, torch.cuda.current_device())


class _Stopped(Exception):  # noqa: N818 - no error
    """Another lane failed, or the user wants an end."""


def _in_threads(lanes: int, work: Callable[[], None], stop: threading.Event) -> None:
    with ThreadPoolExecutor(lanes) as threads:
        try:
            working = [threads.submit(work) for _ in range(lanes)]
            for done in wait(working, return_when="FIRST_EXCEPTION").done:
                done.result()
        finally:
            stop.set()


def count_lanes(making: FeatureJob) -> int:
    """Say how many cells run at once in this process.

    Args:
        making: Says what they run on.

    Returns:
        On the CPU as many as fit into PyTorch's threads, which OMP_NUM_THREADS limits.
    """
    import torch  # noqa: PLC0415 - seconds

    return max(1, torch.get_num_threads() // making.threads) if making.on_cpu else DEVICE_LANES


def open_executor(on: str | Executor = INLINE) -> contextlib.AbstractContextManager[Executor]:
    """Choose a launcher; nothing is started before it has something to do.

    Args:
        on: `inline`; `pool` or `pool:N` with at most N processes; `ray` on this machine, `ray:auto` or `ray:HOST:PORT` on a
            cluster that is there, each also with `:N` for N processes that fine-tune together; or a launcher that is
            somebody else's to close.

    Returns:
        It, closed when the block ends.

    Raises:
        RecipeError: At once, if there is no such form, or Ray isn't installed.
    """
    return contextlib.closing(_new(on)) if isinstance(on, str) else contextlib.nullcontext(on)


def _new(on: str) -> Executor:
    kind, _, rest = on.partition(":")
    if on == INLINE:
        return InlineExecutor()
    if kind == "pool" and (on == kind or re.fullmatch(r"[1-9]\d{0,3}", rest)):
        from inkfold.features.process_pool import PoolExecutor  # noqa: PLC0415 - loky, which inline needn't have

        return PoolExecutor(int(rest) if rest else None)
    if given := RAY.fullmatch(on):
        from inkfold.features.ray_cluster import RayExecutor  # noqa: PLC0415

        address, workers = ((part or "")[1:] for part in given.groups())
        return RayExecutor(address or None, int(workers) if workers else None)
    raise RecipeError(
        f"on: got '{on}', expected inline, pool, pool:N with N from 1, ray, ray:auto or ray:HOST:PORT, "
        "each of the last three also with :N. It says where features are computed, and where N processes fine-tune."
    )
