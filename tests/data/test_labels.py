import numpy as np
import pytest

from inkfold.data.labels import Classes, encode_labels, encode_with, find_gaps
from inkfold.data.tables import STRING


def texts(*values):
    return np.array(values, dtype=STRING)


def where(index):
    return f"t.csv row {index + 1}"


def kinds(problems):
    return [problem.kind for problem in problems]


def test_names_alone_are_ordered_by_code_point_of_their_composed_form():
    names = texts("é", "Zebra", "apple", " apple ", "e\u0301", "가")
    targets, known, classes, problems = encode_labels(names, None, where)
    assert classes.names == ("Zebra", "apple", "é", "가")
    assert targets.tolist() == [2, 0, 1, 1, 2, 3]
    assert known.all()
    assert not problems


def test_names_that_are_whole_numbers_are_ordered_as_numbers():
    targets, _, classes, _ = encode_labels(texts("10", "2", "1"), None, where)
    assert classes.names == ("1", "2", "10")
    assert classes.values.tolist() == [1, 2, 10]
    assert targets.tolist() == [2, 1, 0]


def test_names_that_write_one_number_in_two_ways_stay_names():
    assert encode_labels(texts("1", "01"), None, where)[2].values.tolist() == [0, 1]


def test_targets_order_the_classes_and_keep_their_gaps():
    targets, _, classes, _ = encode_labels(texts("b", "a", "b"), texts("5", "9", "5.0"), where)
    assert classes.names == ("b", "a")
    assert classes.values.tolist() == [5, 9]
    assert targets.tolist() == [0, 1, 0]


def test_targets_alone_name_the_classes():
    assert encode_labels(None, texts("3", "0"), where)[2].names == ("0", "3")


def test_bad_targets_are_named_each_by_kind():
    _, known, _, problems = encode_labels(None, texts("0", "-1", "1.5", "", "nan", "9" * 19, "1", "²"), where)
    assert kinds(problems) == [
        "negative_target",
        "non_integer_target",
        "empty_cell",
        "non_integer_target",
        "non_integer_target",
        "non_integer_target",
    ]
    assert np.flatnonzero(known).tolist() == [0, 6]
    assert problems[0].where == "t.csv row 2"


def test_an_empty_class_name_is_an_error():
    _, known, classes, problems = encode_labels(texts("a", " ", "b"), None, where)
    assert kinds(problems) == ["empty_cell"]
    assert known.tolist() == [True, False, True]
    assert classes.names == ("a", "b")


def test_one_name_with_two_targets_is_an_error():
    _, known, classes, problems = encode_labels(texts("a", "a", "b"), texts("0", "1", "2"), where)
    assert kinds(problems) == ["name_with_two_targets"]
    assert "t.csv row 2" in problems[0].message
    assert classes.names == ("b",)
    assert known.tolist() == [False, False, True]


def test_one_target_with_two_names_is_an_error():
    _, known, _, problems = encode_labels(texts("a", "c", "b"), texts("0", "0", "2"), where)
    assert kinds(problems) == ["target_with_two_names"]
    assert known.tolist() == [False, False, True]


def test_no_rows_give_no_classes():
    targets, _, classes, problems = encode_labels(texts(), None, where)
    assert (len(targets), classes.names, problems) == (0, (), [])


@pytest.mark.parametrize(
    ("values", "absent"),
    [((0, 1, 2), None), ((1, 2, 3), "0"), ((0, 3), "1, 2"), ((0, 7), "1, 2, 3 and more"), ((), None)],
)
def test_gaps_name_the_values_that_are_absent(values, absent):
    problems = find_gaps("t.csv", Classes(tuple(map(str, values)), np.array(values, np.int64)))
    assert kinds(problems) == ([] if absent is None else ["target_gaps"])
    assert all(f"absent: {absent}. " in problem.message for problem in problems)


def test_labels_of_known_classes_are_found_by_value_or_by_name_in_any_unicode_form():
    classes = Classes(("b", "\u00e9"), np.array([3, 9]))
    targets, known, problems = encode_with(classes, None, texts("9", "3", "4"), where)
    assert (targets[known].tolist(), known.tolist(), kinds(problems)) == ([1, 0], [True, True, False], ["unknown_class"])
    targets, known, problems = encode_with(classes, texts("e\u0301", " b", "z"), None, where)
    assert (targets[known].tolist(), known.tolist(), kinds(problems)) == ([1, 0], [True, True, False], ["unknown_class"])
