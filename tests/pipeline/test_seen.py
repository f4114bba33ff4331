import numpy as np
import pytest
from scipy.stats import binomtest

from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.seen import measure_seen, warn_of_seen


def predictions(right, seen, groups=None):
    """Predictions of drawings of one class, right or wrong, of which the backbone has seen some in pretraining."""
    probs = np.where(np.array(right)[:, None], (0.9, 0.1), (0.1, 0.9)).astype(np.float32)
    names = np.array([f"{row}.png" for row in range(len(right))], np.dtypes.StringDType())
    seen = None if seen is None else np.array(seen)
    return Predictions(names, probs, ("a", "b"), np.zeros(len(right), np.int64), groups=groups, seen=seen)


def wilson(right, n):
    return pytest.approx(binomtest(right, n).proportion_ci(method="wilson"), abs=1e-6)


def test_drawings_that_the_backbone_has_seen_are_measured_apart_from_new_ones():
    figures = measure_seen(predictions([True] * 3 + [True, False, False, False], [True] * 3 + [False] * 4))
    assert (figures["drawings"], figures["of"]) == (3, 7)
    assert (figures["learnt"]["n"], figures["learnt"]["accuracy"], figures["learnt"]["accuracy_ci95"]) == (3, 1.0, wilson(3, 3))
    assert (figures["new"]["n"], figures["new"]["accuracy"], figures["new"]["accuracy_ci95"]) == (4, 0.25, wilson(1, 4))


@pytest.mark.parametrize("seen", [None, [False, False]])
def test_where_no_drawing_is_known_to_have_been_seen_there_is_nothing_to_measure(seen):
    assert measure_seen(predictions([True, False], seen)) is None
    assert warn_of_seen(predictions([True, False], seen)) == []


def test_where_all_drawings_were_seen_none_are_new():
    of_all = predictions([True, False], [True, True])
    assert measure_seen(of_all)["new"] is None
    [warning] = warn_of_seen(of_all)
    assert "trained on 2 of these 2 held-out drawings, and the accuracy of 0.500 on them is optimistic" in warning
    assert "Evaluate it on a test set that its weights were not trained on" in warning


def test_the_warning_has_the_accuracy_on_the_others():
    [warning] = warn_of_seen(predictions([True] * 3 + [True, False, False, False], [True] * 3 + [False] * 4))
    assert "On the 4 others it is 0.250 (0.046-0.699)" in warning  # Wilson's, of 1 in 4


def test_so_few_seen_drawings_that_they_make_no_difference_are_not_warned_of():
    right = [True] * 100
    assert warn_of_seen(predictions(right, [True] + [False] * 99)) == []
    assert len(warn_of_seen(predictions(right, [True] * 2 + [False] * 98))) == 1
