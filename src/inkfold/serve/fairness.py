"""Fair shares among clients: whose turn it is, who makes room when a queue is full, and how many bytes may be decoded at once.

Turns go around the clients, and around each client's requests, so that neither one address with many requests nor one
request with many drawings holds up the others. A queue is full for those who hold most of it: when a client with less arrives,
the latest request of the one that holds most is refused in its favour. Sources: for turns, Nagle, "On packet switches with
infinite storage" (RFC 970, 1985); for dropping from the longest queue, Suter et al., "Design considerations for supporting TCP
with per-flow queueing" (INFOCOM 1998).
"""

import asyncio
import os
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar, final

from inkfold.serve.messages import Refusal

Item = TypeVar("Item")
Result = TypeVar("Result")


@final
class Share:
    """What one request holds of a queue.

    Attributes:
        client: The client's address.
        is_picture: Whether it sends pictures rather than strokes.
        places: How many places of the queue it holds.
        is_revoked: Whether it was refused in favour of a client that held less.
    """

    def __init__(self, client: str, *, is_picture: bool = False, task: "asyncio.Task[object] | None" = None) -> None:
        self.client, self.is_picture, self.places, self.is_revoked = client, is_picture, 0, False
        self._task = task

    def revoke(self) -> None:
        """End the request's task, which has to turn this into a refusal."""
        self.is_revoked = True
        if self._task is not None:
            self._task.cancel()


@final
class Admission:
    """Counts who holds how much of a queue, and makes room for those who hold less than others.

    Args:
        places: How many places the queue has.
    """

    def __init__(self, places: int) -> None:
        self._places, self._held = places, 0
        self._shares: OrderedDict[str, list[Share]] = OrderedDict()

    @property
    def held(self) -> int:
        """The number of places that are held."""
        return self._held

    def admit(self, share: Share, places: int) -> None:
        """Give a request places, or more of them, at the cost of a client that holds more if the queue is full.

        Args:
            share: What the request holds; it has to be released at last, whatever happens.
            places: How many places it gets.

        Raises:
            Refusal: With 429 if the queue is full and no other client holds more than this one would.
        """
        shares = self._shares.setdefault(share.client, [])
        if share not in shares:
            shares.append(share)
        while self._held + places > self._places:
            longest = max(self._shares, key=self._held_by)
            if longest == share.client or self._held_by(longest) <= self._held_by(share.client) + places:
                raise queue_full(self._held, self._places)
            latest = self._shares[longest][-1]
            latest.revoke()
            self.release(latest)
        share.places += places
        self._held += places

    def release(self, share: Share) -> None:
        """Take a request's places back; a second time does nothing."""
        shares = self._shares.get(share.client, [])
        if share in shares:
            self._held -= share.places
            shares.remove(share)
            if not shares:
                del self._shares[share.client]

    def _held_by(self, client: str) -> int:
        return sum(share.places for share in self._shares[client])


@final
class FairQueue(Generic[Item]):
    """Items that are taken in turn: one of each client, and of each of its requests."""

    def __init__(self) -> None:
        self._clients: OrderedDict[str, OrderedDict[Share, deque[Item]]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, share: Share, item: Item) -> None:
        """Add an item at the end of its request's items."""
        self._clients.setdefault(share.client, OrderedDict()).setdefault(share, deque()).append(item)
        self._count += 1

    def peek(self) -> Item:
        """Return the item whose turn it is, without taking it; the queue isn't empty."""
        requests = next(iter(self._clients.values()))
        return next(iter(requests.values()))[0]

    def take(self) -> Item:
        """Take the item whose turn it is; its request and its client then come last. The queue isn't empty."""
        client, requests = next(iter(self._clients.items()))
        request, items = next(iter(requests.items()))
        item = items.popleft()
        self._count -= 1
        requests.move_to_end(request)
        self._clients.move_to_end(client)
        if not items:
            del requests[request]
        if not requests:
            del self._clients[client]
        return item

    def drain(self) -> list[Item]:
        """Take all items."""
        return [self.take() for _ in range(self._count)]


@final
@dataclass(slots=True)
class _Job(Generic[Result]):
    work: Callable[[], Result]
    weight: int
    future: "asyncio.Future[Result]"


@final
class Lane:
    """Threads of their own for one kind of work, whose jobs take turns; jobs that run together weigh no more than a limit.

    Args:
        name: Name of the threads, for debuggers.
        threads: How many jobs run at once.
        weight: The most that the jobs that run at once may weigh together, in any unit; a heavier one runs alone.
        niceness: By how much the threads yield the processor to others, 0 to 19; on Linux only.
    """

    def __init__(self, name: str, threads: int, weight: int, niceness: int = 0) -> None:
        self._pool = ThreadPoolExecutor(threads, name, _yield_processor, (niceness,))
        self._threads, self._weight = threads, weight
        self._queue = FairQueue[_Job[object]]()
        self._running, self._running_weight = 0, 0

    async def run(self, share: Share, work: Callable[[], Result], weight: int = 0) -> Result:
        """Run a function when it is its request's turn, and return what it returns or raise what it raises."""
        job = _Job[Result](work, weight, asyncio.get_running_loop().create_future())
        self._queue.put(share, job)  # type: ignore[arg-type]
        self._start()
        return await job.future

    def close(self) -> None:
        """Stop the threads; jobs that wait are cancelled."""
        for job in self._queue.drain():
            job.future.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _start(self) -> None:
        while self._queue and self._running < self._threads:
            job = self._queue.peek()
            if job.future.done():  # its client has gone, or its time is over
                self._queue.take()
                continue
            if self._running and self._running_weight + job.weight > self._weight:
                return  # in turn all the same: a light one that overtook it again and again would starve it
            self._queue.take()
            self._running += 1
            self._running_weight += job.weight
            asyncio.get_running_loop().run_in_executor(self._pool, job.work).add_done_callback(self._finisher(job))

    def _finisher(self, job: _Job[object]) -> Callable[["asyncio.Future[object]"], None]:
        def finish(done: "asyncio.Future[object]") -> None:
            self._running -= 1
            self._running_weight -= job.weight
            error = None if done.cancelled() else done.exception()
            if not job.future.done():
                if done.cancelled():
                    job.future.cancel()
                elif error is not None:
                    job.future.set_exception(error)
                else:
                    job.future.set_result(done.result())
            self._start()

        return finish


def queue_full(waiting: int, limit: int) -> Refusal:
    """Build the refusal of drawings when as many wait as may."""
    got = f"{waiting} of {limit} places are taken by drawings that wait"
    return Refusal(429, "queue_full", got, "a free place, or a client that holds more of them", "Wait a second and try again.")


def _yield_processor(niceness: int) -> None:
    if niceness and sys.platform == "linux":  # elsewhere the whole process would yield
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
