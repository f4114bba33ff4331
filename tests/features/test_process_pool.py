import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from inkfold.augment.views import IDENTITY, parse_view
from inkfold.errors import CacheError
from inkfold.features.executors import InlineExecutor
from inkfold.features.extractor import extract
from inkfold.features.process_pool import PoolExecutor, cuda_devices, slot_environments
from inkfold.features.tasks import plan_chunks
from toy_bank import die, ended, killed_once, name_of, noted, on_full_disk, real_bank, shard_files, toy_job


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr("inkfold.features.tasks.CPU_CHUNK_ROWS", 32)


@pytest.fixture
def pool():
    opened = PoolExecutor(2)
    yield opened
    opened.close()


def test_a_pool_leaves_the_same_bytes_and_redoes_only_the_chunk_whose_process_was_killed(tmp_path, monkeypatch, pool):
    job, digests = real_bank(tmp_path / "inline", 150)
    views = (IDENTITY, parse_view("rotate(9)", 0, 1))
    extract(job, dict.fromkeys(views, digests), InlineExecutor())
    monkeypatch.setattr("inkfold.features.process_pool.run_chunk", noted)
    job, digests = real_bank(tmp_path / "pool", 150)
    begun = killed_once(job, digests, pool, victim=1)
    plan = [name_of(chunk) for chunk in plan_chunks(job, {IDENTITY: digests})]
    assert Counter(begun) == Counter([*plan, plan[1]])
    reports = []
    extract(job, {views[1]: digests}, pool, lambda *report: reports.append(report))
    assert (len(reports), reports[-1]) == (5, ("features", 150, 150))
    assert shard_files(tmp_path / "pool") == shard_files(tmp_path / "inline")
    assert job.bank(IDENTITY).rate() > 0


def test_a_chunk_whose_process_is_killed_every_time_ends_in_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("inkfold.features.process_pool.run_chunk", die)
    job, digests = real_bank(tmp_path, 20)
    pool = PoolExecutor(1)
    with pytest.raises(CacheError, match=r"20 drawings of .* was killed 3 times \(SIGKILL\(-9\)\)") as caught:
        extract(job, {IDENTITY: digests}, pool)
    assert "finished chunks are kept" in str(caught.value)
    pool.close()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent_however_it_ends_and_what_is_done_is_kept(tmp_path, ending):
    errors = ended(tmp_path, "pool:1", ending)
    assert errors.strip().endswith("KeyboardInterrupt") or ending == signal.SIGKILL
    assert len(shard_files(tmp_path)) == 1, "the chunk before the one that hung"


def test_a_full_disk_in_a_process_is_reported_as_it_is(tmp_path, monkeypatch, pool):
    monkeypatch.setattr("inkfold.features.process_pool.run_chunk", on_full_disk)
    job, digests = real_bank(tmp_path, 20)
    with pytest.raises(CacheError, match=r"safetensors: No space left on device\. Free some space or set INKFOLD_HOME"):
        extract(job, {IDENTITY: digests}, pool)
    assert shard_files(tmp_path) == {}
    monkeypatch.undo()
    extract(job, {IDENTITY: digests}, pool)
    assert len(shard_files(tmp_path)) == 1, "the same processes go on when there is room"


def test_processes_times_threads_are_no_more_than_the_cores(tmp_path, monkeypatch):
    monkeypatch.setattr("inkfold.features.process_pool.available_cores", lambda: 8)
    job = toy_job(tmp_path)
    counts = [
        len(slot_environments(replace(job, threads=threads), workers))
        for threads, workers in [(1, None), (1, 3), (1, 99), (2, None), (3, None), (16, None)]
    ]
    assert counts == [8, 3, 8, 4, 2, 1]
    assert slot_environments(replace(job, threads=2), 1)[0]["OMP_NUM_THREADS"] == "2"


def test_each_cuda_device_has_a_process_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("inkfold.features.process_pool.available_cores", lambda: 8)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    job = replace(toy_job(tmp_path), device="cuda")

    def devices(workers):
        return [environment["CUDA_VISIBLE_DEVICES"] for environment in slot_environments(job, workers)]

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [devices(None), devices(2), devices(4)] == [["0", "1", "2"], ["0", "1"], ["0", "1", "2", "0"]]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b,GPU-c")
    assert cuda_devices() == ["GPU-a", "GPU-b", "GPU-c"]
    assert "CUDA_VISIBLE_DEVICES" not in slot_environments(replace(job, device="mps"), None)[0]
