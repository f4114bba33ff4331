import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from inkfold.data.copy_units import Copies
from inkfold.data.duplicates import Match
from inkfold.storage.hashing import DIGEST_DTYPE, digest


def digests(names):
    return np.array([digest(str(name).encode()) for name in names], DIGEST_DTYPE)


def match(first, second, similarity=0.999):
    return Match(first, second, similarity, flip=False, turn_deg=0.0)


def copies_of(names, *matches):
    return Copies.of(digests(names), matches)


def sizes(labels):
    return sorted(np.unique(labels, return_counts=True)[1].tolist())


def held_out_in(parts, k):
    return np.stack([np.asarray(parts) == fold for fold in range(k)])


def test_copies_and_equal_files_stay_together_where_they_fit_a_fold():
    names = ["a", "a", *range(18)]
    labels = copies_of(names, match(0, 2), match(5, 6)).units(5)
    assert labels[0] == labels[1] == labels[2]
    assert labels[5] == labels[6] != labels[0]
    assert sizes(labels) == [1] * 15 + [2, 3]


def test_a_chain_that_outgrows_a_folds_share_is_cut_at_its_least_similar_pairs():
    pairs = [match(i, i + 1, 0.9 if i % 4 == 3 else 0.999) for i in range(15)]
    labels = copies_of(range(20), *pairs).units(4)  # 16 of 20 are one chain; a fold's share is 5
    assert sizes(labels) == [1] * 4 + [4] * 4
    assert all(len(set(labels[start : start + 4].tolist())) == 1 for start in (0, 4, 8, 12))


@given(st.permutations(range(12)), st.integers(2, 5))
def test_what_stays_together_depends_on_no_order(order, k):
    pairs = [match(i, i + 1, 0.99 + 0.0001 * ((7 * i) % 11)) for i in range(9)]
    before = copies_of(range(12), *pairs).units(k)
    place = np.argsort(order)
    moved = [match(*sorted((int(place[pair.first]), int(place[pair.second]))), pair.similarity) for pair in pairs]
    after = copies_of(order, *moved[::-1]).units(k)[place]
    same = [np.equal.outer(labels, labels) for labels in (before, after)]
    assert np.array_equal(*same)


def test_equal_files_are_never_cut():
    assert sizes(copies_of(["a"] * 9 + ["b"]).units(5)) == [1, 9]


def test_a_copy_of_a_held_out_drawing_is_left_out_of_training_and_held_out_once():
    copies = copies_of(["a", "a", *range(8)], match(0, 4))
    parts = np.arange(10) % 2
    folds = copies.leave_out(held_out_in(parts, 2), 2, np.zeros(10, np.int64))
    assert np.array_equal(folds.held_out.sum(0), np.ones(10))
    assert np.flatnonzero(~folds.trained_on[0] & ~folds.held_out[0]).tolist() == [1]  # 0 and 4 are held out
    assert np.flatnonzero(~folds.trained_on[1] & ~folds.held_out[1]).tolist() == [0, 4]
    assert not (folds.trained_on & folds.held_out).any()


def test_copies_of_copies_are_left_out_too():
    copies = copies_of(range(10), match(0, 1), match(1, 2))
    folds = copies.leave_out(held_out_in([0] + [1] * 9, 2)[:1], 2, np.zeros(10, np.int64))
    assert np.flatnonzero(~folds.trained_on[0]).tolist() == [0, 1, 2]


def test_beyond_a_cut_only_direct_pairs_are_left_out():
    chain = copies_of(range(10), *[match(i, i + 1) for i in range(9)])
    pieces = np.unique(chain.units(2), return_inverse=True)[1]
    folds = chain.leave_out(held_out_in(pieces, pieces.max() + 1), 2, np.zeros(10, np.int64))
    ends = [i for i in range(9) if pieces[i] != pieces[i + 1]]  # where the chain is cut
    assert len(ends) == pieces.max() > 0
    assert folds.purged.sum() == 2 * len(ends)


def all_alike(names):
    """Half of the drawings are of one class and look alike, by the first of equal files; the others are of another."""
    n = len(names) // 2
    firsts = [row for row in range(n) if names.index(names[row]) == row]
    pairs = [match(i, j) for i in firsts for j in firsts if i < j]
    copies = copies_of(names, *pairs)
    return copies.leave_out(held_out_in(np.arange(2 * n) % 2, 2), 2, np.repeat([0, 1], n))


def test_where_a_whole_class_looks_alike_only_equal_files_are_left_out():
    folds = all_alike([*[f"alike {i}" for i in range(23)], "alike 0", *range(24)])
    assert folds.look_alike == (0,)
    assert folds.purged.tolist() == [1, 1]


def test_a_few_copies_are_left_out_even_if_they_are_a_whole_class():
    folds = all_alike([*[f"alike {i}" for i in range(6)], *range(6)])
    assert folds.look_alike == ()
    assert folds.purged.tolist() == [3, 3]


def test_copies_of_a_drawing_that_was_left_out_still_belong_together():
    copies = copies_of(range(30), match(0, 1), match(1, 2)).select(np.delete(np.arange(30), 1))
    labels = copies.units(5)
    assert labels[0] == labels[1]
