import json
import shutil

import pytest

from inkfold.check import check_data
from inkfold.dataset import DataOptions
from inkfold.errors import DataError
from toy import break_image, read_rows, toy_data, write_rows


@pytest.fixture
def data(tmp_path):
    return toy_data(tmp_path / "data")


def kinds(checkup):
    return [problem.kind for problem in checkup.problems]


def test_whole_data_are_ready(data):
    checkup = check_data(data)
    assert checkup.ok
    assert checkup.problems == ()
    assert checkup.counts == {
        "root": str(data),
        "layout": "competition",
        "n_train": 18,
        "n_test": 6,
        "num_classes": 3,
        "drawings_per_class": {"min": 6, "median": 6.0, "max": 6},
        "broken": 0,
        "identical_files_in_train": 0,
        "test_files_also_in_train": 0,
        "class_names": ["apple", "fish", "house"],
    }


def test_all_problems_are_in_one_report(data):
    break_image(data / "train/apple/sketch_0.png")
    break_image(data / "test/2.png")
    (data / "train/fish/sketch_3.png").unlink()
    header, *rows = read_rows(data / "train.csv")
    write_rows(data / "train.csv", [header, *rows[:-4], ["house", "", "2"]])
    checkup = check_data(data, k=5)
    assert not checkup.ok
    assert checkup.counts["broken"] == 2
    told = "\n".join(str(problem) for problem in checkup.problems)
    for part in ("train apple/sketch_0.png", "test 2.png", "fish/sketch_3.png", "image path is empty", "class 'house'"):
        assert part in told


def test_a_broken_drawing_that_may_be_skipped_is_a_warning(data):
    break_image(data / "train/apple/sketch_0.png")
    (data / "train/fish/sketch_3.png").unlink()
    assert not check_data(data).ok
    lenient = check_data(data, DataOptions(on_broken="skip"))
    assert lenient.ok
    assert lenient.counts["broken"] == 1
    assert len(lenient.problems) == 2


def test_identical_files_and_leaks_into_the_test_are_counted(data):
    shutil.copy(data / "train/apple/sketch_0.png", data / "train/apple/sketch_1.png")
    shutil.copy(data / "train/apple/sketch_0.png", data / "test/1.png")
    counts = check_data(data).counts
    assert (counts["identical_files_in_train"], counts["test_files_also_in_train"]) == (1, 1)


def test_warnings_alone_are_no_hindrance(data):
    checkup = check_data(data, k=7)
    assert kinds(checkup) == ["few_drawings"] * 3
    assert checkup.ok


def test_the_report_is_json(data):
    break_image(data / "train/apple/sketch_0.png")
    report = json.loads(json.dumps(check_data(data).as_json(), allow_nan=False))
    assert report["ok"] is False
    [problem] = report["problems"]
    assert set(problem) == {"kind", "severity", "where", "message"}
    assert problem["severity"] == "error"
    assert problem["where"] == "train apple/sketch_0.png"


def test_too_many_pixels_are_broken(data):
    assert check_data(data, pixel_limit=48 * 48 - 1).counts["broken"] == 24


def test_nothing_is_written(data, own_home):
    before = sorted(data.rglob("*"))
    check_data(data)
    assert sorted(data.rglob("*")) == before
    assert not own_home.exists()


def test_a_place_that_is_no_data_set_is_told(tmp_path):
    with pytest.raises(DataError):
        check_data(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    checkup = check_data(tmp_path / "empty")
    assert not checkup.ok
    assert checkup.counts["n_train"] == 0
    json.dumps(checkup.as_json(), allow_nan=False)
