import pytest

from inkfold.data.folder_parts import find_parts
from toy_tables import kinds, put


def names(folders):
    return [folder.name for folder in folders]


@pytest.mark.parametrize("name", ["train", "Train", "test", "valid", "VALIDATION", "dev"])
def test_a_class_with_a_parts_name_is_a_class(tmp_path, name):
    put(tmp_path, *[f"{folder}/{i}.png" for folder in ("car", "bus", name) for i in range(3)])
    parts = find_parts(tmp_path)
    assert parts.train == (tmp_path,)
    assert parts.skip == frozenset()
    assert kinds(parts.problems) == ["part_as_class"]
    assert parts.problems[0].where.endswith(f"/{name}")


def test_a_class_named_train_with_people_below_is_a_class(tmp_path):
    put(tmp_path, *[f"{folder}/{user}/1.png" for folder in ("car", "bus", "train") for user in ("user1", "user2")])
    assert find_parts(tmp_path).train == (tmp_path,)


def test_a_part_whose_class_folders_are_named_as_those_beside_it_is_a_part(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png", "test/a/1.png", "test/b/1.png")
    parts = find_parts(tmp_path)
    assert (parts.train, names(parts.test), parts.skip) == ((tmp_path,), ["test"], {"test"})
    assert parts.problems == []


def test_words_in_names_make_parts_only_where_they_are_named_alike(tmp_path):
    put(tmp_path, "test tube/1.png", "train station/1.png", "house/1.png")
    assert find_parts(tmp_path).train == (tmp_path,)
    put(tmp_path / "b", *[f"asl_{part}_images/{name}/1.png" for part in ("train", "test") for name in "AB"])
    parts = find_parts(tmp_path / "b")
    assert (names(parts.train), names(parts.test)) == (["asl_train_images"], ["asl_test_images"])


def test_parts_in_the_only_folder_are_read_from_there(tmp_path):
    put(tmp_path, "archive/Train/a/1.png", "archive/Test/a/1.png", "readme.txt")
    parts = find_parts(tmp_path)
    assert parts.root == tmp_path / "archive"
    assert names(parts.train) == ["Train"]
    assert kinds(parts.problems) == ["parts_below"]


def test_folders_beside_the_parts_are_named_and_more_of_them_are_asked_about(tmp_path):
    put(tmp_path, "train/a/1.png", "train/b/1.png", "extra/1.png")
    assert [(p.kind, p.severity) for p in find_parts(tmp_path).problems] == [("folders_beside_parts", "warning")]
    put(tmp_path, "car/1.png", "bus/1.png")
    [problem] = find_parts(tmp_path).problems
    assert (problem.kind, problem.severity) == ("part_or_class", "error")
    assert f"`data={tmp_path / 'train'}`" in problem.message


def test_two_folders_of_one_part_are_joined_with_a_warning(tmp_path):
    put(tmp_path, *[f"{part}/a/1.png" for part in ("train", "val", "dev")])
    parts = find_parts(tmp_path)
    assert names(parts.val) == ["dev", "val"]
    assert kinds(parts.problems) == ["joined_parts"]


def test_parts_without_a_training_part_are_named(tmp_path):
    put(tmp_path, "Val/a/1.png", "Test/a/1.png")
    parts = find_parts(tmp_path)
    assert (names(parts.train), names(parts.test)) == (["Val"], ["Test"])
    assert [(p.kind, p.severity) for p in parts.problems] == [("no_training_part", "warning")]
    put(tmp_path / "b", "test/a/1.png")
    assert [(p.kind, p.severity) for p in find_parts(tmp_path / "b").problems] == [("no_training_part", "error")]


def test_nothing_behind_a_link_out_of_the_root_is_looked_at(tmp_path):
    put(tmp_path, "out/1.png", "in/a/1.png", "in/b/1.png")
    (tmp_path / "in/train").symlink_to(tmp_path / "out")
    assert names(find_parts(tmp_path / "in").train) == ["in"]
