import numpy as np
import pytest

from inkfold.auto.sample import draw_sample, sample_order
from toy_prepared import prepared


def test_every_drawing_comes_once():
    order = sample_order(prepared(np.arange(50) % 5), 3, 0)
    assert sorted(order.tolist()) == [*range(50)]


def test_each_beginning_has_the_classes_in_equal_shares():
    own = prepared(np.repeat(np.arange(5), 20))
    order = sample_order(own, 3, 0)
    for size in (10, 25, 60):
        assert np.bincount(own.targets[order[:size]]).tolist() == [size // 5] * 5


def test_a_rare_class_is_in_the_sample_whole():
    own = prepared([0] * 100 + [1] * 3)
    assert {100, 101, 102} <= {*sample_order(own, 3, 0)[:6].tolist()}


def test_of_many_classes_a_hundred_come_first():
    own = prepared(np.repeat(np.arange(300), 12))
    first = own.targets[sample_order(own, 3, 0)[:800]]
    assert len(np.unique(first)) == 100
    assert np.unique(first, return_counts=True)[1].tolist() == [8] * 100
    assert len(np.unique(own.targets[sample_order(own, 3, 0)[:1200]])) == 300


def test_small_groups_stay_whole_and_are_the_same_in_all_classes():
    people, classes = np.repeat(np.arange(30), 10), np.tile(np.arange(10), 30)  # each person drew each class once
    own = prepared(classes, people)
    taken = people[sample_order(own, 3, 0)[:60]]
    assert np.unique(taken, return_counts=True)[1].tolist() == [10] * 6


def test_one_large_group_is_not_the_whole_sample():
    own = prepared(np.arange(300) % 2, np.r_[np.zeros(200, int), np.arange(1, 101)])
    assert len(np.unique(own.named_groups[sample_order(own, 3, 0)[:40]])) > 10


def test_drawings_that_are_new_to_all_backbones_come_first_and_faster():
    own, seen = prepared(np.repeat(np.arange(4), 40)), np.tile(np.arange(40) >= 10, 4)
    order = sample_order(own, 3, 0, seen)
    assert not seen[order[:40]].any()
    seen = np.repeat(np.arange(4), 40) >= 2
    assert (~seen[sample_order(own, 3, 0, seen)[:40]]).mean() == pytest.approx(0.75, abs=0.05)


def test_another_seed_gives_another_order_and_the_same_seed_the_same():
    own = prepared(np.arange(60) % 3)
    assert sample_order(own, 3, 0).tolist() == sample_order(own, 3, 0).tolist()
    assert sample_order(own, 3, 0).tolist() != sample_order(own, 3, 1).tolist()


def test_folds_of_a_sample_keep_groups_together():
    people = np.repeat(np.arange(12), 5)
    own = prepared(np.tile(np.arange(5), 12), people)
    sample = draw_sample(own, sample_order(own, 3, 0)[:30], 3, 0)
    for held_out in sample.folds.held_out:
        assert not {*people[sample.rows[held_out]]} & {*people[sample.rows[~held_out]]}
    assert sample.folds.held_out.sum(0).tolist() == [1] * 30


def test_classes_of_a_sample_have_no_gaps():
    own = prepared(np.repeat([0, 3, 7], 10))
    sample = draw_sample(own, np.arange(30), 3, 0)
    assert (sample.num_classes, np.unique(sample.targets).tolist()) == (3, [0, 1, 2])


@pytest.mark.parametrize(
    ("targets", "groups"),
    [
        ([0, 1] * 5, None),  # too few drawings
        ([0] * 20, None),  # one class
        ([0, 1] * 10, [0] * 20),  # one group
        ([0] * 10 + [1] * 10, [0] * 10 + [1] * 10),  # a fold would have one class to learn from
    ],
)
def test_what_cannot_be_compared_on_gives_no_sample(targets, groups):
    assert draw_sample(prepared(targets, groups), np.arange(len(targets)), 3, 0) is None


def test_half_of_a_sample_has_half_of_each_class_to_learn_from():
    own = prepared(np.repeat([0, 1], 18))
    sample = draw_sample(own, np.arange(36), 3, 0)
    half = sample.halved()
    for own_part, whole in zip(half.folds.trained_on, sample.folds.trained_on, strict=True):
        assert np.bincount(sample.targets[own_part]).tolist() == (np.bincount(sample.targets[whole]) / 2).tolist()
    assert (half.folds.held_out == sample.folds.held_out).all()


def test_single_drawings_of_each_class_are_not_halved():
    own = prepared(np.repeat(np.arange(10), 2))
    assert draw_sample(own, np.arange(20), 2, 0).halved() is None
