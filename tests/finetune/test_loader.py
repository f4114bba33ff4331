import pickle
import threading

import numpy as np
import pytest

from inkfold.augment.views import IDENTITY, parse_view, render_batch
from inkfold.errors import CacheError
from inkfold.finetune.loader import DrawingLoader
from inkfold.images.preprocess import ImageOptions
from inkfold.storage.pixels import ImageStore
from toy_bank import OPTIONS, fill, named, pictures

ROWS = [np.array([4, 1]), np.array([0]), np.array([3, 2, 5])]
TURNED = parse_view("rotate(30)", 7, 1)


def loader_of(home, ids=range(6), **options) -> DrawingLoader:
    return DrawingLoader(ImageStore(home / "pixels", OPTIONS), fill(home, ids), 8, **{"on_cpu": True, **options})


def test_batches_come_in_their_order_under_their_view_from_any_number_of_workers(tmp_path):
    for workers in [1, 3]:
        loader = loader_of(tmp_path, workers=workers)
        for view in (IDENTITY, TURNED):
            rendered = list(loader.batches(ROWS, view))
            for rows, pixels in zip(ROWS, rendered, strict=True):
                np.testing.assert_array_equal(pixels, render_batch(pictures(rows), view, named(rows).tolist(), 8))
        assert not np.array_equal(rendered[0], pictures(ROWS[0])), "the last view turns"


def test_a_drawing_looks_the_same_in_any_company(tmp_path):
    loader = loader_of(tmp_path)
    [together] = loader.batches([np.arange(6)], TURNED)
    alone = np.concatenate(list(loader.batches([np.array([row]) for row in range(6)], TURNED)))
    np.testing.assert_array_equal(together, alone)


def test_larger_pixels_are_rendered_at_the_networks_size(tmp_path):
    stored = ImageOptions(size_px=16)
    digests = fill(tmp_path, range(3), stored)
    [pixels] = DrawingLoader(ImageStore(tmp_path / "pixels", stored), digests, 8, on_cpu=True).batches([np.arange(3)], IDENTITY)
    assert pixels.shape == (3, 8, 8)


def test_no_more_batches_lie_ready_than_a_gibibyte_holds_but_two(tmp_path):
    for rows, batches in [(1, 12), (400, 12), (2**30 // (3 * 64 * 5), 5), (2**30, 2)]:
        assert loader_of(tmp_path, workers=6)._depth(rows) == batches


def test_processes_of_one_machine_share_its_cores(tmp_path, monkeypatch):
    monkeypatch.setattr("inkfold.finetune.loader.available_cores", lambda: 16)
    assert loader_of(tmp_path, on_cpu=False).workers == 16
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert loader_of(tmp_path, on_cpu=False).workers == 5


def test_time_that_the_caller_spends_elsewhere_is_no_waiting(tmp_path, monkeypatch):
    clock = iter([0.0, 3.0, 10.0, 10.5, 20.0, 20.0, 30.0, 30.25])  # before and after each of three batches and the end
    monkeypatch.setattr("inkfold.finetune.loader.time.perf_counter", lambda: next(clock))
    loader = loader_of(tmp_path)
    assert len(list(loader.batches(ROWS, IDENTITY))) == 3
    assert loader.waited_s == 3.75


def test_another_process_gets_the_same_drawings_without_what_this_one_holds(tmp_path):
    loader = loader_of(tmp_path)
    expected = list(loader.batches(ROWS, TURNED))
    data = pickle.dumps(loader)
    assert len(data) < 2000, "no pixels, no index"
    again = pickle.loads(data)  # as Ray Train does with what the driver made
    assert again.waited_s == 0
    for one, other in zip(again.batches(ROWS, TURNED), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_thread_is_left_when_the_caller_stops(tmp_path):
    loader, before = loader_of(tmp_path), threading.active_count()
    rendered = loader.batches([np.array([row % 6]) for row in range(1000)], TURNED)
    next(rendered)
    rendered.close()
    assert threading.active_count() == before


def test_missing_pixels_are_an_error(tmp_path):
    loader = DrawingLoader(
        ImageStore(tmp_path / "pixels", OPTIONS), np.append(fill(tmp_path, range(3)), named([9])), 8, on_cpu=True
    )
    with pytest.raises(CacheError, match="1 of 1 rows are gone"):
        list(loader.batches([np.array([0, 3])], IDENTITY))
