import numpy as np
import pytest

from inkfold.images.preprocess import ImageOptions
from inkfold.pipeline import samples as samples_module
from inkfold.pipeline.samples import CALIBRATION_DRAWINGS, RunSamples, Samples, collect_samples, spread
from inkfold.pipeline.train import train
from toy import break_image, toy_data, toy_recipe


def make_samples(n, *, known=True, folds=True):
    files = np.array([f"{i}.png" for i in range(n)], np.dtypes.StringDType())
    return Samples(files, np.arange(n) % 3 if known else None, np.arange(n) % 5 if folds else None)


@pytest.mark.parametrize(("total", "count"), [(10, 3), (10, 10), (10, 99), (1, 5), (0, 5), (1000, 7)])
def test_rows_are_spread_evenly(total, count):
    rows = spread(total, count)
    assert len(rows) == min(total, count)
    assert len(np.unique(np.diff(rows))) <= 2
    if len(rows) > 1:
        assert (rows[0], rows[-1]) == (0, total - 1)


def test_accuracy_is_measured_on_test_drawings_of_known_class():
    calibration, evaluated = RunSamples(make_samples(600), make_samples(50, folds=False)).split_for_calibration(folds=True)
    assert (len(calibration), len(evaluated), evaluated.folds) == (CALIBRATION_DRAWINGS, 50, None)


def test_otherwise_accuracy_is_measured_on_training_drawings_outside_the_calibration_by_the_fold_that_held_them_out():
    calibration, evaluated = RunSamples(make_samples(600), make_samples(50, known=False, folds=False)).split_for_calibration(
        folds=True
    )
    assert not set(calibration.files.tolist()) & set(evaluated.files.tolist())
    assert len(evaluated) == 600 - CALIBRATION_DRAWINGS
    assert evaluated.folds is not None


def test_drawings_that_no_fold_held_out_are_not_used_for_accuracy():
    seen = make_samples(600)
    held_out = np.arange(600) >= 550
    seen = Samples(seen.files, seen.targets, np.where(held_out, 0, -1))
    evaluated = RunSamples(seen, None).split_for_calibration(folds=True)[1]
    assert set(evaluated.files.tolist()) <= {f"{i}.png" for i in range(550, 600)}


def test_without_held_out_drawings_accuracy_is_not_measured():
    assert RunSamples(make_samples(600), None).split_for_calibration(folds=False)[1] is None
    assert RunSamples(make_samples(100), None).split_for_calibration(folds=True)[1] is None, "all of them are for calibration"


def test_a_runs_drawings_come_with_the_fold_that_held_them_out(tmp_path):
    run = train(
        toy_recipe(tmp_path), "data.test_targets=test_labels.csv", data=toy_data(tmp_path / "data"), out=tmp_path / "run"
    )
    samples = collect_samples(run)
    assert (len(samples.train), len(samples.test), len(samples.all)) == (18, 6, 24)
    assert sorted(np.bincount(samples.train.folds).tolist()) == [6, 6, 6]
    assert samples.test.targets is not None
    decoded, pixels = samples.train.decode(ImageOptions(size_px=32))
    assert (len(decoded), pixels[0].shape) == (18, (48, 48))


def test_unreadable_drawings_are_skipped(tmp_path):
    files = sorted((toy_data(tmp_path / "data") / "train").rglob("*.png"))[:3]
    break_image(files[1])
    listed = Samples(np.array([*map(str, files), "gone.png"], np.dtypes.StringDType()), np.arange(4))
    decoded, pixels = listed.decode(ImageOptions(size_px=32))
    assert (decoded.targets.tolist(), len(pixels)) == ([0, 2], 2)


def test_large_pages_are_thinned_out_evenly_to_limit_memory(tmp_path, monkeypatch):
    files = sorted((toy_data(tmp_path / "data") / "train").rglob("*.png"))
    monkeypatch.setattr(samples_module, "MAX_DECODED_BYTES", 7 * 48 * 48)  # seven of the toy's drawings
    listed = Samples(np.array([*map(str, files)], np.dtypes.StringDType()), np.arange(18))
    decoded, pixels = listed.decode(ImageOptions(size_px=32))
    assert decoded.targets.tolist() == [0, 4, 8, 12, 16]
    assert len(pixels) == len(decoded)


def test_selected_drawings_keep_their_groups():
    samples = Samples(make_samples(9).files, np.arange(9), np.zeros(9, np.int64), np.arange(9) // 3)
    chosen = samples.select(np.array([8, 0, 4]))
    assert (chosen.targets.tolist(), chosen.groups.tolist()) == ([8, 0, 4], [2, 0, 1])
