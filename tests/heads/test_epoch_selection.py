import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkfold.evaluation.scores import Metric
from inkfold.heads.epoch_selection import select_epochs, select_epochs_by


def answers(*epochs):
    """Who was right, an epoch a text: `1` is right."""
    return np.array([[letter == "1" for letter in epoch] for epoch in epochs])


answers_of_heads = st.integers(1, 6).flatmap(
    lambda epochs: st.lists(
        st.integers(0, 7)
        .flatmap(lambda rows: st.lists(st.lists(st.booleans(), min_size=rows, max_size=rows), min_size=epochs, max_size=epochs))
        .map(lambda table: np.array(table, bool).reshape(len(table), -1)),
        min_size=1,
        max_size=4,
    )
)


def test_one_head_by_hand():
    selection = select_epochs([answers("0101", "1011", "0111")])
    assert selection.epochs == (1,), "epochs 1 and 2 have three right answers each, and the first of equals is kept"
    assert selection.accuracy == 3 / 4
    # rows 0 and 2 are best in epoch 1, of whose rows 1 and 3 one is right; rows 1 and 3 in epoch 0, of whose 0 and 2 none is
    assert selection.nested_accuracy == (1 + 0) / 4
    assert selection.optimism == 1 / 2


def test_heads_have_their_own_epochs_and_count_by_their_drawings():
    selection = select_epochs([answers("11", "00"), answers("000000", "000111"), answers("0", "1")])
    assert selection.epochs == (0, 1, 1)
    assert selection.accuracy == (2 + 3 + 1) / 9
    # of the second, both halves choose epoch 1; of the third, the empty half chooses epoch 0 for the only drawing
    assert selection.nested_accuracy == (2 + 3 + 0) / 9


def test_an_epoch_that_is_best_for_all_has_no_optimism():
    selection = select_epochs([answers("0000", "1111", "1010"), answers("00", "01", "11")])
    assert selection.epochs == (1, 2)
    assert (selection.accuracy, selection.nested_accuracy, selection.optimism) == (1, 5 / 6, pytest.approx(1 / 6))
    assert select_epochs([answers("0000", "1111")]).optimism == 0


def test_a_single_epoch_is_no_choice():
    selection = select_epochs([answers("0110"), answers("1")])
    assert selection.epochs == (0, 0)
    assert selection.accuracy == selection.nested_accuracy == 3 / 5
    assert selection.optimism == 0


def test_heads_that_hold_nothing_out_have_no_figures():
    selection = select_epochs([np.zeros((3, 0), bool)] * 2)
    assert math.isnan(selection.accuracy)
    assert math.isnan(selection.nested_accuracy)
    assert math.isnan(selection.optimism)


def test_a_head_that_holds_nothing_out_leaves_the_others_figures_alone():
    plain, more = select_epochs([answers("01", "11")]), select_epochs([answers("01", "11"), np.zeros((2, 0), bool)])
    assert (more.accuracy, more.nested_accuracy) == (plain.accuracy, plain.nested_accuracy)


def nested(right):
    """Each drawing is scored in the epoch that is best, first of equals, on the drawings at places of the other parity."""
    total = 0
    for row in range(right.shape[1]):
        choosers = [other for other in range(right.shape[1]) if other % 2 != row % 2]
        scores = [sum(right[epoch, other] for other in choosers) for epoch in range(len(right))]
        total += right[scores.index(max(scores)), row]
    return total


@given(answers_of_heads)
def test_figures_are_those_of_loops_over_drawings(right):
    selection, count = select_epochs(right), sum(one.shape[1] for one in right)
    best = [max(one.sum(1)) for one in right]
    assert [one.sum(1)[epoch] for one, epoch in zip(right, selection.epochs, strict=True)] == best
    for one, epoch in zip(right, selection.epochs, strict=True):
        assert (one.sum(1)[:epoch] < one.sum(1)[epoch]).all() if one.shape[1] else epoch == len(one) - 1
    if count:
        assert selection.accuracy == sum(best) / count
        assert selection.nested_accuracy == sum(nested(one) for one in right) / count
        assert [own.sum() for own in selection.nested_right] == [nested(one) for one in right]
        assert [len(own) for own in selection.nested_right] == [one.shape[1] for one in right]


@given(answers_of_heads, st.randoms())
def test_the_order_of_heads_is_irrelevant(right, random):
    order = random.sample(range(len(right)), len(right))
    one, other = select_epochs(right), select_epochs([right[i] for i in order])
    assert [one.epochs[i] for i in order] == list(other.epochs)
    assert str((one.accuracy, one.nested_accuracy)) == str((other.accuracy, other.nested_accuracy))


def test_where_every_epoch_guesses_the_nested_accuracy_is_chance_and_the_other_is_optimistic():
    for chance in [0.1, 0.5, 0.9]:
        generator = np.random.default_rng(0)
        runs = [select_epochs([generator.random((20, 50)) < chance for _ in range(4)]) for _ in range(100)]
        # 20,000 scored drawings
        deviation = math.sqrt(chance * (1 - chance) / 20_000)
        assert np.mean([run.nested_accuracy for run in runs]) == pytest.approx(chance, abs=4 * deviation)
        assert np.mean([run.optimism for run in runs]) > 10 * deviation
        assert np.mean([run.optimism > 0 for run in runs]) > 0.9


def answered(targets, *epochs):
    """One head's answers, an epoch a list: who was right, and the metric's statistics after each epoch."""
    targets, metric = np.array(targets), Metric("balanced_accuracy")
    probs = [np.eye(3)[preds] for preds in epochs]
    return np.array([np.array(preds) == targets for preds in epochs]), [metric.statistics(one, targets) for one in probs]


def test_a_metric_chooses_another_epoch_than_accuracy_by_hand():
    # six of class 0, one of class 1, one of class 2: the first epoch knows the large class alone, the second is right on
    # four of six and on both small ones
    targets = [0, 0, 0, 0, 0, 1, 0, 2]
    right, statistics = answered(targets, [0] * 8, [0, 0, 0, 0, 1, 1, 1, 2])
    assert select_epochs([right]).epochs == (0,), "six of eight are right in both"
    selection = select_epochs_by(Metric("balanced_accuracy"), [right], [statistics])
    assert selection.epochs == (1,)
    assert selection.accuracy == 6 / 8
    assert selection.score == pytest.approx((4 / 6 + 1 + 1) / 3)
    # even rows are all of class 0 and choose the first epoch for the odd ones, of which both small classes are then wrong;
    # odd rows choose the second epoch, in which two of the four even rows are right
    assert selection.nested_accuracy == (2 + 2) / 8
    assert selection.nested_score == pytest.approx((4 / 6 + 0 + 0) / 3)


def test_a_lower_loss_is_the_better_epoch():
    metric, targets = Metric("log_loss"), np.array([0, 1, 0, 1])
    probs = [np.full((4, 2), 0.5), 0.5 + 0.4 * (np.eye(2)[targets] - 0.5), 0.5 + 0.2 * (np.eye(2)[targets] - 0.5)]
    right = np.ones((3, 4), bool)
    selection = select_epochs_by(metric, [right], [[metric.statistics(one, targets) for one in probs]])
    assert selection.epochs == (1,)
    assert selection.score == pytest.approx(-math.log(0.7))
