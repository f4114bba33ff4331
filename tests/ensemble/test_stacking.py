import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime, minimize
from scipy.special import log_softmax

from inkfold.ensemble.stacking import (
    CHUNK_ROWS,
    _stack_curvature,
    _stack_loss,
    all_tempered,
    fit_stack,
    fit_temperature,
    fit_weights,
    select_greedily,
    stacked,
    tempered,
)
from inkfold.ensemble.voting import geometric_vote, soft_vote
from inkfold.errors import PredictionError
from inkfold.evaluation.predictions import softmax
from toy import python

quick = settings(deadline=None, max_examples=40)
CLASSES = 4


def drawn_from(probs, generator):
    """Targets of which the probabilities are the truth."""
    return (probs.cumsum(1) < generator.random((len(probs), 1))).sum(1)


def panel(skills, n=300, seed=0, sharpness=1.0, classes=CLASSES):
    """Members whose scores are noise and, by their skill, the truth."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes, n)
    scores = [skill * np.eye(classes)[targets] + generator.normal(0, 1, (n, classes)) for skill in skills]
    return np.stack([softmax(sharpness * one) for one in scores]), targets


def nll(probs, targets):
    return -np.log(probs[np.arange(len(targets)), targets]).mean()


def mapped(members, tmp_path):
    np.save(tmp_path / "members.npy", members)
    found = np.load(tmp_path / "members.npy", mmap_mode="r")
    assert isinstance(found, np.memmap)
    return found


def test_the_temperature_is_that_of_a_fine_grid():
    for sharpness in (0.3, 1.0, 4.0):
        for seed in range(4):
            [probs], targets = panel([1.5], 100, seed, sharpness)
            grid = np.geomspace(0.05, 20, 3000)
            powers = np.maximum(probs, 1e-7) ** (1 / grid[:, None, None])
            losses = [nll(one / one.sum(1, keepdims=True), targets) for one in powers]
            found = fit_temperature(probs, targets)
            assert found == pytest.approx(grid[np.argmin(losses)], rel=0.003)
            assert nll(tempered(probs, found), targets) <= min(losses) + 1e-9


@pytest.mark.parametrize("temperature", [0.4, 0.7, 1.0, 2.0])
def test_a_known_temperature_is_found_again(temperature):
    generator = np.random.default_rng(0)
    truth = 0.05 + 0.8 * generator.dirichlet(np.full(CLASSES, 0.5), 5000)  # of four classes, sums to 1
    targets = drawn_from(truth, generator)
    powers = truth**temperature
    assert fit_temperature(powers / powers.sum(1, keepdims=True), targets) == pytest.approx(temperature, rel=0.04)


def test_temperatures_multiply():
    [probs], targets = panel([1.5])
    once = fit_temperature(probs, targets)
    assert fit_temperature(tempered(probs, 2.0), targets) == pytest.approx(once / 2, rel=1e-3)
    assert fit_temperature(tempered(probs, once), targets) == pytest.approx(1, rel=1e-3)


def test_the_temperature_stays_in_its_range():
    probs = np.array([[0.6, 0.4], [0.4, 0.6]])
    assert fit_temperature(probs, np.array([0, 1])) == pytest.approx(0.05, rel=0.01), "always right: as sure as may be"
    assert fit_temperature(probs, np.array([1, 0])) == pytest.approx(20, rel=0.01), "always wrong: as unsure as may be"
    assert 0.05 <= fit_temperature(np.full((2, 2), 0.5), np.array([0, 1])) <= 20, "no temperature makes a difference"
    assert math.isfinite(fit_temperature(np.eye(2), np.array([1, 0])))


rows = st.lists(
    st.lists(st.integers(0, 20), min_size=3, max_size=3).filter(any).map(lambda row: [value / sum(row) for value in row]),
    min_size=1,
    max_size=3,
).map(np.array)


@quick
@given(rows, st.floats(0.05, 20))
def test_tempered_rows_sum_to_one_and_keep_the_order_of_classes(probs, temperature):
    found = tempered(probs, temperature)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-12)
    assert (found >= 0).all()
    above = probs[:, :, None] >= probs[:, None, :]
    assert (found[:, :, None] >= found[:, None, :])[above].all()
    if temperature >= 1:  # below, the small ones may vanish beside the large
        assert np.array_equal(found.argmax(1), probs.argmax(1))


@quick
@given(rows, st.floats(0.5, 4))
def test_tempering_takes_roots_and_undoes_itself(probs, temperature):
    found = tempered(probs, temperature)
    powers = np.maximum(probs, 1e-7) ** (1 / temperature)
    np.testing.assert_allclose(found, powers / powers.sum(1, keepdims=True), rtol=1e-9)
    np.testing.assert_allclose(tempered(probs, 1.0), probs, atol=3e-7)  # 0 is 1e-7
    if temperature >= 1:
        np.testing.assert_allclose(tempered(found, 1 / temperature), probs, atol=3e-7)


def climbed(likelihoods, steps):
    """The weights and mean log-likelihoods of expectation-maximisation's steps, by loops over drawings."""
    weights, heights = [1 / len(likelihoods)] * len(likelihoods), []
    for _ in range(steps):
        shares = [0.0] * len(weights)
        logs = []
        for column in zip(*likelihoods, strict=True):
            mixture = sum(w * p for w, p in zip(weights, column, strict=True))
            logs.append(math.log(mixture))
            for i, p in enumerate(column):
                shares[i] += weights[i] * p / mixture
        heights.append(math.fsum(logs) / len(logs))
        weights = [share / len(logs) for share in shares]
        if len(heights) > 1 and heights[-1] - heights[-2] < 1e-9:
            break
    return weights, heights


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_those_of_steps_that_never_lower_the_likelihood(seed):
    members, targets = panel([1.0, 1.0, 0.5, 0.0], 40, seed)
    weights, heights = climbed(members[:, np.arange(40), targets].tolist(), 500)
    assert all(after >= before - 1e-12 for before, after in pairwise(heights))
    np.testing.assert_allclose(fit_weights(members, targets), weights, atol=1e-9)


def test_the_weight_of_one_of_two_members_is_that_of_a_fine_grid():
    for seed in range(5):
        members, targets = panel([1.0, 0.8], 200, seed)
        grid = np.linspace(0, 1, 2001)
        first, second = members[:, np.arange(200), targets]
        losses = -np.log(np.outer(grid, first) + np.outer(1 - grid, second)).mean(1)
        weights = fit_weights(members, targets)
        assert weights[0] == pytest.approx(grid[losses.argmin()], abs=0.005)
        assert nll(soft_vote(members, weights), targets) == pytest.approx(losses.min(), abs=2e-7)


def test_three_members_weights_are_as_likely_as_those_of_scipys_slsqp():
    for seed in range(5):
        members, targets = panel([1.2, 1.0, 0.9], 200, seed)
        likelihoods = members[:, np.arange(200), targets]
        found = minimize(
            lambda weights, likelihoods=likelihoods: -np.log(weights @ likelihoods).mean(),
            np.full(3, 1 / 3),
            method="SLSQP",
            bounds=[(0, 1)] * 3,
            constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
            options={"ftol": 1e-12},
        )
        weights = fit_weights(members, targets)
        assert weights.sum() == pytest.approx(1)
        assert (weights >= 0).all()
        assert nll(soft_vote(members, weights), targets) == pytest.approx(found.fun, abs=1e-6)
        np.testing.assert_allclose(weights, found.x, atol=0.01)


def test_useless_members_weigh_next_to_nothing():
    members, targets = panel([2.5, 0.0, 2.5, 0.0], 500)
    weights = fit_weights(members, targets)
    assert weights[[1, 3]].max() < 1e-3
    assert weights[[0, 2]].min() > 0.2
    assert weights.sum() == pytest.approx(1)


def test_a_member_that_is_always_sure_and_right_weighs_everything():
    members, targets = panel([1.0, 0.5])
    members[1] = np.eye(CLASSES)[targets]
    assert fit_weights(members, targets) == pytest.approx([0, 1], abs=1e-6)


def test_members_that_are_always_sure_and_wrong_are_finite():
    targets = np.arange(CLASSES)
    wrong = np.eye(CLASSES)[(targets + 1) % CLASSES]
    assert fit_weights(np.stack([wrong, wrong]), targets).tolist() == [0.5, 0.5]
    assert fit_weights(np.stack([wrong, np.full((CLASSES, CLASSES), 1 / CLASSES)]), targets) == pytest.approx([0, 1], abs=1e-5)


def test_twins_share_one_weight():
    members, targets = panel([1.2, 1.0], 200)
    first, second = fit_weights(members, targets)
    assert fit_weights(members[[0, 1, 1]], targets)[0] == pytest.approx(first, abs=0.01)
    twins = fit_weights(members[[0, 1, 1]], targets)[1:]
    assert twins[0] == twins[1]
    assert twins.sum() == pytest.approx(second, abs=0.01)


def hill_climbed(members, targets, rounds=50):
    """Caruana's forward selection with replacement, by loops; the first of equal members, the smallest of equal sets.

    Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble Selection from Libraries of Models", ICML 2004, sections 2 and 2.2: all
    rounds are run, and the set on the way that does best is returned.
    """

    def score(rows, count):
        return math.fsum(math.log(max(row[target] / count, 1e-7)) for row, target in zip(rows, targets, strict=True))

    def added(rows, member):
        return [[a + b for a, b in zip(row, other, strict=True)] for row, other in zip(rows, member, strict=True)]

    sums, taken, heights = [[0.0] * len(members[0][0]) for _ in targets], [], []
    for count in range(1, rounds + 1):
        scores = [score(added(sums, member), count) for member in members]
        heights.append(max(scores))
        taken.append(scores.index(heights[-1]))
        sums = added(sums, members[taken[-1]])
    best = taken[: heights.index(max(heights)) + 1]
    return [best.count(i) / len(best) for i in range(len(members))]


@settings(quick, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_one_bag_is_caruanas_algorithm_by_loops(seed):
    for rounds in (1, 3, 30):
        generator = np.random.default_rng(seed)
        count = generator.integers(1, 6)
        members, targets = panel(generator.uniform(0, 1.5, count), 12, generator, classes=3)
        found = select_greedily(members, targets, rounds=rounds, bags=1)
        assert found.tolist() == pytest.approx(hill_climbed(members.tolist(), targets.tolist(), rounds), abs=1e-12)


def test_a_perfect_member_is_chosen_alone():
    members, targets = panel([1.0, 1.0, 2.0, 0.5])
    members[1] = np.eye(CLASSES)[targets]
    assert select_greedily(members, targets, bags=1).tolist() == [0, 1, 0, 0]


def test_a_greedy_selection_is_a_function_of_its_seed():
    members, targets = panel([1.0, 1.2, 0.8, 1.1, 0.9, 1.0] * 2)
    weights = [select_greedily(members, targets, bags=5, seed=seed) for seed in (0, 0, 1)]
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])
    for one in weights:
        assert (one >= 0).all()
        assert one.sum() == pytest.approx(1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mapped_members_are_selected_alike(dtype, tmp_path):
    members, targets = panel([1.0, 1.2, 0.8, 1.1] * 3)
    members = members.astype(dtype)
    from_disk = mapped(members, tmp_path)
    for bags in (1, 3):
        expected = select_greedily(members, targets, bags=bags)
        assert np.array_equal(select_greedily(from_disk, targets, bags=bags), expected)
    assert np.array_equal(fit_weights(from_disk, targets), fit_weights(members, targets))


def test_bags_are_weighed_alike_and_drawn_from_ten_members_on():
    members, targets = panel([2.0, 1.0, 0.8, 1.1, 0.0, 0.5, 0.0, 0.3, 1.5, 1.2], 100)
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([7, 5])))
    expected = np.zeros(10)
    for _ in range(3):
        bag = np.sort(generator.choice(10, 5, replace=False))
        alone = select_greedily(members[bag], targets)  # five are one bag
        assert alone.sum() == pytest.approx(1)
        expected[bag] += alone / 3
    np.testing.assert_allclose(select_greedily(members, targets, bags=3, seed=7), expected, rtol=1e-12)


def test_few_members_are_one_bag_whatever_the_seed():
    members, targets = panel([1.0, 1.2, 0.8, 1.1, 1.0, 0.9, 1.0, 1.1, 1.2])
    once = select_greedily(members, targets, bags=1)
    for seed in range(3):
        assert np.array_equal(select_greedily(members, targets, seed=seed), once)


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"bags": 0}])
def test_a_greedy_selection_without_rounds_or_bags_is_refused(wrong):
    members, targets = panel([1.0, 1.2])
    with pytest.raises(PredictionError, match=r"^greedy selection: got .* expected 1 of each at least"):
        select_greedily(members, targets, **wrong)


def test_a_bag_of_everybody_is_no_bag():
    members, targets = panel([1.0, 1.2, 0.8, 1.1] * 3)
    whole = select_greedily(members, targets, bags=3, bag_fraction=1.0)
    np.testing.assert_allclose(whole, select_greedily(members, targets, bags=1), rtol=1e-12)


def test_a_bag_of_one_member_takes_it():
    members, targets = panel([3.0, *[0.0] * 9])
    weights = select_greedily(members, targets, bags=80, bag_fraction=0.01)
    assert (weights > 0).all(), "who comes at random does so regardless of merit"
    np.testing.assert_allclose(weights * 80, np.round(weights * 80), atol=1e-9)
    with_the_best = select_greedily(members, targets, bags=40, bag_fraction=0.6)
    assert with_the_best[0] > weights[0]


@pytest.mark.parametrize("others", [4, 11])
def test_a_greedy_selection_is_no_less_likely_than_the_soft_vote_where_one_member_knows(others):
    members, targets = panel([4.0, *[0.0] * others])
    weights = select_greedily(members, targets)
    assert weights.argmax() == 0
    assert nll(soft_vote(members, weights), targets) < nll(soft_vote(members), targets)


def test_of_two_members_a_greedy_selection_takes_the_one_that_knows():
    members, targets = panel([4.0, 0.0])
    assert select_greedily(members, targets)[0] > 0.9


def test_a_greedy_selection_finds_a_member_that_helps_with_a_small_share():
    # the first is mostly right; the second only where the first isn't
    members = np.array([[[0.9, 0.1]] * 8 + [[0.2, 0.8]] * 2, [[0.3, 0.7]] * 8 + [[0.95, 0.05]] * 2])
    targets = np.zeros(10, np.int64)
    best, found = fit_weights(members, targets), select_greedily(members, targets, bags=1)
    assert best[1] == pytest.approx(0.087, abs=0.001)
    assert found[1] == pytest.approx(best[1], abs=0.02)


def test_a_greedy_selection_of_few_members_is_nearly_as_likely_as_the_best_weights():
    for seed in range(5):
        members, targets = panel([1.2, 1.0, 0.8, 0.5], 300, seed)
        best, found = fit_weights(members, targets), select_greedily(members, targets)
        assert nll(soft_vote(members, found), targets) == pytest.approx(nll(soft_vote(members, best), targets), abs=5e-4)


def test_fitting_needs_members_and_drawings_whose_class_is_known():
    for members, n in ((0, 4), (2, 0), (2, 3)):
        for fit in (fit_weights, select_greedily, fit_stack):
            with pytest.raises(
                PredictionError, match=rf"^vote: got {members} members, 4 drawings and {n} true classes, expected"
            ):
                fit(np.full((members, 4, 2), 0.5), np.zeros(n, np.int64))
            with pytest.raises(PredictionError, match=r"^vote: got 1 members, 0 drawings"):
                fit_temperature(np.empty((0, 2)), np.zeros(0, np.int64))


def test_one_class_alone_can_be_fitted():
    members, targets = np.ones((3, 5, 1)), np.zeros(5, np.int64)
    assert fit_weights(members, targets) == pytest.approx(np.full(3, 1 / 3))
    assert select_greedily(members, targets).tolist() == [1, 0, 0], "the first of equals"
    weights, bias = fit_stack(members, targets)
    assert np.isfinite([*weights, *bias]).all()
    assert stacked(members, weights, bias).tolist() == [[1.0]] * 5
    assert 0.05 <= fit_temperature(members[0], targets) <= 20


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_drawing_that_no_member_gives_any_chance_changes_no_weight(dtype):
    members, targets = panel([1.5, 1.0, 0.3], 50)
    lost = np.zeros((3, 1, CLASSES))
    lost[:, :, 1] = 1
    members = members.astype(dtype)
    more, with_lost = np.concatenate([members, lost.astype(dtype)], 1), np.append(targets, 0)
    with np.errstate(all="raise"):
        # one of 51 pulls by that much towards where it was
        np.testing.assert_allclose(fit_weights(more, with_lost), fit_weights(members, targets), atol=0.03)
        greedy = select_greedily(more, with_lost)
        weights, bias = fit_stack(more, with_lost)
    np.testing.assert_array_equal(greedy, select_greedily(members, targets))
    assert np.isfinite([*weights, *bias]).all()


def test_all_members_are_tempered_in_single_precision(tmp_path):
    members, _ = panel([1.5, 0.5], 2 * CHUNK_ROWS + 3)
    temperatures = np.array([0.5, 2.0])
    found = all_tempered(mapped(members.astype(np.float32), tmp_path), temperatures)
    assert found.dtype == np.float32
    expected = [tempered(one, t) for one, t in zip(members, temperatures, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_single_member_has_all_the_weight():
    members, targets = panel([1.0])
    assert fit_weights(members, targets).tolist() == pytest.approx([1])
    assert select_greedily(members, targets).tolist() == [1]


def penalised(members, targets, l2):
    """The stack's loss, with scipy's softmax: the summed NLL and the pull towards equal weights and no bias, a drawing."""
    logs = np.log(np.maximum(members, 1e-7))
    equal = 1 / len(members)

    def loss(parameters):
        weights, bias = parameters[: len(members)], parameters[len(members) :]
        total = l2 / 2 * (sum((w - equal) ** 2 for w in weights) + sum(b**2 for b in bias))
        scores = sum(w * one for w, one in zip(weights, logs, strict=True)) + bias
        return (total - log_softmax(scores, axis=1)[np.arange(len(targets)), targets].sum()) / len(targets)

    return loss


def test_the_stack_is_the_optimum_that_scipy_finds_without_its_gradient():
    for seed in range(3):
        for l2 in (0.1, 1.0, 50.0):
            members, targets = panel([1.5, 0.7, 0.0], 80, seed, 2.0)
            loss = penalised(members, targets, l2)
            expected = minimize(loss, np.concatenate([np.full(3, 1 / 3), np.zeros(CLASSES)]), method="BFGS")
            found = np.concatenate(fit_stack(members, targets, l2))
            assert loss(found) <= expected.fun + 1e-7
            np.testing.assert_allclose(found, expected.x, atol=5e-3)
            assert np.abs(approx_fprime(found, loss, 1e-6)).max() < 1e-4, "flat in every direction"


def test_the_stack_follows_its_own_gradient():
    members, targets = panel([1.5, 0.7, 0.0], 60, 1, 2.0)
    loss, generator = penalised(members, targets, 3.0), np.random.default_rng(0)
    for _ in range(5):
        parameters = generator.normal(0, 1, 3 + CLASSES)
        value, slopes = _stack_loss(parameters, members, targets, 3.0)
        assert value == pytest.approx(loss(parameters))
        np.testing.assert_allclose(slopes, approx_fprime(parameters, loss, 1e-7), atol=1e-5)


def test_the_stack_scales_its_steps_by_the_curvature_at_the_start():
    members, targets = panel([1.5, 0.7, 0.0], 60, 1, 2.0)
    start = np.concatenate([np.full(3, 1 / 3), np.zeros(CLASSES)])
    loss = penalised(members, targets, 3.0)
    exact = np.array(
        [(approx_fprime(start + 1e-4 * d, loss, 1e-6) - approx_fprime(start, loss, 1e-6)) / 1e-4 for d in np.eye(7)]
    )
    root, spread = _stack_curvature(members, 3.0)
    np.testing.assert_allclose(root @ root.T, exact[:3, :3], atol=2e-2, rtol=2e-2)
    np.testing.assert_allclose(spread**2, np.diag(exact)[3:], atol=2e-2, rtol=2e-2)


def test_without_a_pull_equal_members_and_a_class_that_nobody_expects_end_in_finite_numbers():
    [probs], targets = panel([1.5], 60)
    probs = np.concatenate([probs, np.zeros((60, 1))], 1)
    weights, bias = fit_stack(np.stack([probs, probs]), targets, 0.0)
    assert np.isfinite(weights).all()
    assert np.isfinite(bias).all()
    assert nll(stacked(np.stack([probs, probs]), weights, bias), targets) < nll(probs, targets)


def test_a_strong_pull_leaves_equal_weights_and_no_bias():
    members, targets = panel([2.0, 0.0])
    weights, bias = fit_stack(members, targets, 1e8)
    np.testing.assert_allclose(weights, 0.5, atol=1e-4)
    np.testing.assert_allclose(bias, 0, atol=1e-4)
    np.testing.assert_allclose(stacked(members, weights, bias), geometric_vote(members), atol=1e-4)


def halves(members, targets):
    return (members[:, ::2], targets[::2]), (members[:, 1::2], targets[1::2])


def test_where_a_member_is_worthless_the_stack_beats_the_soft_vote_on_new_drawings():
    seen, (members, targets) = halves(*panel([2.5, 0.0], 1000))
    weights, bias = fit_stack(*seen)
    assert abs(weights[1]) < 0.3 * weights[0]
    assert nll(stacked(members, weights, bias), targets) < nll(soft_vote(members), targets) - 0.05


def test_where_members_are_too_sure_the_stack_beats_the_soft_vote_on_new_drawings():
    seen, (members, targets) = halves(*panel([1.0, 1.0], 1000, sharpness=5.0))
    weights, bias = fit_stack(*seen)
    assert weights.sum() < 0.7
    assert nll(stacked(members, weights, bias), targets) < nll(soft_vote(members), targets) - 0.05


def test_the_bias_makes_up_for_a_class_that_members_underrate():
    [probs], targets = panel([1.5], 1000)
    biased = probs * [0.2, 1.0, 1.0, 1.0]
    members = (biased / biased.sum(1, keepdims=True))[None]
    weights, bias = fit_stack(members, targets)
    assert bias[0] - bias[1:].max() > 0.5
    assert nll(stacked(members, weights, bias), targets) < nll(members[0], targets) - 0.05


def test_a_stack_by_hand():
    members = np.array([[[0.2, 0.8]], [[0.5, 0.5]]])
    # odds of the second class: (0.8 / 0.2) ** 0.5 * (0.5 / 0.5) ** 2 * 3
    np.testing.assert_allclose(stacked(members, np.array([0.5, 2.0]), np.log([1.0, 3.0])), [[1 / 7, 6 / 7]])
    np.testing.assert_allclose(stacked(members, np.array([1.0, 0.0]), None), members[0])


def test_stacks_of_more_drawings_than_are_held_at_once_are_stacks_of_all():
    members, targets = panel([1.5, 0.7], 3 * CHUNK_ROWS + 1, 0, 2.0)
    weights, bias = fit_stack(members, targets)
    one_by_one = [stacked(members[:, i : i + 1], weights, bias)[0] for i in range(len(targets))]
    np.testing.assert_allclose(stacked(members, weights, bias), one_by_one, rtol=1e-9)
    loss = penalised(members, targets, 1.0)
    assert np.abs(approx_fprime(np.concatenate([weights, bias]), loss, 1e-6)).max() < 1e-4
    assert stacked(members[:, :0], weights, bias).shape == (0, CLASSES)


def test_short_numbers_are_fitted_as_the_same_numbers_in_double(tmp_path):
    members, targets = panel([1.5, 0.5])
    short = members.astype(np.float32)
    for one, other in zip(fit_stack(mapped(short, tmp_path), targets), fit_stack(short.astype(float), targets), strict=True):
        np.testing.assert_array_equal(one, other)
    assert fit_temperature(short[0], targets) == fit_temperature(short[0].astype(float), targets)
    assert np.array_equal(fit_weights(short, targets), fit_weights(short.astype(float), targets))
    assert tempered(short[0], 2.0).dtype == np.float64


def test_blending_needs_no_torch_and_loads_scipy_when_it_fits():
    code = (
        "import sys, numpy as np\nfrom inkfold.ensemble.stacking import fit_stack, fit_temperature\n"
        "before = 'scipy' in sys.modules\nmembers = np.full((2, 4, 2), 0.5)\n"
        "fit_stack(members, np.array([0, 1, 0, 1]))\nfit_temperature(members[0], np.array([0, 1, 0, 1]))\n"
        "print(before, [name for name in ('torch', 'timm') if name in sys.modules])"
    )
    assert python(code) == "False []"
