import numpy as np
import pytest

from inkfold.audit.confusions import find_confusions, lost_to_confusion
from toy_views import classifier, views_of


def test_a_pair_that_no_model_separates_is_found_and_no_other():
    probs, labels, _, _ = classifier(confused=[(3, 7)], wrong=0)
    [pair] = find_confusions(views_of(probs), labels)
    assert (pair.first, pair.second) == (3, 7)
    assert pair.accuracy_ci95[0] <= 0.5
    wrong = pair.first_as_second + pair.second_as_first
    assert pair.accuracy == pytest.approx(1 - wrong / pair.n)
    assert pair.accuracy < pair.could_be < 1
    names = tuple("abcdefghijkl")
    assert pair.as_json(names)["first"] == "d"


def test_a_pair_that_one_model_separates_is_not_reported():
    confused, labels, _, _ = classifier(confused=[(3, 7)], wrong=0)
    other, same, _, _ = classifier(wrong=0)
    np.testing.assert_array_equal(labels, same)
    assert find_confusions(views_of(confused, other), labels) == []


def test_each_class_is_lost_to_one_pair_only():
    probs, labels, _, _ = classifier(wrong=0, confused=[(3, 7)])
    [pair] = find_confusions(views_of(probs), labels)
    counts = np.bincount(labels)
    assert lost_to_confusion([pair], labels) == min(counts[3], counts[7])
    assert lost_to_confusion([pair, pair], labels) == min(counts[3], counts[7])
    assert lost_to_confusion([], labels) == 0
