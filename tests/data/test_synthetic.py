import csv
import errno
import json
import os
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from inkfold.data.synthetic import (
    CLASS_NAMES,
    MARKER_NAME,
    draw_sketch,
    draw_strokes,
    prepare_demo,
    render_strokes,
    write_sketches,
)
from inkfold.errors import DataError
from toy import files_below, inkfold


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def files_under(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_there_are_thirty_classes_sorted_by_code_point():
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) == 30
    assert list(CLASS_NAMES) == sorted(CLASS_NAMES)


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_strokes_stay_on_the_unit_square(class_name):
    for i in range(40):
        strokes = draw_strokes(class_name, np.random.default_rng(i))
        assert strokes
        for stroke in strokes:
            assert stroke.dtype == np.float32
            assert stroke.ndim == 2
            assert stroke.shape[1] == 2
            assert len(stroke) >= 2
        points = np.concatenate(strokes)
        assert np.isfinite(points).all()
        assert points.min() >= 0.0
        assert points.max() <= 1.0
        assert np.ptp(points, axis=0).max() > 0.3


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_every_drawing_has_ink_and_keeps_it_off_the_page_s_edge(class_name):
    for i in range(20):
        strokes = draw_strokes(class_name, np.random.default_rng(i))
        wide = render_strokes([stroke * 0.5 + 0.25 for stroke in strokes], 256, 2.0)  # the same with a margin around
        ink = wide < 128
        assert ink.sum() > 100
        assert ink[62:194, 62:194].sum() >= 0.95 * ink.sum()


@pytest.mark.parametrize("class_name", ["spider", "apple"])
def test_a_sketch_is_a_pure_function_of_class_seed_and_index(class_name):
    first = draw_sketch(class_name, 3, 7, 64)
    draw_sketch(class_name, 3, 6, 64)  # another drawing between changes nothing
    again = draw_sketch(class_name, 3, 7, 64)
    assert first.dtype == np.uint8
    assert first.shape == (64, 64)
    assert first.tobytes() == again.tobytes()


def test_another_class_seed_or_index_gives_another_sketch():
    variants = [("cup", 0, 0), ("cup", 1, 0), ("cup", 0, 1), ("sun", 0, 0), ("cup", 2**32 - 1, 2**32 - 1)]
    assert len({draw_sketch(*variant, 64).tobytes() for variant in variants}) == len(variants)


def test_drawings_of_one_class_all_differ():
    assert len({draw_sketch("lightning", 0, i, 64).tobytes() for i in range(200)}) == 200


def test_the_size_changes_the_pixels_and_not_the_strokes():
    for i in range(5):
        large, small = draw_sketch("house", 11, i, 256), draw_sketch("house", 11, i, 128)
        shrunk = cv2.resize(large, (128, 128), interpolation=cv2.INTER_AREA)
        assert np.corrcoef(shrunk.ravel(), small.ravel())[0, 1] > 0.85


def test_about_three_in_a_hundred_are_inverted_and_five_on_poor_paper():
    pages = [draw_sketch(CLASS_NAMES[i % 30], 0, i, 32) for i in range(3000)]
    inverted = sum(float(np.median(page)) < 60 for page in pages)
    poor = sum(60 <= float(np.median(page)) < 254 for page in pages)
    # 3000 draws: the expected 90 and 150 with four standard deviations either side.
    assert 53 <= inverted <= 128
    assert 102 <= poor <= 198


def test_a_horizontal_stroke_is_inked_where_the_coordinates_say():
    page = render_strokes([np.array([[0.25, 0.5], [0.75, 0.5]], dtype=np.float32)], 64, 2.0)
    darkness = 255.0 - page
    ys, xs = np.indices(page.shape) + 0.5
    assert (darkness * ys).sum() / darkness.sum() == pytest.approx(32, abs=0.2)
    assert (darkness * xs).sum() / darkness.sum() == pytest.approx(32, abs=0.2)
    assert darkness[:, 32].sum() / 255 == pytest.approx(2.0, abs=0.3)  # the pen's width
    assert page[:20].min() == 255


def test_the_ink_s_grey_is_the_darkest_value_of_the_page():
    stroke = np.array([[0.1, 0.1], [0.9, 0.9]], dtype=np.float32)
    assert render_strokes([stroke], 64, 4.0, ink=80).min() == 80
    assert render_strokes([], 64, 4.0).min() == 255


@pytest.mark.parametrize(("class_name", "seed", "index", "size_px"), [("yeti", 0, 0, 64), ("cup", -1, 0, 64)])
def test_a_sketch_that_can_t_be_drawn_is_refused(class_name, seed, index, size_px):
    with pytest.raises(DataError, match=r"yeti|seed -1"):
        draw_sketch(class_name, seed, index, size_px)


@pytest.fixture
def written(tmp_path):
    return write_sketches(
        tmp_path / "set", train_per_class=4, test_per_class=3, classes=("sun", "apple", "cup"), size_px=48, seed=5
    )


def test_the_tables_agree_with_the_folders(written):
    train, test = rows_of(written / "train.csv"), rows_of(written / "test.csv")
    assert list(train[0]) == ["class_name", "image_path", "target"]
    assert {row["image_path"] for row in train} == {
        path.relative_to(written / "train").as_posix() for path in (written / "train").rglob("*.png")
    }
    assert len(train) == 12
    assert {(row["class_name"], row["target"]) for row in train} == {("apple", "0"), ("cup", "1"), ("sun", "2")}
    assert all(row["image_path"].startswith(row["class_name"] + "/sketch_") for row in train)
    assert [row["image_path"] for row in test] == [f"{i}.png" for i in range(9)]
    assert {path.name for path in (written / "test").iterdir()} == {row["image_path"] for row in test}


def test_the_sample_submission_and_the_answers_follow_the_test_table(written):
    test = rows_of(written / "test.csv")
    sample, answers = rows_of(written / "sample_submission.csv"), rows_of(written / "test_labels.csv")
    for table in (sample, answers):
        assert list(table[0]) == ["ID", "image_path", "target"]
        assert [row["ID"] for row in table] == [str(i) for i in range(9)]
        assert [row["image_path"] for row in table] == [row["image_path"] for row in test]
    assert {row["target"] for row in sample} == {"0"}
    targets = [row["target"] for row in answers]
    assert sorted(targets) == ["0"] * 3 + ["1"] * 3 + ["2"] * 3
    assert targets != sorted(targets)


def test_the_answers_name_the_class_that_was_drawn(written):
    answers = rows_of(written / "test_labels.csv")
    names = ("apple", "cup", "sun")
    drawn = {draw_sketch(name, 5, 2**31 + i, 48).tobytes(): name for name in names for i in range(3)}
    for row in answers:
        page = cv2.imread(str(written / "test" / row["image_path"]), cv2.IMREAD_UNCHANGED)
        assert drawn[page.tobytes()] == names[int(row["target"])]


def test_the_pictures_are_the_drawings_of_their_index(written):
    page = cv2.imread(str(written / "train" / "cup" / "sketch_2.png"), cv2.IMREAD_UNCHANGED)
    assert page.tobytes() == draw_sketch("cup", 5, 2, 48).tobytes()


def test_writing_twice_gives_the_same_bytes_and_another_seed_others(written, tmp_path):
    same = {"train_per_class": 4, "test_per_class": 3, "size_px": 48}
    again = write_sketches(tmp_path / "again", classes=["apple", "cup", "sun"], seed=5, **same)
    other = write_sketches(tmp_path / "other", classes=["apple", "cup", "sun"], seed=6, **same)
    assert files_under(written) == files_under(again)
    first, second = files_under(written), files_under(other)
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first if name.endswith(".png"))


def test_a_whole_set_is_left_as_it_is_and_a_cut_off_one_is_finished(written):
    arguments = {
        "train_per_class": 4,
        "test_per_class": 3,
        "classes": ("sun", "apple", "cup"),
        "size_px": 48,
        "seed": 5,
    }
    before = files_under(written)
    (written / "train" / "cup" / "sketch_0.png").unlink()
    assert write_sketches(written, **arguments) == written
    assert not (written / "train" / "cup" / "sketch_0.png").exists()  # the marker says whole: nothing is written

    marker = json.loads((written / MARKER_NAME).read_text())
    (written / MARKER_NAME).write_text(json.dumps({**marker, "complete": False}))
    (written / "test.csv").unlink()
    write_sketches(written, **arguments)
    assert files_under(written) == before


def test_a_directory_of_someone_else_or_of_another_set_is_refused(written, tmp_path):
    with pytest.raises(DataError, match="other parameters"):
        write_sketches(written, train_per_class=5, classes=("sun", "apple", "cup"))
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("draft")
    with pytest.raises(DataError, match="not empty and not written by"):
        write_sketches(foreign, train_per_class=1, classes=["cup"])
    assert files_under(foreign) == {"thesis.txt": b"draft"}
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError):
        write_sketches(tmp_path / "file", train_per_class=1, classes=["cup"])


def test_wrong_parameters_are_told_all_at_once_before_anything_is_written(tmp_path):
    with pytest.raises(DataError) as caught:
        write_sketches(
            tmp_path / "set", train_per_class=0, test_per_class=-1, classes=["yeti", "cup", "cup"], size_px=1, seed=-2
        )
    kinds = [problem.kind for problem in caught.value.problems]
    assert sorted(kinds) == ["out_of_range"] * 4 + ["repeated_class", "unknown_class"]
    assert "train_per_class: got 0, expected 1 to" in str(caught.value)
    assert not (tmp_path / "set").exists()
    with pytest.raises(DataError, match="got none"):
        write_sketches(tmp_path / "set", classes=[])


def test_a_set_without_test_drawings_has_empty_test_tables(tmp_path):
    root = write_sketches(tmp_path, train_per_class=1, test_per_class=0, classes=["cup"], size_px=32)
    assert (root / "test.csv").read_text() == "image_path\n"
    assert (root / "test_labels.csv").read_text() == "ID,image_path,target\n"


def test_the_drawings_have_not_changed_without_a_new_generator_version():
    # Strokes only to a hundredth: other versions of NumPy may round the last bits otherwise.
    strokes = draw_strokes("cat", np.random.default_rng([0, 0, zlib.crc32(b"cat")]))
    assert np.concatenate(strokes).mean(axis=0) == pytest.approx((0.624, 0.483), abs=0.005)


def test_the_demo_runs_offline_where_it_is_called(tmp_path):
    done = inkfold("demo", "--per-class", "4", "--budget", "10s", home=tmp_path / "home", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"auto.json", "metrics.json", "manifest.json", "submission.csv"} <= files_below(tmp_path / "demo/run")
    assert (tmp_path / "demo/report.html").is_file()
    metrics = json.loads((tmp_path / "demo/run/metrics.json").read_text())
    assert metrics["data"]["n_train"] == 4 * metrics["data"]["num_classes"]
    assert metrics["test"]["n"] == metrics["data"]["num_classes"]
    assert "backbone: ink-small" in done.stdout
    assert "submission.csv" in done.stdout
    assert done.stdout.splitlines()[-1] == "draw, and see what it says: inkfold serve demo/run --open"


def test_the_demos_drawings_are_drawn_once(tmp_path):
    data = prepare_demo(tmp_path, per_class=1)
    before = (data / "train.csv").stat().st_mtime_ns
    assert prepare_demo(tmp_path, per_class=1) == data
    assert (data / "train.csv").stat().st_mtime_ns == before


def test_a_demo_of_another_size_is_not_mixed_in(tmp_path):
    prepare_demo(tmp_path, per_class=1)
    with pytest.raises(DataError, match="other parameters"):
        prepare_demo(tmp_path, per_class=2)


def test_a_drawing_that_finds_the_disk_full_is_named_and_not_left_by_halves(tmp_path, monkeypatch):
    real = Path.write_bytes

    def full(self, data):
        real(self, data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*\.png'$"):
        write_sketches(tmp_path / "a", classes=("apple",), train_per_class=1, test_per_class=0)
    assert not list(tmp_path.rglob("*.png"))
