import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

from inkfold.ensemble.voting import geometric_vote, hard_preds, hard_vote, log_probs, nested_vote, rank_vote, soft_vote
from inkfold.errors import PredictionError
from toy import python

quick = settings(deadline=None, max_examples=40)
quicker = settings(quick, max_examples=20)  # of tests that every vote runs


def preds_of(shares):
    """The answers: the largest shares, the lowest class id among equals."""
    return shares.argmax(1)


def answers_as_votes(members):
    return hard_vote(members.argmax(2), members.shape[2])


every_vote = pytest.mark.parametrize("vote", [soft_vote, geometric_vote, rank_vote, answers_as_votes])


def from_quarters(quarters, classes):
    return np.eye(classes)[quarters].mean(-2)


def predictions(*axes):
    """Probabilities that are quarters: ties are frequent, and sums are exact in every order."""
    shapes = st.tuples(*[st.sampled_from(axis) for axis in axes], st.integers(2, 4))
    return shapes.flatmap(
        lambda shape: arrays(np.int64, (*shape[:-1], 4), elements=st.integers(0, shape[-1] - 1)).map(
            lambda quarters: from_quarters(quarters, shape[-1])
        )
    )


def with_tenths(members):
    """Add a weight for each member, in tenths, that aren't all 0."""
    return st.tuples(st.just(members), st.lists(st.integers(0, 4), min_size=len(members), max_size=len(members)).filter(any))


some_members = predictions(range(1, 5), range(1, 4))
weighted_members = some_members.flatmap(with_tenths)


def by_loops(members, weights, transform):
    """The weighted mean, over members, of each row's transform."""
    return [
        [
            sum(weight * transform(member[row])[k] for member, weight in zip(members, weights, strict=True)) / sum(weights)
            for k in range(len(members[0][row]))
        ]
        for row in range(len(members[0]))
    ]


def normalised(rows):
    return [[value / sum(row) for value in row] for row in rows]


def first_largest(row):
    return max(range(len(row)), key=lambda k: (row[k], -k))


def counted(answers, classes):
    return [sum(answer == k for answer in answers) for k in range(classes)]


def winner(counts, means=None):
    """The most votes, then the highest mean probability if that decides, then the lowest class id."""
    return max(range(len(counts)), key=lambda k: (counts[k], means[k] if means is not None else 0, -k))


@quick
@given(some_members)
def test_a_soft_vote_is_the_mean_of_loops(members):
    np.testing.assert_array_equal(soft_vote(members), by_loops(members.tolist(), [1] * len(members), list))


@quick
@given(weighted_members)
def test_a_weighted_soft_vote_is_the_weighted_mean_of_loops(case):
    members, tenths = case
    expected = by_loops(members.tolist(), tenths, list)
    np.testing.assert_allclose(soft_vote(members, np.array(tenths) / 10), expected, rtol=1e-12)


@quick
@given(some_members)
def test_a_geometric_vote_is_the_product_of_loops(members):
    powers = [np.maximum(member, 1e-7) ** (1 / len(members)) for member in members]
    products = [[math.prod(column) for column in zip(*rows, strict=True)] for rows in zip(*powers, strict=True)]
    np.testing.assert_allclose(geometric_vote(members), normalised(products), rtol=1e-9)


@quick
@given(some_members)
def test_a_rank_vote_is_the_mean_of_scipys_average_ranks(members):
    ranks = by_loops(members.tolist(), [1] * len(members), lambda row: rankdata(row, method="average") - 1)
    np.testing.assert_allclose(rank_vote(members), normalised(ranks), rtol=1e-12)


@quick
@given(some_members)
def test_a_hard_vote_counts_exactly_and_leaves_ties_to_the_lowest_class_id(members):
    classes = members.shape[2]
    preds = np.array([[first_largest(row) for row in member] for member in members.tolist()])
    shares, counts = hard_vote(preds, classes), [counted(column, classes) for column in preds.T]
    assert shares.argmax(1).tolist() == [winner(row) for row in counts]
    np.testing.assert_array_equal(shares, np.array(counts) / len(members))


@quick
@given(some_members)
def test_a_hard_vote_leaves_ties_to_the_highest_mean_probability_and_those_of_that_to_the_lowest_class_id(members):
    classes, preds, means = members.shape[2], members.argmax(2), soft_vote(members)
    counts = [counted(column, classes) for column in preds.T]
    shares = hard_vote(preds, classes, means)
    assert preds_of(shares).tolist() == [winner(*row) for row in zip(counts, means.tolist(), strict=True)]
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-12)
    for row, count in zip(shares, counts, strict=True):  # a class with more votes is before one with fewer, not only the first
        assert all(row[i] > row[j] for i in range(classes) for j in range(classes) if count[i] > count[j])


def test_mean_probabilities_overrule_no_vote_however_sure_they_are():
    preds = np.array([[0], [1], [1], [0], [1]])
    assert preds_of(hard_vote(preds, 3, np.array([[1.0, 0.0, 0.0]]))).tolist() == [1]
    assert preds_of(hard_vote(preds[:4], 3, np.array([[0.0, 0.0, 1.0]]))).tolist() == [0], "who has no vote can't win"


def test_means_that_differ_by_rounding_only_are_a_tie_too():
    assert 0.1 + 0.2 != 0.3
    for means in ([0.1 + 0.2, 0.3], [0.3, 0.1 + 0.2]):
        assert preds_of(hard_vote(np.array([[0], [1]]), 3, np.array([[*means, 0.4]]))).tolist() == [0]


def elected(voters, ballot, ties):
    """One drawing's vote in exact fractions; a tie that means decide moves half a vote."""
    means = [sum(column) / len(voters) for column in zip(*voters, strict=True)]
    if ballot == "soft":
        return means
    counts = counted([first_largest(voter) for voter in voters], len(means))
    if ties == "lowest_id":
        return [Fraction(count, len(voters)) for count in counts]
    return normalised([[count + mean / 2 for count, mean in zip(counts, means, strict=True)]])[0]


def in_fractions(members):
    """Models' folds, a drawing at a time: exact, for every quarter is."""
    of_drawings = np.vectorize(Fraction, otypes=[object])(members).transpose(2, 0, 1, 3)
    return [drawing.tolist() for drawing in of_drawings]


@pytest.mark.parametrize("across", ["soft", "hard"])
@pytest.mark.parametrize("within", ["soft", "hard"])
@quicker
@given(members=predictions(range(1, 4), range(1, 4), [1, 2]))
def test_a_nested_vote_is_that_of_loops_over_models_and_folds(within, across, members):
    shares = nested_vote(members, within, across, "lowest_id")
    expected = [
        elected([elected(folds, within, "lowest_id") for folds in models], across, "lowest_id")
        for models in in_fractions(members)
    ]
    np.testing.assert_allclose(shares, np.array(expected, np.float64), rtol=1e-12, atol=1e-15)
    if across == "hard":  # of soft votes' thirds, sums are rounded
        assert shares.argmax(1).tolist() == [first_largest(row) for row in expected]


@quick
@given(predictions([1, 2, 4], [1, 2, 4], [1, 2]))
def test_in_a_soft_hard_vote_the_models_mean_probability_decides_ties(members):
    preds = preds_of(nested_vote(members, "soft", "hard", "mean_probability")).tolist()
    for found, models in zip(preds, in_fractions(members), strict=True):
        voters = [elected(folds, "soft", "lowest_id") for folds in models]
        means = elected(voters, "soft", "lowest_id")
        assert found == winner(counted([first_largest(voter) for voter in voters], len(means)), means)


@quick
@given(predictions(range(1, 4), range(1, 4), [1, 2]))
def test_in_a_hard_hard_vote_mean_probabilities_decide_the_ties_of_folds_and_then_of_models(members):
    preds = preds_of(nested_vote(members, "hard", "hard", "mean_probability")).tolist()
    for found, models in zip(preds, in_fractions(members), strict=True):
        means = [elected(folds, "soft", "lowest_id") for folds in models]
        counts = [
            counted([first_largest(fold) for fold in folds], len(mean)) for folds, mean in zip(models, means, strict=True)
        ]
        voters = [winner(count, mean) for count, mean in zip(counts, means, strict=True)]
        votes = counted(voters, len(means[0]))
        assert votes[found] == max(votes)
        shares = elected([elected(folds, "hard", "mean_probability") for folds in models], "soft", "lowest_id")
        assert shares[found] >= max(share for share, vote in zip(shares, votes, strict=True) if vote == max(votes)) - 1e-12


def test_nested_votes_by_hand():
    # two models of three folds: the first is sure of class 0 once and leans to 1 twice, the second leans to 2
    first, second = [[1.0, 0.0, 0.0], [0.4, 0.6, 0.0], [0.4, 0.6, 0.0]], [[0.3, 0.0, 0.7], [0.3, 0.0, 0.7], [0.3, 0.7, 0.0]]
    members = np.array([first, second])[:, :, None]
    np.testing.assert_allclose(nested_vote(members, "soft", "soft", "lowest_id"), [[0.45, 1.9 / 6, 1.4 / 6]])
    np.testing.assert_allclose(nested_vote(members, "soft", "hard", "lowest_id"), [[0.5, 0.0, 0.5]])
    np.testing.assert_allclose(nested_vote(members, "hard", "hard", "lowest_id"), [[0.0, 0.5, 0.5]])
    np.testing.assert_allclose(nested_vote(members, "hard", "soft", "lowest_id"), [[1 / 6, 3 / 6, 2 / 6]])
    # soft-hard's tie between 0 and 2: 0 has the higher mean; hard-hard's between 1 and 2: 1 has
    assert preds_of(nested_vote(members, "soft", "hard", "mean_probability")).tolist() == [0]
    assert preds_of(nested_vote(members, "hard", "hard", "mean_probability")).tolist() == [1]
    assert preds_of(nested_vote(members[:, :, :, ::-1], "hard", "hard", "lowest_id")).tolist() == [0], "the lowest class id"
    assert preds_of(nested_vote(members[:, :, :, ::-1], "hard", "hard", "mean_probability")).tolist() == [1]


@every_vote
@quicker
@given(case=weighted_members)
def test_rows_stay_on_the_simplex(vote, case):
    members, tenths = case
    for shares in (vote(members), soft_vote(members, np.array(tenths) / 10)):
        assert shares.dtype == np.float64
        assert shares.shape == members.shape[1:]
        assert (shares >= 0).all()
        np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-12)


@pytest.mark.parametrize("ties", ["lowest_id", "mean_probability"])
@pytest.mark.parametrize("across", ["soft", "hard"])
@pytest.mark.parametrize("within", ["soft", "hard"])
def test_rows_of_nested_votes_stay_on_the_simplex(within, across, ties):
    members = np.random.default_rng(0).dirichlet(np.full(5, 0.3), (4, 3, 50))
    shares = nested_vote(members, within, across, ties)
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-12)


@every_vote
@quicker
@given(case=weighted_members, random=st.randoms())
def test_the_order_of_members_is_irrelevant(vote, case, random):
    members, weights = case[0], np.array(case[1]) / 10
    order = random.sample(range(len(members)), len(members))
    np.testing.assert_allclose(vote(members[order]), vote(members), rtol=1e-12)
    np.testing.assert_allclose(soft_vote(members[order], weights[order]), soft_vote(members, weights), rtol=1e-12)


@quick
@given(some_members, st.randoms())
def test_the_order_of_members_is_irrelevant_to_hard_votes_to_the_last_bit(members, random):
    order, classes, means = random.sample(range(len(members)), len(members)), members.shape[2], soft_vote(members)
    preds = members.argmax(2)
    for probs in (None, means):
        assert np.array_equal(hard_vote(preds[order], classes, probs), hard_vote(preds, classes, probs))


@every_vote
@quicker
@given(members=predictions([1], range(1, 4)))
def test_one_member_alone_answers_as_itself(vote, members):
    assert vote(members).argmax(1).tolist() == members[0].argmax(1).tolist()
    if vote in (soft_vote, geometric_vote):
        np.testing.assert_allclose(vote(members), members[0], atol=1e-6)  # of geometric votes, 0 is 1e-7


@every_vote
@quicker
@given(case=weighted_members)
def test_having_every_member_twice_changes_nothing(vote, case):
    members, weights = case[0], np.array(case[1]) / 10
    twice = np.concatenate([members, members])
    np.testing.assert_allclose(vote(twice), vote(members), rtol=1e-12)
    np.testing.assert_allclose(soft_vote(twice, np.concatenate([weights, weights])), soft_vote(members, weights), rtol=1e-12)


@quick
@given(some_members)
def test_having_every_member_twice_changes_no_answer_of_hard_votes_whose_ties_means_decide(members):
    once, classes, means = members.argmax(2), members.shape[2], soft_vote(members)
    twice = hard_vote(np.concatenate([once, once]), classes, means)
    assert np.array_equal(preds_of(twice), preds_of(hard_vote(once, classes, means)))


@quicker
@given(case=weighted_members)
def test_a_weight_of_zero_leaves_a_member_out(case):
    members, weights = case[0], np.array(case[1]) / 10
    without = soft_vote(members[weights > 0], weights[weights > 0])
    np.testing.assert_allclose(soft_vote(members, weights), without, rtol=1e-12)


def test_who_is_left_out_may_be_no_number_at_all():
    members = np.stack([np.full((2, 3), 1 / 3), np.full((2, 3), np.nan)])
    np.testing.assert_allclose(soft_vote(members, np.array([1.0, 0.0])), 1 / 3)


@quicker
@given(case=weighted_members, scale=st.sampled_from([1e-3, 0.7, 1000.0]))
def test_only_the_weights_ratios_matter(case, scale):
    members, weights = case[0], np.array(case[1]) / 10
    np.testing.assert_allclose(soft_vote(members, weights * scale), soft_vote(members, weights), rtol=1e-9)
    np.testing.assert_allclose(soft_vote(members, np.full(len(members), scale)), soft_vote(members), rtol=1e-9)


def test_a_veto_in_a_geometric_vote_is_heavy_and_not_absolute():
    members = np.array([[[0.0, 1.0]], [[0.9, 0.1]]])
    # by hand: the odds are sqrt(1e-7 * 0.9) to sqrt(1 * 0.1)
    odds = math.sqrt(1e-7 * 0.9) / math.sqrt(0.1)
    np.testing.assert_allclose(geometric_vote(members), [[odds / (1 + odds), 1 / (1 + odds)]])


def test_a_rank_vote_gives_confidence_no_say():
    unsure, sure = np.array([[[0.4, 0.35, 0.25]]]), np.array([[[0.98, 0.015, 0.005]]])
    others = np.array([[[0.1, 0.6, 0.3]]])
    assert np.array_equal(rank_vote(np.concatenate([unsure, others])), rank_vote(np.concatenate([sure, others])))
    # by hand: ranks 2 1 0 and 0 2 1 add up to 2 3 1 of 6
    np.testing.assert_allclose(rank_vote(np.concatenate([sure, others])), [[2 / 6, 3 / 6, 1 / 6]])


def test_weights_that_are_none_are_refused():
    for weights in ([-1.0, 2.0], [0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0], [1.0], [1.0, 1.0, 1.0], [], [[1.0, 1.0]]):
        with pytest.raises(
            PredictionError, match=r"^weights: got \[.*\], expected 2 numbers of at least 0 that are not all 0\."
        ):
            soft_vote(np.full((2, 3, 4), 0.25), np.array(weights))


def test_weights_of_any_size_are_weights():
    members = np.random.default_rng(0).dirichlet(np.ones(3), (2, 5))
    for unit in (5e-324, 1e-300, 1e15, 1e308):
        np.testing.assert_allclose(soft_vote(members, np.full(2, unit)), soft_vote(members), rtol=1e-12)


@every_vote
def test_a_vote_without_members_is_refused(vote):
    with pytest.raises(PredictionError, match=r"^members: got none, expected one at least\. Name"):
        vote(np.zeros((0, 2, 3)))
    with pytest.raises(PredictionError, match=r"^members: got none, expected one at least\. Name"):
        soft_vote(np.zeros((0, 2, 3)), np.empty(0))


def test_a_nested_vote_without_models_or_folds_is_refused():
    for within in ("soft", "hard"):
        for across in ("soft", "hard"):
            for shape in ((0, 2, 4, 3), (2, 0, 4, 3)):
                with pytest.raises(PredictionError, match=r"^members: got none"):
                    nested_vote(np.zeros(shape), within, across, "lowest_id")


@pytest.mark.parametrize("wrong", [-1, 3, 255])
def test_answers_that_are_no_classes_ids_are_refused(wrong):
    preds = np.array([[0, 2], [1, wrong]])
    with pytest.raises(PredictionError, match=rf"got class ids {min(0, wrong)} to {max(2, wrong)}, expected 0 to 2"):
        hard_vote(preds, 3)


@every_vote
def test_votes_of_short_and_of_mapped_numbers_are_those_of_the_same_numbers_in_double(vote, tmp_path):
    for dtype in (np.float16, np.float32, np.float64):
        members = np.random.default_rng(0).dirichlet(np.full(6, 0.4), (3, 40)).astype(dtype)
        np.save(tmp_path / "members.npy", members)
        mapped, weights = np.load(tmp_path / "members.npy", mmap_mode="r"), np.array([0.2, 0.5, 0.3])
        assert isinstance(mapped, np.memmap)
        for pool in (vote, lambda given: soft_vote(given, weights)):  # noqa: B023 - called within the loop
            expected = pool(members.astype(np.float64))
            for shares in (pool(members), pool(mapped)):
                assert type(shares) is np.ndarray
                assert shares.dtype == np.float64
                assert np.array_equal(shares, expected)
        assert np.array_equal(mapped, members)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_answers_may_be_integers_of_any_width(dtype):
    preds = np.array([[0, 2, 1], [0, 2, 2]], dtype)
    assert hard_vote(preds, 3).tolist() == [[1, 0, 0], [0, 0, 1], [0, 0.5, 0.5]]


@every_vote
def test_no_drawings_have_no_votes(vote):
    assert vote(np.zeros((2, 0, 3))).shape == (0, 3)


@every_vote
def test_the_only_class_has_every_share(vote):
    assert vote(np.ones((2, 3, 1))).tolist() == [[1.0]] * 3
    assert soft_vote(np.ones((2, 3, 1)), np.array([0.3, 0.4])).tolist() == [[1.0]] * 3
    assert hard_vote(np.zeros((2, 3), int), 1, np.ones((3, 1))).tolist() == [[1.0]] * 3


def test_the_logarithm_of_zero_is_that_of_a_ten_millionth():
    found = log_probs(np.array([[0.0, 1e-8, 1e-7, 0.5, 1.0]], np.float32))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [[math.log(1e-7)] * 3 + [math.log(0.5), 0.0]], rtol=1e-7)


def test_voting_needs_neither_torch_nor_scipy():
    code = "import sys, inkfold.ensemble.voting; print([name for name in ('torch', 'timm', 'scipy') if name in sys.modules])"
    assert python(code) == "[]"


@settings(deadline=None)
@given(st.integers(1, 7), st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_answers_alone_are_those_of_the_shares(members, n, classes, seed):
    preds = np.random.default_rng(seed).integers(0, classes, (members, n))
    np.testing.assert_array_equal(hard_preds(preds), hard_vote(preds, classes).argmax(1))


def test_answers_alone_need_members():
    with pytest.raises(PredictionError, match="member"):
        hard_preds(np.zeros((0, 3), np.int64))
