"""Views of drawings: the same for a seed, in range, mirrored only where that is allowed, as strong as the settings say."""

import pytest
import torch

from views import ViewSettings, make_views

QUIET = ViewSettings(
    degrees=0.0, small_share=0.0, elastic=0.0, thick_share=0.0, thin_share=0.0, paper_share=0.0, grain=0.0, erased_share=0.0
)


def pages(n: int = 16) -> torch.Tensor:
    """Draw a thick bar in the left half of each page."""
    paper = torch.full((n, 128, 128), 255, dtype=torch.uint8)
    paper[:, 20:108, 20:44] = 0
    return paper


def views(settings: ViewSettings, mirrored: bool = False, seed: int = 0, n: int = 16) -> torch.Tensor:
    """Make views with a seed."""
    return make_views(pages(n), torch.full((n,), mirrored), settings, torch.Generator().manual_seed(seed))


def test_a_seed_gives_the_same_views_and_another_seed_others() -> None:
    first, again, other = views(ViewSettings()), views(ViewSettings()), views(ViewSettings(), seed=1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_views_are_ink_between_0_and_1_at_the_networks_size() -> None:
    made = views(ViewSettings(), mirrored=True, n=64)
    assert made.shape == (64, 1, 64, 64)
    assert made.min() >= 0
    assert made.max() <= 1
    assert (made.flatten(1).amax(1) > 0.1).all(), "no view loses its drawing"


@pytest.mark.parametrize(("mirrored", "on_the_right"), [(False, False), (True, True)])
def test_only_what_may_be_mirrored_is_mirrored(mirrored: bool, on_the_right: bool) -> None:
    made = views(QUIET, mirrored, n=64)
    side = made[:, 0, :, 32:].sum((1, 2)) > made[:, 0, :, :32].sum((1, 2))
    assert bool(side.any()) == on_the_right
    assert not side.all()


def test_thick_lines_have_more_ink() -> None:
    plain = views(QUIET)
    thick = views(QUIET.model_copy(update={"thick_share": 1.0}))
    assert (thick.sum((1, 2, 3)) > plain.sum((1, 2, 3)) * 0.98).all()
    assert thick.sum() > 1.03 * plain.sum()


def test_grain_is_on_paper_views_alone() -> None:
    grained = views(QUIET.model_copy(update={"paper_share": 1.0, "grain": 0.3}))
    plain = views(QUIET)
    corner = grained[:, 0, :6, -6:]
    assert corner.std() > 0.02
    assert plain[:, 0, :6, -6:].std() < 0.12, "only a ruled page has ink there"
