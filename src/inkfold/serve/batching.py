"""Drawings that arrive at the same time go through the model together: a bounded queue, and one forward pass at a time.

While a forward pass runs, drawings gather for the next one; when the model is free, the first waits for others only as long as
some are being decoded, and a few milliseconds at most. So a single client never waits, and many share forward passes.
Strokes and pictures wait in queues of their own, and each has a place in every batch: neither holds up the other.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from inkfold.serve.fairness import FairQueue, Share, queue_full

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How many drawings may wait, and how long.

    Attributes:
        waiting: Places in each of two queues, of strokes and of pictures that are being decoded or wait for the model. Strokes
            take one, pictures one for each 16 MiB of memory that reading them may take.
        decoding_bytes: The most bytes of memory that all pictures that are being decoded may take together; one that may take
            more is refused.
        batch: The most drawings in one forward pass. More than four make each slower, since activations leave the caches:
            EfficientNet-Lite0 at 224 px took 11.8 ms per drawing alone, 14.0 among 4, 16.8 among 8, 19.1 among 16
            (ONNX Runtime, two shared cores).
        gather_s: Seconds that the first drawing of a batch waits for others that are being decoded.
        answer_s: The most seconds from a request's arrival to its answer.
    """

    waiting: int = 256
    decoding_bytes: int = 384 << 20
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
        self._strokes, self._pictures = FairQueue[_Ticket[Item, Result]](), FairQueue[_Ticket[Item, Result]]()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "inkfold-model")
        self._task = asyncio.get_running_loop().create_task(self._run())

    def __len__(self) -> int:
        return len(self._strokes) + len(self._pictures)

    async def submit(self, item: Item, share: Share) -> tuple[Result, float, float]:
        """Wait for the result of one item.

        Args:
            item: The item that `work` gets in a batch.
            share: The request that it belongs to, which decides whose turn it is.

        Returns:
            The result, the seconds that the item waited, and the seconds that its batch took.

        Raises:
            Refusal: If as many items wait as may.
        """
        queue = self._pictures if share.is_picture else self._strokes
        if len(queue) >= self._limits.waiting:
            raise queue_full(len(queue), self._limits.waiting)
        ticket = _Ticket[Item, Result](item, asyncio.get_running_loop().create_future(), time.perf_counter())
        queue.put(share, ticket)
        self._arrived.set()
        return await ticket.future

    async def close(self) -> None:
        """Stop the thread and cancel whatever still waits."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for ticket in [*self._strokes.drain(), *self._pictures.drain()]:
            ticket.future.cancel()
        self._thread.shutdown(wait=True)

    async def _run(self) -> None:
        while True:
            if not len(self):
                self._arrived.clear()
                await self._arrived.wait()
            await self._gather()
            batch = self._take()
            if batch:
                await self._answer(batch)

    async def _gather(self) -> None:
        first = min(queue.peek().since for queue in (self._strokes, self._pictures) if queue)
        deadline = first + self._limits.gather_s
        while len(self) < self._limits.batch and self._expected() > 0:
            left_s = deadline - time.perf_counter()
            if left_s <= 0:
                return
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left_s)
            except TimeoutError:
                return

    def _take(self) -> list[_Ticket[Item, Result]]:
        """Take strokes first, but leave one place to pictures that wait."""
        batch: list[_Ticket[Item, Result]] = []
        reserved = 1 if self._pictures and self._limits.batch > 1 else 0
        for queue, most in ((self._strokes, self._limits.batch - reserved), (self._pictures, self._limits.batch)):
            while queue and len(batch) < most:
                ticket = queue.take()
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
