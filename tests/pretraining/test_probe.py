"""The probe measures what features are worth: all where they tell classes apart, chance where they don't."""

import numpy as np
import pytest
from probe import KINDS, accuracies, spoilt


def test_features_that_tell_classes_apart_are_worth_all_and_noise_is_worth_chance() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 15)
    apart = np.eye(4, 8, dtype=np.float32)[labels] + 0.05 * rng.normal(size=(60, 8)).astype(np.float32)
    noise = rng.normal(size=(60, 8)).astype(np.float32)
    right = accuracies(apart, {"plain": apart, "noise": noise}, labels)
    assert right["plain"] == 1
    assert right["noise"] < 0.55


@pytest.mark.parametrize("kind", KINDS)
def test_a_spoilt_page_has_the_same_size_and_still_its_drawing(kind: str) -> None:
    page = np.full((90, 90), 255, np.uint8)
    page[20:70, 30:60] = 0
    made = spoilt(page, kind, np.random.default_rng(0))
    assert made.shape == page.shape
    assert made.dtype == np.uint8
    assert made.min() < 120 < made.max()
    assert np.array_equal(made, page) == (kind == "plain")
