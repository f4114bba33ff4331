import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inkfold.augment.views import IDENTITY, parse_view
from inkfold.errors import CacheError, RecipeError
from inkfold.features import tasks
from inkfold.features.tasks import ChunkTracker, FeatureJob, Worker, plan_chunks, run_chunk
from inkfold.images.preprocess import ImageOptions
from inkfold.storage.hashing import DIGEST_DTYPE
from toy_bank import Stub, expected, fill, info, named, shard_files, toy_job, use

HFLIP = parse_view("hflip")


def planned(job: FeatureJob, ids) -> list:
    return plan_chunks(job, {IDENTITY: named(ids)})


@given(st.data(), st.integers(1, 120), st.sampled_from([1, 5, 16, 100]))
def test_a_plan_does_not_depend_on_order_or_repetition_and_covers_every_drawing_once(tmp_path_factory, data, count, batch_size):
    job = toy_job(tmp_path_factory.getbasetemp() / "plans", batch_size)
    ids = data.draw(st.permutations(range(3 * count)))
    plan = planned(job, ids)
    assert plan == planned(job, range(3 * count)) == planned(job, [*ids, *ids[:7]])
    drawings = [drawing for chunk in plan for drawing in chunk.drawings]
    assert drawings == sorted(named(ids).tolist())
    assert all(len(chunk) == job.chunk_rows for chunk in plan[:-1])


@given(st.sets(st.integers(0, 12)))
def test_whole_chunks_that_are_done_leave_the_others_as_they_were(tmp_path_factory, done):
    job = toy_job(tmp_path_factory.getbasetemp() / "plans", 16)
    plan = planned(job, range(13 * job.chunk_rows - 5))
    left = [chunk for i, chunk in enumerate(plan) if i not in done]
    missing = np.array([drawing for chunk in left for drawing in chunk.drawings], DIGEST_DTYPE)
    assert plan_chunks(job, {IDENTITY: missing}) == left


@pytest.mark.parametrize(
    ("device", "batch_size", "rows"),
    [("cpu", 1, 64), ("cpu", 8, 64), ("cpu", 24, 72), ("cpu", 100, 100), ("cuda", 128, 2048), ("cuda", 3000, 3000)],
)
def test_a_chunk_has_whole_batches(tmp_path, device, batch_size, rows):
    assert FeatureJob(tmp_path, info(), ImageOptions(size_px=8), device, batch_size).chunk_rows == rows


def test_a_chunk_survives_pickling_and_says_what_it_is(tmp_path):
    chunk = plan_chunks(toy_job(tmp_path), {HFLIP: named(range(3))})[0]
    assert pickle.loads(pickle.dumps(chunk)) == chunk  # as a pool's pipe does, with what this process made
    assert str(chunk).startswith("3 drawings of 'test_resnet.r160_in1k' under hflip, the first ")


def test_each_view_has_chunks_of_its_own_directory(tmp_path):
    job = toy_job(tmp_path)
    plan = plan_chunks(job, {IDENTITY: named(range(70)), HFLIP: named(range(3))})
    assert [(chunk.view, len(chunk)) for chunk in plan] == [(IDENTITY, 64), (IDENTITY, 6), (HFLIP, 3)]
    assert [chunk.directory for chunk in plan] == [job.bank(view).shards.directory for view in (IDENTITY, IDENTITY, HFLIP)]


def test_a_chunk_gives_one_file_and_reports_each_batch(tmp_path, monkeypatch):
    fill(tmp_path, range(40))
    use(monkeypatch, Stub(16))
    job, reports = toy_job(tmp_path), []
    [chunk] = planned(job, range(40))
    assert Worker(job).run(chunk, reports.append) > 0
    assert reports == [16, 16, 8]
    assert len(shard_files(tmp_path)) == 1
    bank = job.bank(IDENTITY)
    assert not bank.shards.missing(named(range(40))).any()
    np.testing.assert_array_equal(bank.read(named(range(40))), expected(range(40)))


def test_a_worker_builds_one_backbone_and_finds_pixels_that_came_later(tmp_path, monkeypatch):
    stub, job = use(monkeypatch, Stub(16)), toy_job(tmp_path)
    worker = Worker(job)
    for ids in (range(5), range(5, 9)):
        fill(tmp_path, ids)
        [chunk] = planned(job, ids)
        worker.run(chunk)
    assert stub.builds == 1


def test_a_worker_process_keeps_the_backbone_of_its_last_job_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "_last_worker", {})
    monkeypatch.setattr(tasks, "worker_settings", tasks.contextlib.nullcontext)
    fill(tmp_path, range(9))
    stub, first = use(monkeypatch, Stub(16)), toy_job(tmp_path)
    other = replace(first, backbone=replace(first.backbone, std=(1.0, 1.0, 1.0)))
    for job in (first, first, other, first):
        for chunk in planned(job, range(9)):
            run_chunk(chunk)
    assert stub.builds == 3
    assert len(tasks._last_worker) == 1


def test_pixels_that_are_gone_are_an_error_and_leave_no_file(tmp_path, monkeypatch):
    fill(tmp_path, range(9))
    use(monkeypatch, Stub(16))
    job = toy_job(tmp_path)
    [chunk] = planned(job, range(10))
    with pytest.raises(CacheError, match=r"1 of \d+ rows are gone"):
        Worker(job).run(chunk)
    assert shard_files(tmp_path) == {}


def test_memory_that_runs_out_is_reported_with_what_to_set(tmp_path, monkeypatch):
    class Large(Stub):
        def extract(self, pixels: np.ndarray) -> np.ndarray:
            raise torch.OutOfMemoryError("CUDA out of memory")  # as after its batches were halved to one drawing

    fill(tmp_path, range(9))
    use(monkeypatch, Large(1))
    job = toy_job(tmp_path)
    [chunk] = planned(job, range(9))
    with pytest.raises(RecipeError, match=r"out of memory with 1 drawings per forward pass\. Free the device for it"):
        Worker(job).run(chunk)


def test_a_machine_with_other_libraries_refuses_a_chunk(tmp_path, monkeypatch):
    fill(tmp_path, range(9))
    use(monkeypatch, Stub(16))
    job = toy_job(tmp_path)
    [chunk] = planned(job, range(9))
    with pytest.raises(CacheError, match="expected other; timm"):
        Worker(job).run(replace(chunk, directory=tmp_path / "other"))
    monkeypatch.setattr(tasks, "version", lambda name: "0.1")
    with pytest.raises(CacheError, match=r"timm 0\.1, expected \d.*Install the same versions"):
        Worker(job).run(chunk)


def test_a_tracker_divides_the_wall_time_by_what_each_views_chunks_extraction(tmp_path, monkeypatch):
    job, clock, reports = toy_job(tmp_path), iter([12.0, 14.0, 20.0]), []
    first, second = planned(job, range(70))
    [flipped] = plan_chunks(job, {HFLIP: named(range(10))})
    tracker = ChunkTracker([first, second, flipped], lambda *report: reports.append(report))
    monkeypatch.setattr("inkfold.features.tasks.time.perf_counter", lambda: next(clock))
    tracker.finish(first, 2.0)
    tracker.finish(flipped, 4.0)
    tracker.finish(second, 10.0)
    # from second 10 to 20; of 16 seconds of two workers 12 were the first view's
    assert tracker.spent() == {IDENTITY: (70, 7.5), HFLIP: (10, 2.5)}
    tracker.advance(64)
    tracker.advance(20)
    assert reports == [("features", 64, 80), ("features", 80, 80)]
