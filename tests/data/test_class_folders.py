from pathlib import Path

import numpy as np
import pytest

from inkfold.data.dataset import DataOptions, read_dataset
from inkfold.errors import DataError
from toy_tables import errors, kinds, put, warnings

CLASSES = ("circle", "cross", "square")
BY_PERSON = r"^(?P<label>[^-/]+)-(?P<group>[^-/]+)-"


def put_classes(root, pattern, *, names=CLASSES, count=3):
    """Empty drawings at `pattern`, in which {} is the class and # the number."""
    put(root, *[pattern.format(name).replace("#", str(i)) for name in names for i in range(count)])


def counts(data):
    numbers = np.bincount(data.train.targets, minlength=len(data.class_names)).tolist()
    return dict(zip(data.class_names, numbers, strict=True))


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


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("Train", "Val", "Test"), ("training", "validation", "testing"), ("TRAIN", "dev", "TEST"), ("train", "valid", "Testing")],
)
def test_parts_are_read_in_any_case_and_by_any_of_their_names(tmp_path, train, val, test):
    for part, names in ((train, "123"), (val, "4"), (test, "5")):
        put(tmp_path, *[f"{part}/{name}/{i}.png" for name in "ab" for i in names])
    data = read_dataset(tmp_path)
    assert data.train.image_paths.tolist() == [f"{name}/{i}.png" for name in "ab" for i in "123"] + ["a/4.png", "b/4.png"]
    assert data.train.given_val.tolist() == [False] * 6 + [True] * 2
    assert data.test.targets.tolist() == [0, 1]
    assert data.problems == ()


def test_parts_are_read_where_their_names_hold_the_word(tmp_path):
    for part in ("Logic Gate Training Data", "Logic Gate Testing Data"):
        put_classes(tmp_path, part + "/{}/#.png", names=("and", "or"))
    data = read_dataset(tmp_path)
    assert counts(data) == {"and": 3, "or": 3}
    assert data.test.targets.tolist() == [0, 0, 0, 1, 1, 1]


def test_people_above_the_class_folders_are_taken_as_groups(tmp_path):
    for user in (17, 4, 23):
        put_classes(tmp_path, f"user.{user}/images/{{}}/#.png")
    data = read_dataset(tmp_path, DataOptions(num_folds=3))
    assert counts(data) == dict.fromkeys(CLASSES, 9)
    assert set(data.train.proposed_groups) == {"user.17", "user.4", "user.23"}
    assert data.train.groups is None
    assert [(problem.kind, problem.severity) for problem in data.problems] == [
        ("class_level", "warning"),
        ("groups_suggested", "warning"),
    ]
    assert "`folds.group_pattern=^([^/]+)/`" in data.problems[1].message
    again = read_dataset(tmp_path, DataOptions(label_pattern="^(?P<group>[^/]+)/[^/]+/(?P<label>[^/]+)/"))
    assert again.class_names == data.class_names
    assert again.train.targets.tolist() == data.train.targets.tolist()
    assert again.train.groups.tolist() == data.train.proposed_groups.tolist()


def test_words_above_and_below_are_asked_about_until_the_level_is_named(tmp_path):
    for name in ("anna", "ben"):
        put_classes(tmp_path, f"{name}/{{}}/#.png")
    with pytest.raises(DataError) as caught:
        read_dataset(tmp_path)
    assert "`data.class_level=1` for 2 classes ('anna', 'ben')" in str(caught.value)
    assert "`data.class_level=2` for 3 classes ('circle', 'cross', 'square')" in str(caught.value)
    for level in (2, -1):
        assert read_dataset(tmp_path, DataOptions(class_level=level)).class_names == CLASSES
    assert read_dataset(tmp_path, DataOptions(class_level=1)).class_names == ("anna", "ben")


def test_a_level_deeper_than_all_drawings_is_an_error(tmp_path):
    put_classes(tmp_path, "{}/#.png")
    assert errors(tmp_path, class_level=3) == ["image_without_class", "class_level"]


def test_the_test_parts_classes_may_lie_at_another_level(tmp_path):
    for user in ("user1", "user2"):
        put_classes(tmp_path, f"train/{user}/{{}}/#.png")
    put_classes(tmp_path, "test/{}/#.png", count=1)
    assert read_dataset(tmp_path).test.targets.tolist() == [0, 1, 2]


def test_parts_below_the_classes_are_parts(tmp_path):
    for part in ("train", "val", "test"):
        put_classes(tmp_path, f"{{}}/{part}/#.png", count=2)
    data = read_dataset(tmp_path)
    assert counts(data) == dict.fromkeys(CLASSES, 4)
    assert data.train.given_val.sum() == 6
    assert data.test.image_paths.tolist()[0] == "circle/test/0.png"
    assert data.test.targets.tolist() == [0, 0, 1, 1, 2, 2]
    assert kinds(data.problems) == ["parts_below"]


def test_an_empty_class_folder_keeps_its_number_and_is_warned_of(tmp_path):
    put_classes(tmp_path, "{}/#.png")
    (tmp_path / "cone").mkdir()
    put(tmp_path, "cube/1.psd", "docs/notes.txt")
    data = read_dataset(tmp_path)
    assert counts(data) == {"circle": 3, "cone": 0, "cross": 3, "cube": 0, "square": 3}
    assert data.class_targets.tolist() == [0, 1, 2, 3, 4]
    bare = [problem for problem in data.problems if problem.kind == "class_folder_without_drawings"]
    assert [problem.where for problem in bare] == [f"{tmp_path.name}/cone", f"{tmp_path.name}/cube"]
    assert "'1.psd'" in bare[1].message


def test_one_class_with_drawings_beside_empty_ones_is_a_single_class(tmp_path):
    put(tmp_path, "a/1.png")
    (tmp_path / "b").mkdir()
    assert "single_class" in errors(tmp_path)


def test_labels_and_groups_are_read_from_file_names(tmp_path):
    put(tmp_path, *[f"{name}-{who}-17059189126{i}.png" for name in CLASSES for who in ("anna", "ben") for i in range(2)])
    put(tmp_path, "cover.png")
    data = read_dataset(tmp_path, DataOptions(label_pattern=BY_PERSON))
    assert counts(data) == dict.fromkeys(CLASSES, 4)
    assert set(data.train.groups) == {"anna", "ben"}
    [problem] = data.problems
    assert (problem.kind, problem.severity) == ("label_pattern", "warning")
    assert "1 of 13 paths, such as 'cover.png'" in problem.message


def test_a_pattern_that_finds_labels_in_few_names_is_an_error(tmp_path):
    put(tmp_path, "a-x-1.png", "b.png", "c.png")
    assert errors(tmp_path, label_pattern=BY_PERSON)[0] == "label_pattern"


def test_ids_in_the_names_of_test_files_are_a_submissions_ids(tmp_path):
    put(tmp_path, *[f"train/{name}.{i}.jpg" for name in ("cat", "dog") for i in range(3)], "test/7.jpg", "test/30.jpg")
    data = read_dataset(tmp_path, DataOptions(label_pattern=r"(?:(?P<label>[a-z]+)\.|/)(?P<id>[0-9]+)\.jpg$"))
    assert counts(data) == {"cat": 3, "dog": 3}
    assert data.test.targets is None
    assert data.sample_submission.columns == ("ID", "image_path", "target")
    assert data.sample_submission.ids.tolist() == ["30", "7"]
