import csv
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from inkfold.data.dataset import read_dataset
from inkfold.data.given import encode_png, read_any_dataset, settings_of
from inkfold.data.types import DataOptions
from inkfold.errors import DataError
from inkfold.images.decode import decode_image
from inkfold.storage.kept_drawings import read_about

RNG = np.random.default_rng(0)
PAGES = [RNG.integers(0, 256, (6, 8), dtype=np.uint8) for _ in range(4)]
LABELS = ["fish", "apple", "fish", "apple"]


@pytest.fixture
def files(tmp_path):
    """Four drawings in two folders, one of them a JPEG."""
    found = []
    for number, page in enumerate(PAGES):
        found.append(tmp_path / f"part{number % 2}" / f"{number}.{'jpg' if number == 3 else 'png'}")
        found[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(page).save(found[-1])
    return found


def named_targets(dataset):
    return [dataset.class_names[target] for target in dataset.train.targets]


def test_drawings_in_memory_become_a_dataset_like_any_other(own_home):
    dataset = read_any_dataset(PAGES, LABELS)
    assert dataset.root.parent == own_home / "drawings"
    assert dataset.class_names == ("apple", "fish")
    assert named_targets(dataset) == LABELS
    assert dataset.train.image_paths.tolist() == ["0000.png", "0001.png", "0002.png", "0003.png"]
    for file, page in zip(dataset.train.files, PAGES, strict=True):
        np.testing.assert_array_equal(decode_image(Path(file).read_bytes()), page)
    again = read_dataset(dataset.root, DataOptions(group_pattern="none"))
    assert again.train.files.tolist() == dataset.train.files.tolist()
    about = read_about(dataset.root)
    assert (about["drawings"], about["classes"], about["to_predict"]) == (4, 2, 0)


def test_the_same_content_is_the_same_set_whatever_form_it_came_in(own_home):
    root = read_any_dataset(PAGES, LABELS).root
    assert read_any_dataset((page for page in PAGES), pd.Series(LABELS)).root == root
    assert read_any_dataset(([Image.fromarray(page) for page in PAGES], np.array(LABELS))).root == root
    assert read_any_dataset(pd.DataFrame({"image": PAGES, "label": LABELS})).root == root
    assert read_any_dataset(pd.DataFrame({"a": PAGES, "b": LABELS}), "b", column="a").root == root
    assert read_any_dataset(PAGES, LABELS[::-1]).root != root
    assert read_any_dataset(PAGES[::-1], LABELS).root != root
    assert {path.name[0] for path in (own_home / "drawings").iterdir()} != {"."}


def test_bytes_keep_their_own_and_so_their_digest(files):
    data = [file.read_bytes() for file in files]
    dataset = read_any_dataset(data, LABELS)
    assert [Path(file).read_bytes() for file in dataset.train.files] == data
    assert dataset.train.image_paths.tolist() == ["0000.png", "0001.png", "0002.png", "0003.jpg"]


def test_files_stay_where_they_are(files, tmp_path, own_home):
    dataset = read_any_dataset(files, LABELS, groups=["a", "a", "b", None])
    assert dataset.train.files.tolist() == [str(file) for file in files]
    assert dataset.train.image_paths.tolist() == [file.relative_to(tmp_path).as_posix() for file in files]
    assert dataset.train.groups.tolist() == ["a", "a", "b", "without a group: part1/3.jpg"]
    assert sorted(path.name for path in dataset.root.iterdir()) == ["set.json", "train.csv"]
    assert settings_of(dataset) == {
        "data": {"root": str(dataset.root), "layout": "competition", "image_root": str(tmp_path)},
        "folds": {"group_column": "group"},
    }
    assert read_any_dataset(dataset) is dataset
    with pytest.raises(DataError, match=r"gone\.png' not found under"):
        read_any_dataset([*files[:3], tmp_path / "gone.png"], LABELS)


def test_names_are_those_of_results_and_numbers_keep_the_order(files):
    dataset = read_any_dataset(files, LABELS, names=["a 1", "b/1.png", "b/2", "c"])
    assert dataset.train.image_paths.tolist() == ["a 1.png", "b/1.png", "b/2.png", "c.jpg"]
    mixed = read_any_dataset([files[0], PAGES[1], files[2], PAGES[3]], LABELS)
    assert mixed.train.image_paths.tolist() == ["0000.png", "0001.png", "0002.png", "0003.png"]


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT, np.float64("nan")])
def test_a_drawing_without_a_label_is_one_to_predict(missing):
    dataset = read_any_dataset(PAGES, [3, missing, np.int64(10), 3.0])
    assert dataset.class_names == ("3", "10")
    assert dataset.class_targets.tolist() == [3, 10]
    assert dataset.train.image_paths.tolist() == ["0000.png", "0002.png", "0003.png"]
    assert dataset.test.image_paths.tolist() == ["0001.png"]


def test_labels_may_have_any_signs_and_tables_are_read_back_as_they_were():
    labels = ['say "hi"', "a,b", "naïve\tcat", 'say "hi"']
    dataset = read_any_dataset(PAGES, labels)
    assert named_targets(dataset) == labels
    with (dataset.root / "train.csv").open(newline="", encoding="utf-8") as file:
        assert [row["class_name"] for row in csv.DictReader(file)] == labels


def test_a_datasets_numbers_become_their_names():
    class Labels:
        names = ("apple", "fish")

    class Dataset:
        column_names = ("image", "label")
        features = {"label": Labels()}  # noqa: RUF012

        def __len__(self):
            return 4

        def __iter__(self):
            return iter([{"image": page, "label": label} for page, label in zip(PAGES, [1, 0, 1, -1], strict=True)])

    Dataset.__module__ = "datasets.arrow_dataset"
    dataset = read_any_dataset(Dataset())
    assert named_targets(dataset) == ["fish", "apple", "fish"]
    assert len(dataset.test) == 1


@pytest.mark.parametrize(
    ("data", "labels", "options", "words"),
    [
        (PAGES, LABELS[:3], {}, "got 4 drawing.s. and 3 labels, expected one for each drawing"),
        (PAGES, LABELS[:3], {"groups": [1], "names": ["a"]}, "4 drawing.s. and 3 labels, 1 groups, 1 names, expected"),
        ((page for page in [*PAGES, *PAGES]), LABELS[:3], {}, "more drawings than the 3 labels"),
        ((page for page in PAGES), [*LABELS, "x"], {}, "got 4 drawing.s. and 5 labels"),
        (PAGES, None, {}, "labels: got None, expected the class of each drawing"),
        (PAGES, "label", {}, "labels: got 'label', expected a value for each drawing, or a column of a table"),
        (PAGES, 7, {}, "labels: got int 7"),
        (PAGES, [0.5, 1, 2, "  "], {}, r"labels\[0\]: got float 0.5, expected a text or a whole number(.|\n)*labels\[3\]"),
        (PAGES, np.eye(4), {}, r"labels\[0\]: got list of 4, expected"),
        (PAGES, LABELS, {"names": ["a", "A.png", "../b", "c/"]}, r"names\[1\]: got 'A.png' as for names\[0\](.|\n)*names\[3\]"),
        (PAGES, ["fish"] * 4, {}, "all drawings are of one class, 'fish'"),
        (PAGES, [None] * 4, {}, "empty_table|no usable row|expected"),
        ([], [], {}, "got no drawings"),
        (pd.DataFrame({"image": PAGES}), None, {}, "labels: got None"),
        (pd.DataFrame({"image": PAGES}), "klass", {}, "got 'klass'.* there is 'image'"),
        ([*PAGES[:3], 5], LABELS, {}, r"drawings\[3\]: got int 5"),
        ([*PAGES[:3], Image.new("L", (0, 4))], LABELS, {}, r"drawings\[3\]: has 0 x 4 pixels"),
        ([*PAGES[:3], "gone.png"], LABELS, {"names": list("abcd")}, r"gone\.png: can't be read"),
    ],
)
def test_what_does_not_fit_is_said_once_and_leaves_nothing(data, labels, options, words, own_home):
    with pytest.raises(DataError, match=words):
        read_any_dataset(data, labels, **options)
    left = list((own_home / "drawings").glob(".new-*")) if own_home.exists() else []
    assert left == []


def test_a_set_that_was_damaged_is_written_anew_and_keeps_its_runs(own_home, caplog):
    root = read_any_dataset(PAGES, LABELS).root
    (root / "runs.txt").write_text("/somewhere\n")
    (root / "0001.png").write_bytes(b"")
    assert read_any_dataset(PAGES, LABELS).root == root
    np.testing.assert_array_equal(decode_image((root / "0001.png").read_bytes()), PAGES[1])
    assert (root / "runs.txt").read_text() == "/somewhere\n"
    assert "isn't as it was written" in caplog.text


def test_options_are_read_as_before_and_found_again(files, tmp_path):
    folder = tmp_path / "classes"
    for number, file in enumerate(files):
        (folder / f"c{number % 2}" / "x").mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / f"c{number % 2}" / "x")
    options = DataOptions(class_level=1, group_pattern="none", num_folds=2)
    dataset = read_any_dataset(folder, options)
    assert dataset.class_names == ("c0", "c1")
    assert settings_of(dataset) == {"data": {"root": str(folder), "class_level": 1}, "folds": {"group_pattern": "none"}}
    assert settings_of(read_any_dataset(str(folder), options=DataOptions(class_level=1)))["data"]["class_level"] == 1


def test_a_tables_path_with_the_names_of_its_columns(files, tmp_path):
    frame = pd.DataFrame({"file": [file.relative_to(tmp_path) for file in files], "kind": LABELS, "who": [1, 1, 2, 2]})
    frame.to_csv(tmp_path / "table.csv", index=False)
    dataset = read_any_dataset(tmp_path / "table.csv", "kind", groups="who", column="file")
    assert (named_targets(dataset), dataset.train.groups.tolist()) == (LABELS, ["1", "1", "2", "2"])
    assert settings_of(dataset)["data"] == {"root": str(tmp_path / "table.csv"), "path_column": "file", "label_column": "kind"}


def test_the_same_pixels_are_the_same_png():
    assert encode_png(PAGES[0]) == encode_png(PAGES[0].copy())
    np.testing.assert_array_equal(decode_image(encode_png(PAGES[0])), PAGES[0])
