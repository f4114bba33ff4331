"""Drawings that arrive at the same time go through the model together: a bounded queue, and one forward pass at a time.

While a forward pass runs, drawings gather for the next one; when the model is free, the first waits for others only as long as
some are being decoded, and a few milliseconds at most. So a single client never waits, and many share forward passes.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from inkfold.serve.messages import Refusal

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How many drawings may wait, and how long.

    Attributes:
        waiting: The most drawings that are being decoded or wait for the model.
        batch: The most drawings in one forward pass. More than four make each slower, since activations leave the caches:
            EfficientNet-Lite0 at 224 px took 11.8 ms per drawing alone, 14.0 among 4, 16.8 among 8, 19.1 among 16
            (ONNX Runtime, two shared cores).
        gather_s: Seconds that the first drawing of a batch waits for others that are being decoded.
        answer_s: The most seconds from a request's arrival to its answer.
    """

    waiting: int = 256
    batch: int = 4
    gather_s: float = 0.003
    answer_s: float = 15.0


@dataclass(slots=True)
class _Ticket(Generic[Item, Result]):
    item: Item
    future: "asyncio.Future[tuple[Result, float, float]]"
    since: float


class Batcher(Generic[Item, Result]):
    """Runs a function over batches of items that are submitted at the same time.

    Args:
        work: Returns one result per item; called in one thread of its own.
        limits: How many items may wait, and how long.
        expected: Returns how many more items are about to be submitted.
        observe: Called with the number of items of each batch, for the server's figures.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        limits: QueueLimits,
        expected: Callable[[], int] = lambda: 0,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._work, self._limits, self._expected, self._observe = work, limits, expected, observe
        self._queue: deque[_Ticket[Item, Result]] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "inkfold-model")
        self._task = asyncio.get_running_loop().create_task(self._run())

    def __len__(self) -> int:
        return len(self._queue)

    async def submit(self, item: Item) -> tuple[Result, float, float]:
        """Wait for the result of one item.

        Args:
            item: The item that `work` gets in a batch.

        Returns:
            The result, the seconds that the item waited, and the seconds that its batch took.

        Raises:
            Refusal: If as many items wait as may.
        """
        if len(self._queue) >= self._limits.waiting:
            raise queue_full(len(self._queue), self._limits.waiting)
        ticket = _Ticket[Item, Result](item, asyncio.get_running_loop().create_future(), time.perf_counter())
        self._queue.append(ticket)
        self._arrived.set()
        return await ticket.future

    async def close(self) -> None:
        """Stop the thread and cancel whatever still waits."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for ticket in self._queue:
            ticket.future.cancel()
        self._thread.shutdown(wait=True)

    async def _run(self) -> None:
        while True:
            if not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            await self._gather()
            batch = self._take()
            if batch:
                await self._answer(batch)

    async def _gather(self) -> None:
        deadline = self._queue[0].since + self._limits.gather_s
        while len(self._queue) < self._limits.batch and self._expected() > 0:
            left_s = deadline - time.perf_counter()
            if left_s <= 0:
                return
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left_s)
            except TimeoutError:
                return

    def _take(self) -> list[_Ticket[Item, Result]]:
        batch: list[_Ticket[Item, Result]] = []
        while self._queue and len(batch) < self._limits.batch:
            ticket = self._queue.popleft()
            if not ticket.future.done():  # its client's time was over
                batch.append(ticket)
        return batch

    async def _answer(self, batch: list[_Ticket[Item, Result]]) -> None:
        started = time.perf_counter()
        self._observe(len(batch))
        try:
            items = [ticket.item for ticket in batch]
            results = await asyncio.get_running_loop().run_in_executor(self._thread, self._work, items)
        except asyncio.CancelledError:
            for ticket in batch:
                ticket.future.cancel()
            raise
        except Exception as error:  # goes to everyone in this batch; the next batch is served
            for ticket in batch:
                if not ticket.future.done():
                    ticket.future.set_exception(error)
            return
        took_s = time.perf_counter() - started
        for ticket, result in zip(batch, results, strict=True):
            if not ticket.future.done():
                ticket.future.set_result((result, started - ticket.since, took_s))


def queue_full(waiting: int, limit: int) -> Refusal:
    """Build the refusal of a drawing when as many wait as may."""
    return Refusal(
        429, "queue_full", f"{waiting} drawings are waiting already", f"at most {limit}", "Wait a second and try again."
    )
