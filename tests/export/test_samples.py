import numpy as np
import pytest

from inkfold.export import samples as specimens
from inkfold.export.samples import CALIBRATION, Collection, Samples, collect, spread
from inkfold.images.preprocess import ImageOptions
from inkfold.pipeline.train import train
from toy import break_image, toy_data, toy_recipe


def some(n, *, known=True, folds=True):
    files = np.array([f"{i}.png" for i in range(n)], np.dtypes.StringDType())
    return Samples(files, np.arange(n) % 3 if known else None, np.arange(n) % 5 if folds else None)


@pytest.mark.parametrize(("total", "count"), [(10, 3), (10, 10), (10, 99), (1, 5), (0, 5), (1000, 7)])
def test_rows_are_spread_evenly(total, count):
    rows = spread(total, count)
    assert len(rows) == min(total, count)
    assert len(np.unique(np.diff(rows))) <= 2
    if len(rows) > 1:
        assert (rows[0], rows[-1]) == (0, total - 1)


def test_test_drawings_of_known_class_judge():
    calibration, judged = Collection(some(600), some(50, folds=False)).apart(folds=True)
    assert (len(calibration), len(judged), judged.folds) == (CALIBRATION, 50, None)


def test_else_training_drawings_that_ranges_were_not_measured_on_judge_by_the_fold_that_has_not_seen_them():
    calibration, judged = Collection(some(600), some(50, known=False, folds=False)).apart(folds=True)
    assert not set(calibration.files.tolist()) & set(judged.files.tolist())
    assert len(judged) == 600 - CALIBRATION
    assert judged.folds is not None


def test_drawings_that_every_fold_has_seen_judge_nothing():
    seen = some(600)
    held_out = np.arange(600) >= 550
    seen = Samples(seen.files, seen.targets, np.where(held_out, 0, -1))
    judged = Collection(seen, None).apart(folds=True)[1]
    assert set(judged.files.tolist()) <= {f"{i}.png" for i in range(550, 600)}


def test_where_nobody_can_judge_nobody_does():
    assert Collection(some(600), None).apart(folds=False)[1] is None
    assert Collection(some(100), None).apart(folds=True)[1] is None, "all of them are for calibration"


def test_a_runs_drawings_are_found_with_the_fold_that_has_not_seen_them(tmp_path):
    run = train(
        toy_recipe(tmp_path), "data.test_targets=test_labels.csv", data=toy_data(tmp_path / "data"), out=tmp_path / "run"
    )
    found = collect(run)
    assert (len(found.train), len(found.test), len(found.all)) == (18, 6, 24)
    assert sorted(np.bincount(found.train.folds).tolist()) == [6, 6, 6]
    assert found.test.targets is not None
    whole, pixels = found.train.decoded(ImageOptions(size_px=32))
    assert (len(whole), pixels[0].shape) == (18, (48, 48))


def test_drawings_that_cant_be_read_are_passed_over(tmp_path):
    files = sorted((toy_data(tmp_path / "data") / "train").rglob("*.png"))[:3]
    break_image(files[1])
    given = Samples(np.array([*map(str, files), "gone.png"], np.dtypes.StringDType()), np.arange(4))
    whole, pixels = given.decoded(ImageOptions(size_px=32))
    assert (whole.targets.tolist(), len(pixels)) == ([0, 2], 2)


def test_large_pages_are_thinned_out_evenly_rather_than_held_all_at_once(tmp_path, monkeypatch):
    files = sorted((toy_data(tmp_path / "data") / "train").rglob("*.png"))
    monkeypatch.setattr(specimens, "MOST_BYTES", 7 * 48 * 48)  # seven of the toy's drawings
    whole, pixels = Samples(np.array([*map(str, files)], np.dtypes.StringDType()), np.arange(18)).decoded(
        ImageOptions(size_px=32)
    )
    assert whole.targets.tolist() == [0, 4, 8, 12, 16]
    assert len(pixels) == len(whole)
