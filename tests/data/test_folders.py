from pathlib import Path

import numpy as np
import pytest

from inkfold.data.dataset import read_dataset
from toy_tables import errors, kinds, put, warnings


def test_folders_are_classes_in_code_point_order(tmp_path):
    put(tmp_path, "b/1.png", "B/1.PNG", "é/deep/er/1.jpg", "._b/1.png", "b/._1.png", "b/Thumbs.db")
    data = read_dataset(tmp_path)
    assert data.layout == "folder"
    assert data.class_names == ("B", "b", "é")
    assert data.train.image_paths.tolist() == ["B/1.PNG", "b/1.png", "é/deep/er/1.jpg"]
    assert data.train.targets.tolist() == [0, 1, 2]
    assert all(Path(file).is_file() for file in data.train.files)
    assert (data.train.given_val, data.test, data.problems) == (None, None, ())


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_a_validation_part_joins_training_and_is_marked(tmp_path, val):
    put(tmp_path, "train/a/1.png", "train/b/1.png", f"{val}/a/2.png", f"{val}/b/1.png", "test/y.png", "test/x.png")
    data = read_dataset(tmp_path)
    assert data.train.image_paths.tolist() == ["a/1.png", "b/1.png", f"{val}/a/2.png", f"{val}/b/1.png"]
    assert data.train.given_val.tolist() == [False, False, True, True]
    assert data.train.targets.tolist() == [0, 1, 0, 1]
    assert data.test.image_paths.tolist() == ["x.png", "y.png"]
    assert data.test.targets is None
    assert data.problems == ()


def test_names_of_a_validation_part_are_its_own_where_all_of_them_differ(tmp_path):
    put(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/2.png", "val/b/3.png")
    assert read_dataset(tmp_path).train.image_paths.tolist() == ["a/1.png", "b/1.png", "a/2.png", "b/3.png"]


def test_test_class_folders_give_targets(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png", "test/b/1.png", "test/a/1.png")
    data = read_dataset(tmp_path)
    assert data.class_names == ("a", "b")
    assert data.test.targets.tolist() == [0, 1]


def test_test_folders_that_are_partly_classes_give_no_targets_and_a_warning(tmp_path):
    put(tmp_path, "train/a/1.png", "train/b/1.png", "test/b/1.png", "test/zebra/1.png")
    data = read_dataset(tmp_path)
    assert kinds(data.problems) == ["test_classes"]
    assert data.test.targets is None


def test_folder_names_that_are_whole_numbers_are_ordered_as_numbers(tmp_path):
    put(tmp_path, "0/1.png", "1/1.png", "2/1.png", *[f"{i}/1.png" for i in range(3, 11)])
    data = read_dataset(tmp_path)
    assert data.class_names == tuple(str(i) for i in range(11))


def test_folders_of_one_name_in_two_unicode_forms_merge_with_a_warning(tmp_path):
    put(tmp_path, "caf\u00e9/1.png", "cafe\u0301/2.png", "tea/1.png")
    data = read_dataset(tmp_path)
    assert kinds(data.problems) == ["merged_folders"]
    assert data.class_names == ("caf\u00e9", "tea")
    assert np.bincount(data.train.targets).tolist() == [2, 1]


def test_images_in_no_class_folder_and_other_files_are_each_one_warning(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png", "loose.png", "notes.txt", "empty/readme.md")
    assert warnings(tmp_path) == ["not_an_image", "image_without_class"]


def test_a_linked_class_folder_outside_is_refused(tmp_path):
    put(tmp_path, "out/1.png", "in/a/1.png", "in/b/1.png")
    (tmp_path / "in/c").symlink_to(tmp_path / "out")
    assert errors(tmp_path / "in") == ["outside_root"]


def test_a_group_column_is_refused_for_folders(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png")
    assert errors(tmp_path, group_column="artist") == ["missing_column"]
