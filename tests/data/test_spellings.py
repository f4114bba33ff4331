import numpy as np
import pytest

from inkfold.data.dataset import read_dataset
from inkfold.data.spellings import merged_labels, similar_classes, whole_numbers
from inkfold.data.tables import STRING
from toy_tables import kinds, put


def texts(*values):
    return np.array(values, dtype=STRING)


@pytest.mark.parametrize(
    ("twin", "difference"),
    [
        ("Hot dog 1", "case"),
        ("hot dog\u200b 1", "invisible characters"),
        ("hot dog\ufe0f 1", "invisible characters"),
        ("\uff48ot dog 1", "the characters' width or form"),
        ("hot dog 01", "zeros"),
        ("hot dog 1.0", "zeros"),
        ("hot_dog  1", "blanks, hyphens or underscores"),
        ("HOT-DOG 1", "case and blanks, hyphens or underscores"),
    ],
)
def test_one_class_in_two_spellings_is_warned_of_with_the_difference(twin, difference):
    [problem] = similar_classes(("hot dog 1", "cat", twin), (3, 1, 2), "write them alike")
    assert (problem.kind, problem.severity, problem.where) == ("similar_classes", "warning", "class 'hot dog 1'")
    assert f"'hot dog 1' (3), {twin!r} (2) differ only in {difference}: one class or 2?" in problem.message
    assert problem.message.endswith("If they are one, write them alike.")


@pytest.mark.parametrize(
    "names", [("cat", "car"), ("A", "a"), ("1", "10", "100"), ("\u2764", "\u2606"), ("1.5", "1.05"), ("\u200b", "x")]
)
def test_different_classes_are_not(names):
    assert similar_classes(names, [1] * len(names), "") == []


def test_labels_that_are_merged_are_named_with_their_spellings():
    [problem] = merged_labels(texts("caf\u00e9", "cafe\u0301", "tea", "caf\u00e9", ""), "t.csv")
    assert problem.where == "t.csv class 'caf\u00e9'"
    assert "'caf\\xe9', 'cafe\\u0301'" in problem.message
    assert merged_labels(texts(" cat", " cat", " dog"), "t.csv") == []


def test_whole_numbers_with_a_point_are_read_without_it():
    column, [problem] = whole_numbers(texts("1.0", "2.0", "", "10.0", "2"), "t.csv")
    assert column.tolist() == ["1", "2", "", "10", "2"]
    assert problem.kind == "numbers_as_labels"


@pytest.mark.parametrize("labels", [("1.0", "1.5"), ("1", "2"), ("1.0", "cat"), ("v1.0",), ()])
def test_other_labels_stay(labels):
    column, problems = whole_numbers(texts(*labels), "t.csv")
    assert (column.tolist(), problems) == ([*labels], [])


def test_labels_with_a_point_are_ordered_as_numbers_in_train_and_test(tmp_path):
    put(tmp_path, *[f"{i}.png" for i in range(5)])
    (tmp_path / "train.csv").write_text("image_path,class_name\n0.png,10.0\n1.png,2.0\n2.png,1.0\n")
    (tmp_path / "test.csv").write_text("image_path,class_name\n3.png,10.0\n4.png,1.0\n")
    data = read_dataset(tmp_path)
    assert data.class_names == ("1", "2", "10")
    assert data.class_targets.tolist() == [1, 2, 10]
    assert data.train.targets.tolist() == [2, 1, 0]
    assert "numbers_as_labels" in kinds(data.problems)
