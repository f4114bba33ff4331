import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inkfold.config.sections import FinetuneSettings
from inkfold.heads.settings import cool_down_factor, cool_down_start, lr_factor
from toy_heads import settings_of

SCHEDULES = ["step", "cosine", "one_cycle", "constant"]


def factors(schedule, epochs, steps, **numbers):
    one = settings_of(epochs=epochs, schedule=schedule, **numbers)
    return [lr_factor(one, step, steps) for step in range(epochs * steps)]


def torch_factors(build, epochs, steps, *, by_epoch=False, **options):
    """The rates that a PyTorch schedule gives an optimiser whose rate is 1."""
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule, rates = build(optimiser, **options), []
    for step in range(epochs * steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if (step + 1) % steps == 0 or not by_epoch:
            schedule.step()
    return rates


def test_schedules_by_hand():
    assert factors("step", 5, 1, every=2, gamma=0.5) == [1, 1, 0.5, 0.5, 0.25]
    assert factors("cosine", 1, 4) == pytest.approx([1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])
    assert factors("constant", 3, 2) == [1] * 6
    # 10 steps: up from 1/25 until step 2, half way in between at step 1, then down
    one_cycle = factors("one_cycle", 5, 2)
    assert one_cycle[:3] == pytest.approx([0.04, 0.52, 1])
    assert one_cycle[-1] == pytest.approx(1 / 250_000)


def test_schedules_are_pytorchs():
    schedules = torch.optim.lr_scheduler
    for epochs, steps in [(1, 1), (1, 2), (1, 3), (2, 2), (1, 5), (7, 3), (10, 1), (20, 1), (3, 40)]:
        total = epochs * steps
        for every, gamma in [(1, 0.9), (2, 0.3), (5, 0.1), (100, 0.5)]:
            expected = torch_factors(schedules.StepLR, epochs, steps, by_epoch=True, step_size=every, gamma=gamma)
            assert factors("step", epochs, steps, every=every, gamma=gamma) == pytest.approx(expected, rel=1e-9)
        expected = torch_factors(schedules.CosineAnnealingLR, epochs, steps, T_max=total)
        assert factors("cosine", epochs, steps) == pytest.approx(expected, abs=1e-9)
        if total > 1:
            expected = torch_factors(schedules.OneCycleLR, epochs, steps, max_lr=1.0, total_steps=total, cycle_momentum=False)
            assert factors("one_cycle", epochs, steps) == pytest.approx(expected, abs=1e-9)


def test_a_fit_of_one_step_has_a_rate_in_every_schedule():
    for schedule in SCHEDULES:
        [factor] = factors(schedule, 1, 1)
        assert 0 < factor <= 1


def test_warming_up_multiplies_the_schedule_by_a_line_from_zero():
    for schedule in SCHEDULES:
        plain = factors(schedule, 6, 4, every=2, gamma=0.5)
        # two epochs of 4 steps: an eighth more with each step, and all of it from the 8th on
        warmed = factors(schedule, 6, 4, every=2, gamma=0.5, warmup_epochs=2)
        line = [1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8, *[1] * 17]
        assert warmed == pytest.approx([factor * rise for factor, rise in zip(plain, line, strict=True)])


def test_warming_up_may_end_within_an_epoch_or_after_the_fit():
    assert factors("constant", 1, 4, warmup_epochs=0.5) == [0.5, 1, 1, 1]
    assert factors("constant", 1, 4, warmup_epochs=0.625) == pytest.approx([0.4, 0.8, 1, 1])
    assert factors("constant", 2, 2, warmup_epochs=4) == [1 / 8, 2 / 8, 3 / 8, 4 / 8]
    assert factors("constant", 2, 2, warmup_epochs=0.1) == [1] * 4


def test_warming_up_is_pytorchs_linear_lr_chained_with_the_schedule():
    expected = torch_factors(
        lambda optimiser: torch.optim.lr_scheduler.ChainedScheduler(
            [
                torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 30),
                torch.optim.lr_scheduler.LinearLR(optimiser, 1 / 12, total_iters=11),
            ],
            optimiser,
        ),
        5,
        6,
    )
    assert factors("cosine", 5, 6, warmup_epochs=2) == pytest.approx(expected, abs=1e-9)


@given(
    st.sampled_from(SCHEDULES),
    st.integers(1, 30),
    st.integers(1, 30),
    st.floats(0, 40),
    st.integers(1, 12),
    st.floats(0.01, 1),
)
def test_factors_are_shares_whatever_the_settings(schedule, epochs, steps, warmup, every, gamma):
    given_factors = factors(schedule, epochs, steps, warmup_epochs=warmup, every=every, gamma=gamma)
    assert all(0 <= factor <= 1 for factor in given_factors)
    assert given_factors[0] > 0


def cool_down(epochs, stop_epoch, steps):
    settings = FinetuneSettings(epochs=epochs, stop_epoch=stop_epoch)
    return [cool_down_factor(settings, step, steps) for step in range(settings.trained_epochs * steps)]


def test_a_training_that_stops_early_cools_down_over_its_last_fifth_or_its_last_epoch():
    assert cool_down(20, 10, 2) == [*[1.0] * 17, 0.75, 0.5, 0.25]  # 4 of 20 steps, of which the first has the full rate
    assert cool_down(20, 2, 3) == [1, 1, 1, 1, pytest.approx(2 / 3), pytest.approx(1 / 3)]
    assert cool_down(20, 1, 2) == [1, 0.5]


def test_a_training_that_ends_with_its_schedule_does_not_cool_down():
    for stop_epoch in (None, 4):
        assert cool_down(4, stop_epoch, 3) == [1.0] * 12
        assert cool_down_start(FinetuneSettings(epochs=4, stop_epoch=stop_epoch), 3) is None
