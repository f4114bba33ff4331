import numpy as np
import pytest

from inkfold.data.folder_levels import FolderTree, choose_level
from inkfold.data.tables import STRING


def choose(*patterns, **options):
    """The choice for all drawings that the patterns make: {a,b}/{c,d}/1.png is four."""
    paths = [""]
    for pattern in patterns:
        paths = [f"{path}{name}/" for path in paths for name in pattern]
    files = [f"{path}{i}.png" for path in paths for i in range(3)]
    return choose_level(FolderTree.of_paths(np.array(files, dtype=STRING)), "data", **options)


WORDS = ("circle", "cross", "square")


@pytest.mark.parametrize(
    ("levels", "chosen", "groups"),
    [
        ((WORDS,), 1, None),
        ((("tx_000000000000", "tx_000100000000"), WORDS), 2, 1),
        ((("user.17", "user.4"), ("images",), WORDS), 3, 1),
        ((WORDS, ("user.17", "user.4")), 1, 2),
        ((WORDS, ("2021-03-01", "2021-03-02")), 1, 2),
        ((("monday", "tuesday"), WORDS), 2, 1),
        ((("3f2504e04f89", "a81bc81bdead"), WORDS), 2, 1),
        ((("writer_1", "writer_2"), "0123456789"), 2, 1),
        ((("dataset",), WORDS), 2, None),
        ((WORDS, ("images",)), 1, None),
        ((("photo", "sketch"), WORDS), 2, 1),
        ((("user_anna", "user_ben"), ("n01440764", "n01443537")), 2, 1),
        ((("p01", "p02"), ("사과", "고양이")), 2, 1),
    ],
)
def test_words_are_classes_and_people_days_and_numbers_are_not(levels, chosen, groups):
    choice = choose(*levels)
    assert choice.level == chosen
    assert (choice.groups and choice.groups.number) == groups
    assert choice.problem is None or choice.problem.severity == "warning"
    assert (choice.problem is None) == (chosen == 1 and groups is None)


@pytest.mark.parametrize(
    "levels", [(("anna", "ben"), WORDS), (WORDS, ("anna", "ben")), (("01", "02"), "0123"), (("s1", "s2"), ("t1", "t2"))]
)
def test_equally_good_levels_are_asked_about(levels):
    problem = choose(*levels).problem
    assert problem.severity == "error"
    assert "`data.class_level=1`" in problem.message
    assert "`data.class_level=2`" in problem.message


def test_a_named_level_is_taken_and_the_other_may_be_groups():
    choice = choose(("anna", "ben"), WORDS, fixed=2)
    assert (choice.level, choice.groups.names) == (2, ("anna", "ben"))
    assert choice.problem is None


def test_numbered_class_folders_with_the_name_inside_are_one_reading():
    paths = [f"{i:02d}/{name}/{k}.png" for i, name in enumerate(WORDS) for k in range(3)]
    choice = choose_level(FolderTree.of_paths(np.array(paths, dtype=STRING)), "data")
    assert (choice.level, choice.groups) == (2, None)


def test_two_names_for_each_class_are_both_shown_unless_they_share_a_word():
    def problem(*folders):
        paths = [f"{folder}/{k}.png" for folder in folders for k in range(3)]
        return choose_level(FolderTree.of_paths(np.array(paths, dtype=STRING)), "data").problem

    said = problem("anna/cat", "ben/dog", "carl/owl")
    assert said.severity == "warning"
    assert "`data.class_level=2`" in said.message
    assert problem("cat/cat pictures", "dog/dogs", "owl/owl") is None
    assert problem("cat/images", "dog/pictures") is None


def test_a_folder_for_each_drawing_names_no_class():
    paths = [f"{name}/{name} {letter}/view.png" for name in WORDS for letter in "abcdef"]
    assert choose_level(FolderTree.of_paths(np.array(paths, dtype=STRING)), "data").level == 1


def test_a_stray_drawing_hides_no_level_and_class_folders_with_drawings_stay_classes():
    users = [f"user.{i}/{name}/{k}.png" for i in range(3) for name in WORDS for k in range(9)]
    assert choose_level(FolderTree.of_paths(np.array(["user.1/stray.png", *users], dtype=STRING)), "data").level == 2
    partly = ["cat/1.png", "fish/1.png", *[f"dog/{kind}/{k}.png" for kind in ("pug", "poodle") for k in range(9)]]
    assert choose_level(FolderTree.of_paths(np.array(partly, dtype=STRING)), "data").level == 1
