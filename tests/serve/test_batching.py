import asyncio
import threading
import time

import pytest

from inkfold.serve.batching import Batcher, QueueLimits
from inkfold.serve.messages import Refusal


def with_batcher(talk, work, limits=None, **more):
    async def run():
        batcher = Batcher(work, limits or QueueLimits(), **more)
        try:
            return await asyncio.wait_for(talk(batcher), 20)
        finally:
            await batcher.close()

    return asyncio.run(run())


def test_what_is_asked_while_the_model_is_busy_goes_through_it_together():
    sizes = []

    def work(items):
        time.sleep(0.02)
        return [2 * item for item in items]

    async def talk(batcher):
        return await asyncio.gather(*(batcher.ask(i) for i in range(40)))

    answers = with_batcher(talk, work, QueueLimits(batch=16), observe=sizes.append)
    assert [result for result, _, _ in answers] == [2 * i for i in range(40)]
    assert sum(sizes) == 40
    assert max(sizes) == 16
    assert len(sizes) <= 4


def test_a_single_client_waits_for_nobody():
    async def talk(batcher):
        return await batcher.ask(1)

    result, queued_s, _ = with_batcher(talk, lambda items: items, QueueLimits(gather_s=10.0))
    assert result == 1
    assert queued_s < 5


def test_the_first_of_a_batch_waits_for_one_that_is_on_its_way():
    sizes = []

    async def talk(batcher):
        first = asyncio.create_task(batcher.ask(1))
        await asyncio.sleep(0.05)
        coming[0] = 0
        return [(await one)[0] for one in (first, asyncio.create_task(batcher.ask(2)))]

    coming = [1]
    answers = with_batcher(
        talk, lambda items: items, QueueLimits(gather_s=5.0), expected=lambda: coming[0], observe=sizes.append
    )
    assert (answers, sizes) == ([1, 2], [2])


def test_no_more_wait_than_may():
    go = threading.Event()

    def work(items):
        go.wait(10)
        return items

    async def talk(batcher):
        asked = [asyncio.create_task(batcher.ask(i)) for i in range(6)]
        await asyncio.sleep(0.05)
        go.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = with_batcher(talk, work, QueueLimits(waiting=4, batch=1))
    refused = [one for one in answers if isinstance(one, Refusal)]
    assert {one.status for one in refused} == {429}
    assert len(answers) - len(refused) >= 4


def test_what_nobody_waits_for_any_more_is_not_computed():
    seen, go = [], threading.Event()

    def work(items):
        go.wait(10)
        seen.extend(items)
        return items

    async def talk(batcher):
        first, gone = asyncio.create_task(batcher.ask("first")), asyncio.create_task(batcher.ask("gone"))
        await asyncio.sleep(0.05)
        gone.cancel()
        go.set()
        await first
        return await batcher.ask("last")

    assert with_batcher(talk, work, QueueLimits(batch=1))[0] == "last"
    assert seen == ["first", "last"]


def test_a_batch_that_fails_takes_the_next_one_not_with_it():
    def work(items):
        if "bad" in items:
            raise ValueError("no")
        return items

    async def talk(batcher):
        with pytest.raises(ValueError, match="no"):
            await batcher.ask("bad")
        return await batcher.ask("good")

    assert with_batcher(talk, work)[0] == "good"


def test_closing_ends_those_who_wait():
    async def talk(batcher):
        asked = [asyncio.create_task(batcher.ask(i)) for i in range(3)]
        await asyncio.sleep(0.02)
        await batcher.close()
        return await asyncio.gather(*asked, return_exceptions=True)

    def work(items):
        time.sleep(0.1)
        return items

    answers = with_batcher(talk, work, QueueLimits(batch=1))
    assert all(isinstance(one, asyncio.CancelledError) for one in answers[1:])
