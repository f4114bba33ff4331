import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from inkfold.ensemble.matching import are_matched_by_content, match_drawings
from inkfold.evaluation.predictions import Predictions

NAMES = ("cat", "dog")


def some(paths, digests=None, targets=None):
    probs = np.full((len(paths), 2), 0.5, np.float32)
    names = np.array([*paths], np.dtypes.StringDType())
    files = None if digests is None else np.array([text.encode() for text in digests], "S")
    return Predictions(names, probs, NAMES, None if targets is None else np.array(targets), digests=files)


def pairs(first, second):
    """The paths of each drawing that both have."""
    one, other = match_drawings([first, second])
    path_of = dict(zip(one.tolist(), first.image_paths.tolist(), strict=True))
    both = zip(other.tolist(), second.image_paths.tolist(), strict=True)
    return sorted((path_of[number], path) for number, path in both if number in path_of)


def test_the_same_files_in_another_folder_are_the_same_drawings():
    first, second = some(["train/1.png", "train/2.png"], ["x", "y"]), some(["b/y.png", "b/x.png"], ["y", "x"])
    assert pairs(first, second) == [("train/1.png", "b/x.png"), ("train/2.png", "b/y.png")]
    assert are_matched_by_content(first, second)


def test_one_path_with_two_contents_is_two_drawings():
    assert pairs(some(["1.png"], ["x"]), some(["1.png"], ["z"])) == []
    swapped = some(["2.png", "1.png"], ["x", "y"])
    assert pairs(some(["1.png", "2.png"], ["x", "y"]), swapped) == [("1.png", "2.png"), ("2.png", "1.png")]


def test_without_contents_paths_decide_however_they_are_spelt():
    first, second = some(["a/1.png", "a/2.png"], ["x", "y"]), some([".\\a\\2.png", "a//1.png"])
    assert pairs(first, second) == [("a/1.png", "a//1.png"), ("a/2.png", ".\\a\\2.png")]
    assert not are_matched_by_content(first, second)


def test_a_file_that_cant_be_read_has_its_path_alone():
    assert pairs(some(["1.png", "2.png"], ["", "y"]), some(["1.png", "3.png"], ["x", "y"])) == [
        ("1.png", "1.png"),
        ("2.png", "3.png"),
    ]


def test_equal_files_are_matched_by_path_then_by_class_then_in_the_order_of_paths():
    first = some(["cat/1.png", "dog/1.png", "same.png"], "xxx", [0, 1, 0])
    second = some(["b.png", "same.png", "a.png"], "xxx", [0, 0, 1])
    assert pairs(first, second) == [("cat/1.png", "b.png"), ("dog/1.png", "a.png"), ("same.png", "same.png")]
    unlabelled = some(["b.png", "a.png", "c.png"], "xxx")
    assert pairs(first, unlabelled) == [("cat/1.png", "a.png"), ("dog/1.png", "b.png"), ("same.png", "c.png")]
    assert pairs(first, some(["a.png"], "x", [1])) == [("dog/1.png", "a.png")]


def test_a_file_from_elsewhere_is_matched_with_whoever_has_its_paths():
    runs = [some(["old/1.png", "old/2.png"], "xy"), some(["new/2.png", "new/1.png"], "yx")]
    theirs = some(["new/1.png", "new/2.png"])
    for order in ([*runs, theirs], [theirs, *runs]):
        numbers = dict(zip(map(id, order), match_drawings(order), strict=True))
        assert numbers[id(theirs)].tolist() == numbers[id(runs[0])].tolist() == numbers[id(runs[1])][::-1].tolist()


def test_a_drawing_that_a_table_names_twice_is_one():
    [numbers] = match_drawings([some(["1.png", "2.png", "1.png"], "xyx")])
    assert numbers[0] == numbers[2] != numbers[1]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 1)), max_size=9), st.randoms())
def test_equal_folders_under_other_names_match_one_to_one_with_equal_labels(rows, order):
    """Whatever equal files there are, and in whatever order the rows are."""
    paths = [f"{name}{i}.png" for i, (name, _, _) in enumerate(rows)]
    digests, targets = [row[1] for row in rows], [row[2] for row in rows]
    there = [f"there/{order.random()}-{i}" for i in range(len(rows))]
    shuffled = random.Random(1).sample(range(len(rows)), len(rows))
    other = some([there[i] for i in shuffled], [digests[i] for i in shuffled], [targets[i] for i in shuffled])
    found = pairs(some(paths, digests, targets), other)
    assert sorted(path for path, _ in found) == sorted(paths)
    assert sorted(path for _, path in found) == sorted(there)
    for path, place in found:
        own, theirs = paths.index(path), there.index(place)
        assert (digests[own], targets[own]) == (digests[theirs], targets[theirs])
