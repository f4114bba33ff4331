import numpy as np
import pytest

from inkfold.data.labels import Classes
from inkfold.data.submission_form import CsvStyle
from inkfold.data.submission_headings import match_headings, ranked_places
from inkfold.data.submission_labels import ClassTexts, Reading, choose_reading, read_cells
from inkfold.data.submission_sample import Sample
from toy_tables import kinds


def texts(*names, numbers=None, has_numbers=True):
    return ClassTexts(Classes(names, np.arange(len(names)) if numbers is None else np.array(numbers)), has_numbers)


def sample(heading, *cells):
    return Sample("s.csv", (heading,), (cells,), CsvStyle(), len(cells))


def chosen(own, cells, heading="label", setting=None):
    problems = []
    return choose_reading(sample(heading, *cells), 0, own, setting, ("class_name", "target"), problems), kinds(problems)


@pytest.mark.parametrize(
    ("names", "cells", "expected"),
    [
        (("a", "b c"), ["a", "b c"], [Reading("name")]),
        (("a", "b c"), ["b_c"], [Reading("underscored")]),
        (("a", "b c"), ["a"], [Reading("name")]),
        (("a", "b c"), ["a b_c"], [Reading("underscored", 2)]),
        (("a", "b"), ["a b", "b"], [Reading("name", 2)]),
        (("a", "b"), ["a|b"], [Reading("name", 2, "|")]),
        (("a", "b"), ["1", "0"], [Reading("number")]),
        (("a", "b"), ["1 0"], [Reading("number", 2)]),
        (("0", "1"), ["1"], [Reading("number")]),
        (("a", "b"), ["c"], []),
        (("a", "b"), [""], []),
    ],
)
def test_cells_are_read_as_classes(names, cells, expected):
    assert read_cells(cells, texts(*names)) == expected


def test_names_that_are_other_classes_numbers_are_not_decided():
    assert chosen(texts("1", "2", numbers=[2, 1]), ["1", "2"]) == (None, ["unclear_labels"])
    assert chosen(texts("1", "2", numbers=[2, 1]), ["1", "2"], setting="number") == (Reading("number"), [])


def test_numbers_of_data_without_any_are_said_where_they_differ_and_asked_for_where_they_do_not():
    own = texts("a", "b", has_numbers=False)
    assert chosen(own, ["0", "1"]) == (Reading("number"), ["numbered_by_order"])
    assert chosen(own, ["0", "0"]) == (None, ["unclear_labels"])
    assert chosen(own, ["0 1", "0 1"]) == (Reading("number", 2), ["numbered_by_order"])
    assert chosen(own, ["0", "0"], "target") == (Reading("number"), [])
    assert chosen(own, ["?", "?"]) == (Reading("name"), ["sample_placeholder"])
    assert chosen(texts("a", "b"), ["?", "?"]) == (None, ["unclear_labels"])


def test_the_training_tables_heading_decides_a_placeholder_but_not_what_the_cells_say():
    assert chosen(texts("a", "b"), ["0", "0"], "class_name") == (Reading("name"), ["sample_placeholder"])
    assert chosen(texts("a", "b"), ["", ""], "target") == (Reading("number"), ["sample_placeholder"])
    assert chosen(texts("a", "b"), ["a", "a"], "target") == (Reading("name"), [])
    assert chosen(texts("a", "b"), ["0", "1"], "class_name") == (Reading("number"), [])


def test_a_setting_takes_the_rest_from_the_sample():
    own = texts("a", "b c")
    assert chosen(own, ["b_c a"], setting="top5") == (Reading("underscored", 5), [])
    assert chosen(own, ["1 0"], setting="top3") == (Reading("number", 3), [])
    assert chosen(own, ["b_c"], setting="name") == (Reading("underscored"), [])
    assert chosen(own, ["0"], setting="name") == (Reading("name"), [])


@pytest.mark.parametrize(
    ("headings", "expected"),
    [
        (["id", "label1", "label2"], True),
        (["id", "pred_0", "pred_1", "pred_2"], True),
        (["id", "label1", "label3"], False),
        (["id", "first1", "second2"], False),
        (["id", "a", "b"], False),
    ],
)
def test_a_ranking_has_headings_that_count(headings, expected):
    own = Sample("s.csv", tuple(headings), (("x",),) * len(headings), CsvStyle())
    assert ranked_places(own, range(1, len(headings))) is expected


def test_columns_of_a_ranking_are_not_classes_of_the_same_numbers():
    own = Sample("s.csv", ("id", "label0", "label1"), (("x",), ("cat",), ("dog",)), CsvStyle())
    assert match_headings(own, texts("cat", "dog"), []) is None
    numeric = Sample("s.csv", ("id", "label0", "label1"), (("x",), ("0.5",), ("0.5",)), CsvStyle())
    assert match_headings(numeric, texts("cat", "dog"), []) == {1: "cat", 2: "dog"}
    numbers = Sample("s.csv", ("id", "label0", "label1", "label2"), (("x",), ("2",), ("0",), ("1",)), CsvStyle())
    assert match_headings(numbers, texts("cat", "dog", "cow"), []) is None
    one_hot = Sample("s.csv", ("id", "label0", "label1", "label2"), (("x",), ("0",), ("0",), ("1",)), CsvStyle())
    assert match_headings(one_hot, texts("cat", "dog", "cow"), []) == {1: "cat", 2: "dog", 3: "cow"}


def test_two_columns_of_one_class_are_named():
    problems = []
    own = Sample("s.csv", ("id", "cat", "cat", "dog"), (("x",), ("0",), ("0",), ("0",)), CsvStyle())
    match_headings(own, texts("cat", "dog"), problems)
    assert kinds(problems) == ["sample_classes"]
    assert "several columns" in str(problems[0])


def test_a_list_that_could_not_be_read_back_is_refused():
    assert chosen(texts("a", "b;c"), ["a;a"]) == (None, ["submission_labels"])
    assert chosen(texts("a", "b c", "b_c"), ["a a"]) == (None, ["submission_labels"])
    assert chosen(texts("a", "b c"), ["x"], setting="top2") == (Reading("underscored", 2), [])
