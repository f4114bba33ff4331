import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from inkfold.augment.views import IDENTITY, parse_view
from inkfold.errors import RecipeError
from inkfold.features.executors import InlineExecutor, count_concurrent, open_executor
from inkfold.features.extractor import extract
from inkfold.features.process_pool import PoolExecutor
from toy_bank import Stub, expected, fill, fill_bank, named, real_bank, shard_files, toy_job, use


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


UNKNOWN = ("", "InlineExecutor", "inline:2", "pool:", "pool:0", "pool:-1", "pool:two", "pool:99999", "pools", "spark")
UNKNOWN_OF_RAY = ("ray:", "ray:host", "ray:a b:1", "ray:http://host:1", "ray:0", "ray:auto:0", "ray:host:1:0", "ray:a:1:2:3")


@pytest.mark.parametrize("on", [*UNKNOWN, *UNKNOWN_OF_RAY])
def test_what_is_no_executor_is_refused_with_the_list_of_executors(on):
    with pytest.raises(
        RecipeError, match=r"expected inline, pool, pool:N with N from 1, ray, ray:auto or ray:HOST:PORT"
    ) as caught:
        open_executor(on)
    assert str(caught.value).startswith(f"on: got '{on}'")


@pytest.mark.parametrize(
    "on", ["ray", "ray:2", "ray:auto", "ray:auto:2", "ray:10.0.0.1:6379", "ray:head:6379:8", "ray:[::1]:6379"]
)
def test_without_ray_its_installation_is_named(monkeypatch, on):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"pip install 'inkfold\[ray\]'"):
        open_executor(on)


def test_executors_are_chosen_by_their_short_form():
    with open_executor() as here:
        assert isinstance(here, InlineExecutor)
    for on in ("pool", "pool:3"):
        with open_executor(on) as pool:
            assert isinstance(pool, PoolExecutor)


@pytest.mark.parametrize(
    ("on", "address_and_workers"),
    [
        ("ray", (None, None)),
        ("ray:4", (None, 4)),
        ("ray:auto", ("auto", None)),
        ("ray:auto:4", ("auto", 4)),
        ("ray:head:6379", ("head:6379", None)),
        ("ray:10.0.0.1:6379:64", ("10.0.0.1:6379", 64)),
        ("ray:[::1]:6379:2", ("[::1]:6379", 2)),
    ],
)
def test_rays_address_and_its_processes_are_distinguished(monkeypatch, on, address_and_workers):
    created = []

    class Named(InlineExecutor):
        def __init__(self, *arguments: object) -> None:
            created.append(arguments)

    monkeypatch.setattr("inkfold.features.ray_cluster.RayExecutor", Named)
    with open_executor(on):
        assert created == [address_and_workers]


def test_an_executor_is_closed_by_who_opened_it(monkeypatch):
    closed = []

    def close(self: InlineExecutor) -> None:
        closed.append(self)

    monkeypatch.setattr(InlineExecutor, "close", close)
    with open_executor() as mine:
        with open_executor(mine) as borrowed:
            assert borrowed is mine
        assert closed == []
    assert closed == [mine]


def test_as_many_chunks_run_at_once_as_pytorch_has_threads(tmp_path, monkeypatch, two_threads):
    assert count_concurrent(toy_job(tmp_path)) == 2
    together, met = threading.Barrier(2), set()

    class Meeting(Stub):
        def extract(self, pixels: np.ndarray) -> np.ndarray:
            if threading.get_ident() not in met:
                met.add(threading.get_ident())
                together.wait(120)
            return super().extract(pixels)

    use(monkeypatch, Meeting())
    _, bank = fill_bank(toy_job(tmp_path), fill(tmp_path, range(300)))
    np.testing.assert_array_equal(bank.read(named(range(300))), expected(range(300)))


def test_one_chunk_at_once_and_two_leave_the_same_bytes(tmp_path, monkeypatch, two_threads):
    views = (IDENTITY, parse_view("rotate(9)", 0, 1))
    for concurrent in (1, 2):
        monkeypatch.setattr("inkfold.features.executors.count_concurrent", lambda job, concurrent=concurrent: concurrent)
        job, digests = real_bank(tmp_path / str(concurrent), 150)
        extract(job, dict.fromkeys(views, digests), InlineExecutor())
    assert len(shard_files(tmp_path / "1")) == 6
    assert shard_files(tmp_path / "1") == shard_files(tmp_path / "2")


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_in_one_thread_ends_the_others_after_their_batch(tmp_path, monkeypatch, two_threads, error):
    class Slow(Stub):
        def extract(self, pixels: np.ndarray) -> np.ndarray:
            time.sleep(0.01)
            return super().extract(pixels)

    def report(stage: str, done: int, total: int) -> None:
        if done >= 160:
            raise error

    stub = use(monkeypatch, Slow())
    with pytest.raises(error):
        fill_bank(toy_job(tmp_path), fill(tmp_path, range(2000)), progress=report)
    assert stub.forwards < 400
    assert threading.active_count() < 10


def test_threads_on_an_accelerator_take_turns_at_forwards(tmp_path, monkeypatch):
    class Alone(Stub):
        at_work = 0

        def extract(self, pixels: np.ndarray) -> np.ndarray:
            self.at_work += 1
            time.sleep(0.001)
            assert self.at_work == 1
            self.at_work -= 1
            return super().extract(pixels)

    monkeypatch.setattr("inkfold.features.tasks.CHUNK_ROWS", 64)
    use(monkeypatch, Alone())
    job = replace(toy_job(tmp_path), device="cuda")
    assert count_concurrent(job) == 2
    extraction = extract(job, {parse_view("rotate(9)", 0, 1): fill(tmp_path, range(300))}, InlineExecutor())
    assert extraction.forwards == 300
    assert len(shard_files(tmp_path)) == 5
