from dataclasses import replace

import numpy as np
import pytest

from inkfold.evaluation.error_analysis import class_rows, confused_pairs, failures, turns_by_class
from inkfold.evaluation.intervals import proportion_interval, wilson_interval
from inkfold.evaluation.predictions import Predictions

NAMES = ("cat", "dog", "sun", "none")
# by hand: true, said, confidence
ROWS = [
    ("cat", "dog", 0.9),
    ("cat", "cat", 0.8),
    ("dog", "cat", 0.6),
    ("dog", "cat", 0.7),
    ("sun", "sun", 0.5),
    ("sun", "cat", 0.4),
]


def by_hand():
    probs = np.zeros((len(ROWS), len(NAMES)), np.float32)
    for i, (_, said, confidence) in enumerate(ROWS):
        probs[i] = (1 - confidence) / 3
        probs[i, NAMES.index(said)] = confidence
    targets = np.array([NAMES.index(true) for true, _, _ in ROWS])
    return Predictions(np.array([f"{i}.png" for i in range(len(ROWS))], np.dtypes.StringDType()), probs, NAMES, targets)


def test_classes_come_the_weakest_first_with_what_they_are_taken_for_and_empty_ones_last():
    rows = class_rows(by_hand())
    assert [row.name for row in rows] == ["dog", "cat", "sun", "none"]
    dog, cat, _, none = rows
    assert (dog.n, dog.recall, dog.precision, dog.taken_for, dog.taken) == (2, 0.0, 0.0, "cat", 2)
    assert (cat.recall, cat.precision) == (0.5, 0.25)
    assert (none.n, none.recall, none.ci95, none.precision, none.taken_for) == (0, None, None, None, None)


def test_pairs_are_named_by_who_is_mistaken_more_and_count_both_ways():
    first, second = confused_pairs(by_hand())
    assert (NAMES[first.first], NAMES[first.second], first.first_as_second, first.second_as_first) == ("dog", "cat", 2, 1)
    assert first.share == 3 / 4
    assert first.rows == (0, 3, 2)  # 0.9, 0.7, 0.6
    assert {NAMES[second.first], NAMES[second.second]} == {"sun", "cat"}
    assert len(confused_pairs(by_hand(), most=1)) == 1


def test_failures_are_of_many_classes_before_any_comes_twice_and_the_surest_first():
    found = failures(by_hand(), most=3)
    assert [(NAMES[one.target], NAMES[one.pred]) for one in found] == [("cat", "dog"), ("dog", "cat"), ("sun", "cat")]
    assert [one.row for one in found] == [0, 3, 5]
    assert found[0].confidence == pytest.approx(0.9)
    assert found[0].probability == pytest.approx(0.1 / 3)
    assert [one.row for one in failures(by_hand())] == [0, 3, 2, 5]


def test_turns_take_one_of_every_class_before_a_second_of_any():
    assert turns_by_class([2, 0, 2, 2, 0]) == [0, 0, 1, 2, 1]


def test_without_a_mistake_there_is_nothing_to_show():
    targets = np.array([0, 1])
    predictions = Predictions(np.array(["a", "b"], np.dtypes.StringDType()), np.eye(2, dtype=np.float32), ("a", "b"), targets)
    assert confused_pairs(predictions) == []
    assert failures(predictions) == []


def test_the_interval_of_a_class_resamples_its_groups():
    n = 240
    targets, right, groups = np.arange(n) % 2, np.arange(n) % 24 < 18, np.arange(n) // 12
    probs = np.eye(2, dtype=np.float32)[np.where(right, targets, 1 - targets)]
    predictions = Predictions(np.array([f"{i}" for i in range(n)], np.dtypes.StringDType()), probs, ("a", "b"), targets)
    for row in class_rows(replace(predictions, groups=groups)):
        inside = targets == row.index
        assert row.ci95 == proportion_interval(right[inside], groups[inside]).bounds
    assert class_rows(predictions)[0].ci95 == wilson_interval(90, 120)
