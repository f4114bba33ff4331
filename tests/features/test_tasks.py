import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inkfold.augment.views import IDENTITY, parse_view
from inkfold.errors import CacheError, RecipeError
from inkfold.features import tasks as cells_module
from inkfold.features.tasks import Account, FeatureJob, Worker, plan_chunks, run_chunk
from inkfold.images.preprocess import ImageOptions
from inkfold.storage.hashing import DIGEST_DTYPE
from toy_bank import Stub, expected, fill, info, making, named, shard_files, use

HFLIP = parse_view("hflip")


def planned(made: FeatureJob, ids) -> list:
    return plan_chunks(made, {IDENTITY: named(ids)})


@given(st.data(), st.integers(1, 120), st.sampled_from([1, 5, 16, 100]))
def test_a_plan_does_not_depend_on_order_or_repetition_and_covers_every_drawing_once(tmp_path_factory, data, count, batch_size):
    made = making(tmp_path_factory.getbasetemp() / "plans", batch_size)
    ids = data.draw(st.permutations(range(3 * count)))
    plan = planned(made, ids)
    assert plan == planned(made, range(3 * count)) == planned(made, [*ids, *ids[:7]])
    drawings = [drawing for cell in plan for drawing in cell.drawings]
    assert drawings == sorted(named(ids).tolist())
    assert all(len(cell) == made.cell_rows for cell in plan[:-1])


@given(st.sets(st.integers(0, 12)))
def test_whole_cells_that_are_done_leave_the_others_as_they_were(tmp_path_factory, done):
    made = making(tmp_path_factory.getbasetemp() / "plans", 16)
    plan = planned(made, range(13 * made.cell_rows - 5))
    left = [cell for i, cell in enumerate(plan) if i not in done]
    missing = np.array([drawing for cell in left for drawing in cell.drawings], DIGEST_DTYPE)
    assert plan_chunks(made, {IDENTITY: missing}) == left


@pytest.mark.parametrize(
    ("device", "batch_size", "rows"),
    [("cpu", 1, 64), ("cpu", 8, 64), ("cpu", 24, 72), ("cpu", 100, 100), ("cuda", 128, 2048), ("cuda", 3000, 3000)],
)
def test_a_cell_has_whole_batches(tmp_path, device, batch_size, rows):
    assert FeatureJob(tmp_path, info(), ImageOptions(size_px=8), device, batch_size).cell_rows == rows


def test_a_cell_survives_pickling_and_says_what_it_is(tmp_path):
    cell = plan_chunks(making(tmp_path), {HFLIP: named(range(3))})[0]
    assert pickle.loads(pickle.dumps(cell)) == cell  # as a pool's pipe does, with what this process made
    assert str(cell).startswith("3 drawings of 'test_resnet.r160_in1k' under hflip, the first ")


def test_each_view_has_cells_of_its_own_directory(tmp_path):
    made = making(tmp_path)
    plan = plan_chunks(made, {IDENTITY: named(range(70)), HFLIP: named(range(3))})
    assert [(cell.view, len(cell)) for cell in plan] == [(IDENTITY, 64), (IDENTITY, 6), (HFLIP, 3)]
    assert [cell.directory for cell in plan] == [made.bank(view).shards.directory for view in (IDENTITY, IDENTITY, HFLIP)]


def test_a_cell_gives_one_file_and_tells_each_batch(tmp_path, monkeypatch):
    fill(tmp_path, range(40))
    use(monkeypatch, Stub(16))
    made, told = making(tmp_path), []
    [cell] = planned(made, range(40))
    assert Worker(made).run(cell, told.append) > 0
    assert told == [16, 16, 8]
    assert len(shard_files(tmp_path)) == 1
    bank = made.bank(IDENTITY)
    assert not bank.shards.missing(named(range(40))).any()
    np.testing.assert_array_equal(bank.read(named(range(40))), expected(range(40)))


def test_a_workshop_builds_one_backbone_and_finds_pixels_that_came_later(tmp_path, monkeypatch):
    stub, made = use(monkeypatch, Stub(16)), making(tmp_path)
    workshop = Worker(made)
    for ids in (range(5), range(5, 9)):
        fill(tmp_path, ids)
        [cell] = planned(made, ids)
        workshop.run(cell)
    assert stub.builds == 1


def test_a_worker_process_keeps_the_backbone_of_its_last_making_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(cells_module, "_kept", {})
    monkeypatch.setattr(cells_module, "undisturbed", cells_module.contextlib.nullcontext)
    fill(tmp_path, range(9))
    stub, first = use(monkeypatch, Stub(16)), making(tmp_path)
    other = replace(first, backbone=replace(first.backbone, std=(1.0, 1.0, 1.0)))
    for made in (first, first, other, first):
        for cell in planned(made, range(9)):
            run_chunk(cell)
    assert stub.builds == 3
    assert len(cells_module._kept) == 1


def test_pixels_that_are_gone_are_an_error_and_leave_no_file(tmp_path, monkeypatch):
    fill(tmp_path, range(9))
    use(monkeypatch, Stub(16))
    made = making(tmp_path)
    [cell] = planned(made, range(10))
    with pytest.raises(CacheError, match=r"1 of \d+ rows are gone"):
        Worker(made).run(cell)
    assert shard_files(tmp_path) == {}


def test_memory_that_runs_out_is_told_with_what_to_set(tmp_path, monkeypatch):
    class Large(Stub):
        def extract(self, pixels: np.ndarray) -> np.ndarray:
            raise torch.OutOfMemoryError("CUDA out of memory")  # as after its batches were halved to one drawing

    fill(tmp_path, range(9))
    use(monkeypatch, Large(1))
    made = making(tmp_path)
    [cell] = planned(made, range(9))
    with pytest.raises(RecipeError, match=r"out of memory at 1 drawings a forward\. Free the device for it"):
        Worker(made).run(cell)


def test_a_machine_with_other_libraries_refuses_a_cell(tmp_path, monkeypatch):
    fill(tmp_path, range(9))
    use(monkeypatch, Stub(16))
    made = making(tmp_path)
    [cell] = planned(made, range(9))
    with pytest.raises(CacheError, match="expected other; timm"):
        Worker(made).run(replace(cell, directory=tmp_path / "other"))
    monkeypatch.setattr(cells_module, "version", lambda name: "0.1")
    with pytest.raises(CacheError, match=r"timm 0\.1, expected \d.*Install the same versions"):
        Worker(made).run(cell)


def test_an_account_shares_the_wall_time_out_by_what_each_views_cells_took(tmp_path, monkeypatch):
    made, clock, told = making(tmp_path), iter([12.0, 14.0, 20.0]), []
    first, second = planned(made, range(70))
    [flipped] = plan_chunks(made, {HFLIP: named(range(10))})
    account = Account([first, second, flipped], lambda *report: told.append(report))
    monkeypatch.setattr("inkfold.features.tasks.time.perf_counter", lambda: next(clock))
    account.finish(first, 2.0)
    account.finish(flipped, 4.0)
    account.finish(second, 10.0)
    # from second 10 to 20; of 16 seconds of two workers 12 were the first view's
    assert account.spent() == {IDENTITY: (70, 7.5), HFLIP: (10, 2.5)}
    account.advance(64)
    account.advance(20)
    assert told == [("features", 64, 80), ("features", 80, 80)]
