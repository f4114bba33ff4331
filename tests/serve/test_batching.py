import asyncio
import threading
import time

import pytest

from inkfold.serve.batching import Batcher, QueueLimits
from inkfold.serve.fairness import Share
from inkfold.serve.messages import Refusal

SHARE = Share("")


def with_batcher(scenario, work, limits=None, **more):
    async def run():
        batcher = Batcher(work, limits or QueueLimits(), **more)
        try:
            return await asyncio.wait_for(scenario(batcher), 20)
        finally:
            await batcher.close()

    return asyncio.run(run())


def test_items_submitted_while_the_model_is_busy_share_a_batch():
    sizes = []

    def work(items):
        time.sleep(0.02)
        return [2 * item for item in items]

    async def scenario(batcher):
        return await asyncio.gather(*(batcher.submit(i, SHARE) for i in range(40)))

    answers = with_batcher(scenario, work, QueueLimits(batch=16), observe=sizes.append)
    assert [result for result, _, _ in answers] == [2 * i for i in range(40)]
    assert sum(sizes) == 40
    assert max(sizes) == 16
    assert len(sizes) <= 4


def test_a_single_item_waits_for_nobody():
    async def scenario(batcher):
        return await batcher.submit(1, SHARE)

    result, queued_s, _ = with_batcher(scenario, lambda items: items, QueueLimits(gather_s=10.0))
    assert result == 1
    assert queued_s < 5


def test_the_first_of_a_batch_waits_for_one_that_is_being_decoded():
    sizes = []

    async def scenario(batcher):
        first = asyncio.create_task(batcher.submit(1, SHARE))
        await asyncio.sleep(0.05)
        coming[0] = 0
        return [(await task)[0] for task in (first, asyncio.create_task(batcher.submit(2, SHARE)))]

    coming = [1]
    answers = with_batcher(
        scenario, lambda items: items, QueueLimits(gather_s=5.0), expected=lambda: coming[0], observe=sizes.append
    )
    assert (answers, sizes) == ([1, 2], [2])


def test_items_past_the_limit_are_refused():
    go = threading.Event()

    def work(items):
        go.wait(10)
        return items

    async def scenario(batcher):
        tasks = [asyncio.create_task(batcher.submit(i, SHARE)) for i in range(6)]
        await asyncio.sleep(0.05)
        go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = with_batcher(scenario, work, QueueLimits(waiting=4, batch=1))
    refused = [answer for answer in answers if isinstance(answer, Refusal)]
    assert {refusal.status for refusal in refused} == {429}
    assert len(answers) - len(refused) >= 4


def test_a_cancelled_item_is_not_computed():
    seen, go = [], threading.Event()

    def work(items):
        go.wait(10)
        seen.extend(items)
        return items

    async def scenario(batcher):
        first, gone = asyncio.create_task(batcher.submit("first", SHARE)), asyncio.create_task(batcher.submit("gone", SHARE))
        await asyncio.sleep(0.05)
        gone.cancel()
        go.set()
        await first
        return await batcher.submit("last", SHARE)

    assert with_batcher(scenario, work, QueueLimits(batch=1))[0] == "last"
    assert seen == ["first", "last"]


def test_a_failing_batch_leaves_the_next_one_alone():
    def work(items):
        if "bad" in items:
            raise ValueError("no")
        return items

    async def scenario(batcher):
        with pytest.raises(ValueError, match="no"):
            await batcher.submit("bad", SHARE)
        return await batcher.submit("good", SHARE)

    assert with_batcher(scenario, work)[0] == "good"


def test_closing_cancels_waiting_items():
    async def scenario(batcher):
        tasks = [asyncio.create_task(batcher.submit(i, SHARE)) for i in range(3)]
        await asyncio.sleep(0.02)
        await batcher.close()
        return await asyncio.gather(*tasks, return_exceptions=True)

    def work(items):
        time.sleep(0.1)
        return items

    answers = with_batcher(scenario, work, QueueLimits(batch=1))
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[1:])
