import shutil

import numpy as np
import pytest
from PIL import Image

from inkfold.data.dataset import DataOptions, read_dataset
from inkfold.data.duplicate_groups import CopyGroup, DuplicateImage, count_groups, find_groups, group_problems, in_words
from inkfold.data.duplicates import Match
from inkfold.data.lines import CopyStores
from inkfold.storage.pixels import digest_files
from toy import as_folders


def groups_of(root, tmp_path, options=None):
    dataset = read_dataset(root, options)
    stores = CopyStores.open(tmp_path)
    digests = []
    for part in (dataset.train, *(() if dataset.test is None else (dataset.test,))):
        files = part.files.tolist()
        digests.append(digest_files(files)[0])
        stores.build(files, digests[-1])
    return find_groups(dataset, digests, stores)


def copy(source, target, change=lambda pixels: pixels[:, ::-1]):
    Image.fromarray(np.ascontiguousarray(change(np.asarray(Image.open(source))))).save(target)


def test_copies_within_a_class_across_classes_and_into_the_test_are_told_apart(data, tmp_path):
    copy(data / "train/apple/sketch_0.png", data / "train/apple/sketch_1.png")
    copy(data / "train/fish/sketch_0.png", data / "train/house/sketch_1.png", np.rot90)
    copy(data / "train/house/sketch_0.png", data / "test/0.png", lambda pixels: pixels[::-1])
    groups = groups_of(data, tmp_path)
    assert [group.kind for group in groups] == ["leak", "across", "within"]
    assert [group.conflicts for group in groups] == [False, True, False]
    assert [[(one.part, one.image_path) for one in group.members] for group in groups] == [
        [("train", "house/sketch_0.png"), ("test", "0.png")],
        [("train", "fish/sketch_0.png"), ("train", "house/sketch_1.png")],
        [("train", "apple/sketch_0.png"), ("train", "apple/sketch_1.png")],
    ]
    assert [in_words(group.matches[0]) for group in groups] == ["upside down", "turned by -90 degrees", "mirrored"]
    assert count_groups(groups) == {"within": 1, "across": 1, "leak": 1, "conflicts": 1, "drawings": 6}
    assert sorted(problem.kind for problem in group_problems(groups)) == ["conflicting_labels", "duplicate", "leak"]
    assert all(problem.severity == "warning" for problem in group_problems(groups))


def test_test_targets_that_disagree_with_the_copys_label_are_a_leak_and_a_conflict(data, tmp_path):
    copy(data / "train/house/sketch_0.png", data / "test/0.png")
    labels = (data / "test_labels.csv").read_text().splitlines()
    row = next(i for i, line in enumerate(labels) if ",0.png," in line)
    labels[row] = ",".join([*labels[row].split(",")[:-1], "0"])  # apple
    (data / "test_labels.csv").write_text("\n".join(labels) + "\n")
    [group] = groups_of(data, tmp_path, DataOptions(test_targets="test_labels.csv"))
    assert (group.kind, group.conflicts) == ("leak", True)
    assert {problem.kind for problem in group_problems([group])} == {"leak", "conflicting_labels"}


def test_a_validation_part_is_measured_on_too(data, tmp_path):
    root = tmp_path / "folders"
    as_folders(data, root / "train")
    (root / "val").mkdir()
    for name in ("apple", "fish", "house"):
        (root / "val" / name).mkdir()
        shutil.move(root / "train" / name / "sketch_5.png", root / "val" / name)
    copy(root / "train/apple/sketch_0.png", root / "val/apple/sketch_5.png")
    [group] = groups_of(root, tmp_path)
    assert group.kind == "leak"
    assert {member.part for member in group.members} == {"train", "val"}


def test_a_chain_of_copies_is_one_group(data, tmp_path):
    for place, change in ((1, np.fliplr), (2, np.flipud), (3, np.rot90)):
        copy(data / "train/apple/sketch_0.png", data / f"train/apple/sketch_{place}.png", change)
    [group] = groups_of(data, tmp_path)
    assert len(group.members) == 4
    told = group.as_json()
    assert {end for pair in told["pairs"] for end in (pair["first"], pair["second"])} == {0, 1, 2, 3}
    assert set(told["pairs"][0]) == {"first", "second", "turn_deg", "flip", "transform", "identical_bytes", "similarity"}


def test_unreadable_drawings_are_no_copies_of_each_other(data, tmp_path):
    dataset = read_dataset(data)
    stores = CopyStores.open(tmp_path)
    none = np.zeros(len(dataset.train), "S32")
    assert find_groups(dataset, [none, np.zeros(len(dataset.test), "S32")], stores) == []


@pytest.mark.parametrize(
    ("flip", "turn_deg", "words"),
    [
        (False, 0.4, "the same picture"),
        (True, -0.9, "mirrored"),
        (True, -179.6, "upside down"),
        (False, -179.6, "turned by -180 degrees"),
        (True, 90.0, "mirrored and turned by 90 degrees"),
        (False, 7.1, "turned by 7 degrees"),
    ],
)
def test_transforms_in_words(flip, turn_deg, words):
    assert in_words(Match(0, 1, 1.0, flip, turn_deg)) == words


@pytest.mark.parametrize(
    ("flip", "width_ratio", "words"),
    [
        (False, 1.6, "the same picture with thicker strokes"),
        (True, 0.5, "mirrored, with thinner strokes"),
        (False, 1.1, "the same picture in other strokes"),
    ],
)
def test_what_differs_in_the_strokes_is_said(flip, width_ratio, words):
    assert in_words(Match(0, 1, 0.98, flip, 0.0, width_ratio=width_ratio)) == words


def test_a_group_of_many_labels_names_them_all():
    members = tuple(DuplicateImage("train", f"{name}.png", name, "") for name in ("b", "a", "c"))
    [problem] = group_problems([CopyGroup(members, (Match(0, 1, 1.0, False, 0.0), Match(0, 2, 1.0, False, 0.0)))])
    assert "'a' and 'b' and 'c'" in problem.message


def test_of_many_copies_a_message_names_some_and_every_difference_between_them():
    members = tuple(DuplicateImage("train", f"{number}.png", "a", "") for number in range(9))
    matches = (Match(0, 1, 1.0, False, 0.0, identical=True), *(Match(0, row, 1.0, True, 0.0) for row in range(2, 9)))
    [problem] = group_problems([CopyGroup(members, matches)])
    assert "train 5.png and 3 more (by pairs: the same file; mirrored). " in problem.message
    assert "6.png" not in problem.message
