import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkfold.data.splits import Folds, assign_folds, count_split_groups
from inkfold.storage.hashing import DIGEST_DTYPE, digest


def digests(names):
    return np.array([digest(str(name).encode()) for name in names], DIGEST_DTYPE)


def assign(targets, names=None, *, k=5, seed=0, groups=None):
    names = range(len(targets)) if names is None else names
    groups = None if groups is None else np.array([str(group) for group in groups], np.dtypes.StringDType())
    return assign_folds(np.asarray(targets, np.int64), digests(names), k, seed, groups)


TARGETS = st.lists(st.integers(0, 4), min_size=1, max_size=60)


@given(TARGETS, st.integers(2, 7), st.integers(0, 99))
def test_every_drawing_is_in_one_fold_and_classes_are_spread_within_one(targets, k, seed):
    folds = assign(targets, k=k, seed=seed)
    assert folds.shape == (len(targets),)
    assert set(folds) <= set(range(k))
    for target in set(targets):
        counts = np.bincount(folds[np.array(targets) == target], minlength=k)
        assert counts.max() - counts.min() <= 1


def test_many_uneven_classes_leave_folds_of_nearly_equal_size():
    targets = np.random.default_rng(0).integers(0, 100, 2000)
    assert np.ptp(np.bincount(assign(targets, k=5))) <= 10  # of 400; 100 classes, each off by up to one


@given(TARGETS, st.data())
def test_row_order_changes_no_drawings_fold(targets, data):
    n = len(targets)
    names = data.draw(st.lists(st.integers(0, n), min_size=n, max_size=n))  # some files are equal
    groups = data.draw(st.none() | st.lists(st.sampled_from("abcdefgh"), min_size=n, max_size=n))
    order = np.array(data.draw(st.permutations(range(n))))
    folds = assign(targets, names, groups=groups)
    shuffled = assign(
        np.array(targets)[order],
        np.array(names)[order],
        groups=None if groups is None else [groups[i] for i in order],
    )
    assert np.array_equal(shuffled, folds[order])


@given(TARGETS, st.data())
def test_groups_stay_together_and_without_groups_equal_files_do(targets, data):
    n = len(targets)
    names = data.draw(st.lists(st.integers(0, n), min_size=n, max_size=n))
    groups = data.draw(st.lists(st.integers(0, n).map(str), min_size=n, max_size=n))
    for folds, values in ((assign(targets, names, groups=groups), groups), (assign(targets, names), names)):
        for value in set(values):
            assert len({fold for fold, own in zip(folds, values, strict=True) if own == value}) == 1


def test_files_that_groups_share_join_no_groups():
    names = [f"{who}-{i}" if i else f"shared {(who + 1) // 2}" for who in range(10) for i in range(4)]
    folds = assign([0, 1] * 20, names, groups=[who for who in range(10) for _ in range(4)])
    assert np.bincount(folds).tolist() == [8] * 5


def test_groups_of_the_same_files_may_be_told_apart_by_nothing_but_their_size_and_content():
    names = ["same", "same", "a", "same", "same", "b"]
    folds = assign([0] * 6, names, k=2, groups=["x", "x", "x", "y", "y", "y"])
    again = assign([0] * 6, names[::-1], k=2, groups=["y", "y", "y", "x", "x", "x"])
    assert np.array_equal(folds, again[::-1])


def test_what_is_neither_trained_on_nor_held_out_is_purged():
    trained_on = np.array([[True, False, False, True], [False, True, False, True]])
    held_out = np.array([[False, True, True, False], [True, False, False, False]])
    folds = Folds(trained_on, held_out)
    assert folds.purged.tolist() == [0, 1]
    assert folds.select(np.array([True, True, False, False])).purged.tolist() == [0, 0]
    assert Folds.of(trained_on).purged.tolist() == [0, 0]


def test_equal_groups_of_one_class_are_dealt_evenly():
    groups = [f"who{i // 4}" for i in range(40)]
    assert np.bincount(assign([0] * 40, groups=groups)).tolist() == [8] * 5


def test_two_classes_are_dealt_in_equal_shares():
    folds = assign([0] * 30 + [1] * 70)
    assert np.bincount(folds[:30]).tolist() == [6] * 5
    assert np.bincount(folds[30:]).tolist() == [14] * 5


def test_a_class_smaller_than_k_gives_each_of_its_drawings_another_fold():
    folds = assign([0] * 3 + [1] * 50)
    assert len(set(folds[:3])) == 3
    assert np.bincount(folds, minlength=5).max() <= 11


def test_classes_of_one_drawing_fill_the_folds_evenly():
    assert sorted(np.bincount(assign(range(23), k=5))) == [4, 4, 5, 5, 5]


def test_the_seed_changes_the_folds_and_the_same_seed_does_not():
    targets = [0, 1] * 20
    assert np.array_equal(assign(targets, seed=3), assign(targets, seed=3))
    assert not np.array_equal(assign(targets, seed=3), assign(targets, seed=4))


@pytest.mark.parametrize("k", [2, 10])
def test_folds_are_a_function_of_content_and_not_of_position(k):
    targets = np.array([0, 1, 1, 0, 1, 0, 0, 1, 1, 0])
    alone = assign(targets, k=k)
    assert np.array_equal(assign(targets[::-1], np.arange(10)[::-1], k=k), alone[::-1])


@settings(max_examples=40, deadline=None)
@given(
    copies=st.lists(st.integers(0, 30), min_size=30, max_size=120),
    k=st.integers(2, 6),
    seed=st.integers(0, 5),
    shuffle=st.randoms(use_true_random=False),
)
def test_folds_keep_copies_are_balanced_and_do_not_depend_on_order(copies, k, seed, shuffle):
    groups = np.array(copies)
    targets = np.arange(len(copies)) % 3
    names = [f"drawing {i}" for i in range(len(copies))]
    folds = assign(targets, names, k=k, seed=seed, groups=copies)
    assert count_split_groups(groups, folds) == 0
    largest = np.bincount(groups).max()
    sizes = np.bincount(folds, minlength=k)
    assert sizes.max() - sizes.min() <= 3 * largest
    order = list(range(len(copies)))
    shuffle.shuffle(order)
    again = assign(targets[order], [names[i] for i in order], k=k, seed=seed, groups=[copies[i] for i in order])
    assert np.array_equal(again, folds[order])


def test_parted_groups_are_counted():
    assert count_split_groups(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0])) == 1


def test_the_first_folds_are_as_they_are_beside_all_others():
    held_out = np.arange(6) % 3 == np.arange(3)[:, None]
    folds = Folds(~held_out, held_out, look_alike=(1,))
    first = folds.first(2)
    assert len(first) == 2
    assert first.held_out.tolist() == held_out[:2].tolist()
    assert first.trained_on.tolist() == (~held_out[:2]).tolist()
    assert (first.k, first.look_alike) == (3, (1,))
    assert first.measured.tolist() == [True, True, False] * 2
    assert first.first(1).k == 3, "how many parts there are isn't forgotten"
    assert first.select(np.arange(6) < 3).k == 3
