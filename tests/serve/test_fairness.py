import asyncio
import threading

import pytest

from inkfold.serve.fairness import Admission, FairQueue, Lane, Share
from inkfold.serve.messages import Refusal


def test_turns_go_around_clients_and_around_their_requests():
    queue = FairQueue[str]()
    first, second, other = Share("a"), Share("a"), Share("b")
    for share, items in ((first, ("a1", "a2", "a3")), (second, ("A1", "A2")), (other, ("b1",))):
        for item in items:
            queue.put(share, item)
    assert (len(queue), queue.peek()) == (6, "a1")
    assert [queue.take() for _ in range(6)] == ["a1", "b1", "A1", "a2", "A2", "a3"]
    assert len(queue) == 0


def test_a_client_may_take_all_places_while_no_other_wants_any():
    admission, share = Admission(4), Share("a")
    admission.admit(share, 4)
    with pytest.raises(Refusal, match="429 queue_full"):
        admission.admit(Share("a"), 1)
    admission.release(share)
    assert admission.held == 0


def test_the_latest_request_of_the_client_that_holds_most_makes_room():
    admission = Admission(4)
    shares = [Share("greedy") for _ in range(4)]
    for share in shares:
        admission.admit(share, 1)
    late = Share("late")
    admission.admit(late, 1)
    assert [share.is_revoked for share in shares] == [False, False, False, True]
    admission.admit(late, 1)
    assert [share.is_revoked for share in shares] == [False, False, True, True]
    with pytest.raises(Refusal, match="429 queue_full"):  # both hold two now
        admission.admit(late, 1)
    assert admission.held == 4


def test_a_refused_client_holds_nothing_once_it_is_released():
    admission, share = Admission(1), Share("a")
    with pytest.raises(Refusal, match="429"):
        admission.admit(share, 2)
    admission.release(share)
    admission.release(share)
    admission.admit(Share("b"), 1)
    assert admission.held == 1


def in_lane(scenario, threads=1, weight=10):
    async def run():
        lane = Lane("test", threads, weight)
        try:
            return await asyncio.wait_for(scenario(lane), 20)
        finally:
            lane.close()

    return asyncio.run(run())


def test_jobs_that_run_together_weigh_no_more_than_the_limit():
    running, most, lock, go = 0, [], threading.Lock(), threading.Event()

    def work():
        nonlocal running
        with lock:
            running += 1
            most.append(running)
        go.wait(0.05)
        with lock:
            running -= 1

    async def scenario(lane):
        await asyncio.gather(*(lane.run(Share(str(i)), work, 6) for i in range(4)))
        heavy = most.copy()
        most.clear()
        await asyncio.gather(*(lane.run(Share(str(i)), work, 5) for i in range(4)))
        return heavy, most

    heavy, light = in_lane(scenario, threads=3)
    assert max(heavy) == 1
    assert max(light) <= 2


def test_a_job_whose_client_has_gone_is_not_run_and_errors_are_passed_on():
    ran, begun, go = [], threading.Event(), threading.Event()

    def block():
        begun.set()
        go.wait(10)

    def fail():
        raise ValueError("no")

    async def scenario(lane):
        share = Share("a")
        first = asyncio.create_task(lane.run(share, block))
        gone = asyncio.create_task(lane.run(share, lambda: ran.append("gone")))
        failing = asyncio.create_task(lane.run(share, fail))
        await asyncio.to_thread(begun.wait, 10)
        gone.cancel()
        go.set()
        await first
        with pytest.raises(ValueError, match="no"):
            await failing
        return await lane.run(share, lambda: "last")

    assert in_lane(scenario) == "last"
    assert ran == []
