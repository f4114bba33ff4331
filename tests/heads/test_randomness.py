import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inkfold.heads.randomness import StepRandomness

CPU = torch.device("cpu")
BATCH, WIDTH = 16, 400


def randomness(seed=0, epoch=0, step=0, batch=BATCH, used=None):
    return StepRandomness(seed, epoch, step, batch_size=batch, device=CPU, used_positions=used)


def column(*shares):
    return torch.tensor(shares)[:, None, None]


def dropped(draws, starts, shares, layer=1):
    """What is left of ones."""
    return draws.dropped(torch.ones(len(starts), BATCH, WIDTH), layer, starts, column(*shares))


def shares_of(draws, alphas, batch=BATCH):
    """What each head keeps of the minibatch's first drawing where it may see all of them."""
    return draws.mixture(alphas, torch.ones(len(alphas), batch)).shares[:, 0]


@given(st.integers(0, 2**32), st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_steps_draws_are_a_function_of_seed_epoch_and_step_alone(seed, epoch, step):
    first, again = randomness(seed, epoch, step), randomness(seed, epoch, step)
    mask = torch.ones(2, BATCH)
    mixture, left = first.mixture([0.4, 2.0], mask), dropped(first, [0, 3], [0.5, 0.1])
    others = [randomness(seed + 1, epoch, step), randomness(seed, epoch + 1, step), randomness(seed, epoch, step + 1)]
    for _ in range(2):  # the other way around, and twice
        assert torch.equal(dropped(again, [0, 3], [0.5, 0.1]), left)
        assert torch.equal(again.mixture([0.4, 2.0], mask).partners, mixture.partners)
        assert torch.equal(again.mixture([0.4, 2.0], mask).shares, mixture.shares)
    for other in others:
        assert not torch.equal(dropped(other, [0, 3], [0.5, 0.1]), left)
        assert not torch.equal(other.mixture([0.4, 2.0], mask).partners, mixture.partners)
        assert not torch.equal(other.mixture([0.4, 2.0], mask).shares, mixture.shares)


def test_seed_epoch_and_step_are_not_added_up():
    left = [dropped(randomness(*numbers), [0], [0.5]) for numbers in ((1, 2, 3), (1, 3, 2), (2, 1, 3), (6, 0, 0), (0, 0, 6))]
    assert len({one.numpy().tobytes() for one in left}) == 5


def test_drawing_leaves_the_global_generators_alone():
    before, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the legacy state is what is looked at
    shares_of(randomness(), [0.3])
    dropped(randomness(), [0], [0.3])
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpys)  # noqa: NPY002


def test_the_share_of_dropped_outputs_is_the_wanted_one_and_the_others_are_scaled_up():
    for share in [0.1, 0.5, 0.9]:
        left = dropped(randomness(), [0], [share])
        values, counts = left.unique(return_counts=True)
        assert values.tolist() == pytest.approx([0, 1 / (1 - share)])
        deviation = (share * (1 - share) / left.numel()) ** 0.5
        assert counts[0].item() / left.numel() == pytest.approx(share, abs=5 * deviation)


def test_dropping_multiplies_what_was_there():
    z = torch.randn(2, BATCH, WIDTH, generator=torch.Generator().manual_seed(0))
    left = randomness().dropped(z, 1, [0, 1], column(0.2, 0.5))
    np.testing.assert_allclose(left, z * dropped(randomness(), [0, 1], [0.2, 0.5]), rtol=1e-6)


def test_nothing_is_dropped_at_a_share_of_zero():
    z = torch.randn(2, BATCH, WIDTH, generator=torch.Generator().manual_seed(0))
    assert randomness().dropped(z, 1, [0, 1], None) is z
    left = randomness().dropped(z, 1, [0, 1], column(0.0, 0.5))
    assert torch.equal(left[0], z[0])
    assert not torch.equal(left[1], z[1])


def test_equal_starts_drop_alike_and_other_starts_and_layers_do_not():
    left = dropped(randomness(), [0, 1, 0, 2], [0.5] * 4)
    assert torch.equal(left[0], left[2])
    different = [left[0], left[1], left[3], dropped(randomness(), [0], [0.5], layer=2)[0]]
    for i, one in enumerate(different):
        for other in different[:i]:
            # independent halves agree in half of all outputs
            assert (one == other).float().mean().item() == pytest.approx(0.5, abs=0.04)


def test_a_smaller_share_drops_some_of_what_a_larger_one_drops():
    small, large = dropped(randomness(), [0, 0], [0.2, 0.6])
    assert (large[small == 0] == 0).all()


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.2, 0.7])), min_size=1, max_size=6), st.data())
def test_what_is_dropped_does_not_depend_on_the_heads_beside(heads, data):
    starts, shares = zip(*heads, strict=True)
    together = dropped(randomness(), starts, shares)
    some = data.draw(st.lists(st.integers(0, len(heads) - 1), min_size=1, unique=True))
    alone = dropped(randomness(), [starts[i] for i in some], [shares[i] for i in some])
    assert torch.equal(alone, together[some])


def test_without_an_alpha_nothing_is_mixed():
    assert randomness().mixture([0.0, 0.0], torch.ones(2, BATCH)) is None


def test_partners_are_all_drawings_of_the_minibatch_once():
    partners = randomness().mixture([0.3], torch.ones(1, BATCH)).partners
    assert sorted(partners.tolist()) == list(range(BATCH))
    assert partners.tolist() != list(range(BATCH))


def test_only_pairs_of_drawings_that_a_head_is_trained_on_are_mixed():
    mask = torch.from_numpy(np.random.default_rng(0).random((3, BATCH)) < 0.6).float()
    mixture = randomness().mixture([0.5, 0.0, 2.0], mask)
    expected = shares_of(randomness(), [0.5, 0.0, 2.0])
    for head in range(3):
        for i, j in enumerate(mixture.partners.tolist()):
            may = mask[head, i] and mask[head, j]
            assert mixture.shares[head, i] == (expected[head] if may else 1)
    assert expected[1] == 1


def test_heads_of_equal_alpha_mix_alike_whichever_heads_are_beside():
    shares = shares_of(randomness(), [0.5, 2.0, 0.5, 0.0, 1.0])
    assert shares[0] == shares[2]
    assert len(set(shares.tolist())) == 4
    assert shares_of(randomness(), [0.5]) == shares[0]
    assert shares_of(randomness(), [1.0, 0.0]).tolist() == shares[[4, 3]].tolist()


def test_shares_follow_the_beta_distribution():
    for alpha in [0.2, 1.0, 5.0]:
        # of mean 1/2 and variance 1 / (4 (2 alpha + 1)); their deviation over 2,000 steps is below 0.012
        drawn = np.array([shares_of(randomness(step=step, batch=2), [alpha], 2).item() for step in range(2000)])
        assert drawn.mean() == pytest.approx(0.5, abs=0.05)
        assert drawn.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.15)
        assert (drawn >= 0).all()
        assert (drawn <= 1).all()


@given(st.sets(st.integers(0, BATCH - 1), min_size=1), st.integers(0, 100))
def test_drawings_that_no_head_is_trained_on_leave_the_others_draws_unchanged(used, step):
    places = np.sort(np.fromiter(used, np.int64))
    fewer = randomness(step=step, used=places)
    left = fewer.dropped(torch.ones(2, len(places), WIDTH), 1, [0, 1], column(0.3, 0.6))
    assert torch.equal(left, dropped(randomness(step=step), [0, 1], [0.3, 0.6])[:, places])
    mask = torch.zeros(1, BATCH)
    mask[:, places] = 1
    every, some = randomness(step=step).mixture([0.7], mask), fewer.mixture([0.7], mask[:, places])
    assert torch.equal(some.shares, every.shares[:, places])
    for i, place in enumerate(places):
        if every.shares[0, place] < 1:
            assert places[some.partners[i]] == every.partners[place]
