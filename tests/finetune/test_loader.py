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


def feeder(home, ids=range(6), **given) -> DrawingLoader:
    return DrawingLoader(ImageStore(home / "pixels", OPTIONS), fill(home, ids), 8, **{"on_cpu": True, **given})


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_come_in_their_order_as_the_view_shows_them_whoever_shows_them(tmp_path, workers):
    fed = feeder(tmp_path, workers=workers)
    for view in (IDENTITY, TURNED):
        shown = list(fed.batches(ROWS, view))
        for rows, pixels in zip(ROWS, shown, strict=True):
            np.testing.assert_array_equal(pixels, render_batch(pictures(rows), view, named(rows).tolist(), 8))
    assert not np.array_equal(shown[0], pictures(ROWS[0])), "the last view turns"


def test_a_drawing_looks_the_same_in_any_company(tmp_path):
    fed = feeder(tmp_path)
    [together] = fed.batches([np.arange(6)], TURNED)
    alone = np.concatenate(list(fed.batches([np.array([row]) for row in range(6)], TURNED)))
    np.testing.assert_array_equal(together, alone)


def test_larger_pixels_are_shown_at_the_networks_size(tmp_path):
    stored = ImageOptions(size_px=16)
    digests = fill(tmp_path, range(3), stored)
    [pixels] = DrawingLoader(ImageStore(tmp_path / "pixels", stored), digests, 8, on_cpu=True).batches([np.arange(3)], IDENTITY)
    assert pixels.shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("rows", "batches"),
    [(1, 12), (400, 12), (2**30 // (3 * 64 * 5), 5), (2**30, 2)],
)
def test_no_more_batches_lie_ready_than_a_gibibyte_holds_but_two(tmp_path, rows, batches):
    assert feeder(tmp_path, workers=6)._depth(rows) == batches


def test_processes_of_one_machine_share_its_cores(tmp_path, monkeypatch):
    monkeypatch.setattr("inkfold.finetune.loader.available_cores", lambda: 16)
    assert feeder(tmp_path, on_cpu=False).workers == 16
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert feeder(tmp_path, on_cpu=False).workers == 5


def test_time_that_the_caller_spends_elsewhere_is_no_waiting(tmp_path, monkeypatch):
    clock = iter([0.0, 3.0, 10.0, 10.5, 20.0, 20.0, 30.0, 30.25])  # before and after each of three batches and the end
    monkeypatch.setattr("inkfold.finetune.loader.time.perf_counter", lambda: next(clock))
    fed = feeder(tmp_path)
    assert len(list(fed.batches(ROWS, IDENTITY))) == 3
    assert fed.waited_s == 3.75


def test_another_process_gets_the_same_drawings_without_what_this_one_holds(tmp_path):
    fed = feeder(tmp_path)
    expected = list(fed.batches(ROWS, TURNED))
    data = pickle.dumps(fed)
    assert len(data) < 2000, "no pixels, no index"
    again = pickle.loads(data)  # as Ray Train does with what the driver made
    assert again.waited_s == 0
    for one, other in zip(again.batches(ROWS, TURNED), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_nothing_is_shown_any_more_when_nobody_asks(tmp_path):
    fed, before = feeder(tmp_path), threading.active_count()
    shown = fed.batches([np.array([row % 6]) for row in range(1000)], TURNED)
    next(shown)
    shown.close()
    assert threading.active_count() == before


def test_pixels_that_are_gone_are_told(tmp_path):
    fed = DrawingLoader(
        ImageStore(tmp_path / "pixels", OPTIONS), np.append(fill(tmp_path, range(3)), named([9])), 8, on_cpu=True
    )
    with pytest.raises(CacheError, match="1 of 1 rows are gone"):
        list(fed.batches([np.array([0, 3])], IDENTITY))
