import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inkfold.augment import geometric as warp_module
from inkfold.augment.geometric import (
    Elastic,
    Motion,
    Projective,
    affine,
    elastic_deviation,
    flip,
    grid,
    perspective,
    rotate,
    warp,
)
from inkfold.augment.rng import Draws
from inkfold.augment.views import parse_view, render

WHITE = np.uint8(255)
SIDE_PX = 128

fractions = st.floats(-0.2, 0.2)
weights = st.integers(1, 5).flatmap(lambda n: st.lists(st.floats(0.7, 1.3), min_size=n, max_size=n))
chains = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["hflip", "vflip"])),
        st.tuples(st.just("rotate"), st.floats(-180, 180)),
        st.tuples(st.just("scale"), st.floats(0.7, 1.5)),
        st.tuples(st.just("shear"), st.floats(-0.4, 0.4), st.floats(-0.4, 0.4)),
        st.tuples(st.just("translate"), fractions, fractions),
        st.tuples(st.just("perspective"), st.lists(st.floats(0, 0.15), min_size=8, max_size=8)),
        st.tuples(st.just("grid"), weights, weights),
    ),
    max_size=4,
)


def noise(side: int, *channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, *channels), np.uint8)


def with_dot(x: float, y: float, side: int = SIDE_PX) -> np.ndarray:
    """A soft dot whose darkness is centred on the pixel (x, y)."""
    rows, columns = np.indices((side, side))
    return np.rint(255 - 200 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 2.0**2))).astype(np.uint8)


def place_of_dot(pixels: np.ndarray) -> tuple[float, float]:
    darkness = 255.0 - pixels
    rows, columns = np.indices(pixels.shape)
    return (darkness * columns).sum() / darkness.sum(), (darkness * rows).sum() / darkness.sum()


def soft_picture(side: int) -> np.ndarray:
    """Three clouds on white paper that leave the edges white and change by at most 7 levels a pixel at 128 px."""
    rows, columns = (np.indices((side, side)) + 0.5) / side
    clouds = [(0.35, 0.4, 120), (0.6, 0.62, 100), (0.62, 0.3, 60)]
    ink = sum(depth * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 0.02) for x, y, depth in clouds)
    return np.rint(255 - ink).astype(np.uint8)


# What inkfold does for one element of a chain.
MOTIONS = {
    "hflip": lambda: flip(SIDE_PX, left_right=True),
    "vflip": lambda: flip(SIDE_PX, left_right=False),
    "rotate": lambda degrees: rotate(SIDE_PX, degrees),
    "scale": lambda factor: affine(SIDE_PX, [[factor, 0], [0, factor]]),
    "shear": lambda x, y: affine(SIDE_PX, [[1, x], [y, 1]]),
    "translate": lambda right, down: affine(SIDE_PX, [[1, 0], [0, 1]], (right * SIDE_PX, down * SIDE_PX)),
    "perspective": lambda inset: perspective(SIDE_PX, np.reshape(inset, (4, 2))),
    "grid": lambda x_weights, y_weights: grid(SIDE_PX, x_weights, y_weights),
}


def moved(name: str, *numbers: object) -> Motion:
    return MOTIONS[name](*numbers)


def turned(x: np.ndarray, y: np.ndarray, clockwise: float) -> tuple[np.ndarray, np.ndarray]:
    """Undo a counter-clockwise turn; y points down."""
    return math.cos(clockwise) * x - math.sin(clockwise) * y, math.sin(clockwise) * x + math.cos(clockwise) * y


def quadrangle(x: np.ndarray, y: np.ndarray, inset: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Heckbert's closed form of the homography from the unit square to a quadrangle (1989, section 2.2.3)."""
    u, v = x + 0.5, y + 0.5
    x0, x1, x2, x3 = inset[0], 1 - inset[2], 1 - inset[4], inset[6]
    y0, y1, y2, y3 = inset[1], inset[3], 1 - inset[5], 1 - inset[7]
    sum_x, sum_y = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    determinant = (x1 - x2) * (y3 - y2) - (x3 - x2) * (y1 - y2)
    g = (sum_x * (y3 - y2) - (x3 - x2) * sum_y) / determinant
    h = ((x1 - x2) * sum_y - sum_x * (y1 - y2)) / determinant
    w = np.maximum(g * u + h * v + 1, 1e-3)  # behind the horizon is far away, so paper
    across = ((x1 - x0 + g * x1) * u + (x3 - x0 + h * x3) * v + x0) / w
    down = ((y1 - y0 + g * y1) * u + (y3 - y0 + h * y3) * v + y0) / w
    return across - 0.5, down - 0.5


def between_lines(final: np.ndarray, widths: list[float]) -> np.ndarray:
    lines = np.concatenate([[0], np.cumsum(widths)]) / sum(widths) - 0.5
    inside = np.interp(final, np.linspace(-0.5, 0.5, len(lines)), lines)
    return np.where(np.abs(final) > 0.5, final, inside)


# Where points were before it, by each motion's textbook inverse, on a page from -1/2 to 1/2.
ORIGINS = {
    "hflip": lambda x, y: (-x, y),
    "vflip": lambda x, y: (x, -y),
    "rotate": lambda x, y, degrees: turned(x, y, math.radians(degrees)),
    "scale": lambda x, y, factor: (x / factor, y / factor),
    "shear": lambda x, y, a, b: ((x - a * y) / (1 - a * b), (y - b * x) / (1 - a * b)),
    "translate": lambda x, y, right, down: (x - right, y - down),
    "perspective": quadrangle,
    "grid": lambda x, y, x_weights, y_weights: (between_lines(x, x_weights), between_lines(y, y_weights)),
}


def sampled(pixels: np.ndarray, x: np.ndarray, y: np.ndarray, paper: int) -> np.ndarray:
    """Naive bilinear reading at pixel positions in float64; everything outside is paper."""
    side = len(pixels)
    framed = np.pad(pixels.astype(np.float64), 1, constant_values=paper)
    x, y = np.clip(x, -1, side) + 1, np.clip(y, -1, side) + 1
    left, top = (np.minimum(np.floor(at).astype(int), side) for at in (x, y))
    right_share, bottom_share = x - left, y - top
    upper = framed[top, left] * (1 - right_share) + framed[top, left + 1] * right_share
    lower = framed[top + 1, left] * (1 - right_share) + framed[top + 1, left + 1] * right_share
    return upper * (1 - bottom_share) + lower * bottom_share


def read_by_hand(pixels: np.ndarray, chain: list[tuple], side: int = SIDE_PX) -> np.ndarray:
    """The whole chain followed backwards from each final pixel's centre, then one reading."""
    y, x = (np.indices((side, side)) + 0.5) / side - 0.5
    for name, *numbers in reversed(chain):
        x, y = ORIGINS[name](x, y, *numbers)
    return sampled(pixels, (x + 0.5) * len(pixels) - 0.5, (y + 0.5) * len(pixels) - 0.5, 255)


@contextmanager
def recorded_maps() -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
    """Collect the positions, x and y, that OpenCV is told to read."""
    maps, remap = [], cv2.remap

    def recording(source: np.ndarray, x: np.ndarray, y: np.ndarray, *args: object, **options: object) -> np.ndarray:
        maps.append((x.copy(), y.copy()))
        return remap(source, x, y, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warp_module.cv2, "remap", recording)
        yield maps


def read_positions(motions: list[Motion], side: int) -> np.ndarray:
    """The positions that each final pixel is read from: (x and y, rows, columns)."""
    with recorded_maps() as maps:
        warp(np.zeros((side, side), np.uint8), side, motions, WHITE)
    return np.stack(maps[-1])


def sharpness(pixels: np.ndarray) -> float:
    values = pixels.astype(float)
    return sum(float((np.diff(values, axis=axis) ** 2).sum()) for axis in (0, 1))


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("side", [1, 7, 64, 225])
def test_no_motion_at_equal_size_gives_the_same_bytes(side, channels):
    pixels = noise(side, *channels)
    paper = np.full(channels, 255, np.uint8)
    for motions in ([], [rotate(side, 0)], [affine(side, [[1, 0], [0, 1]])], [perspective(side, np.zeros((4, 2)))]):
        np.testing.assert_array_equal(warp(pixels, side, motions, paper), pixels)


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("side", [1, 6, 65])
def test_flips_are_numpys_own(side, channels):
    pixels = noise(side, *channels)
    paper = np.full(channels, 255, np.uint8)
    left_right, top_bottom = flip(side, left_right=True), flip(side, left_right=False)
    np.testing.assert_array_equal(warp(pixels, side, [left_right], paper), pixels[:, ::-1])
    np.testing.assert_array_equal(warp(pixels, side, [top_bottom], paper), pixels[::-1])
    for both in ([left_right, top_bottom], [top_bottom, left_right]):
        np.testing.assert_array_equal(warp(pixels, side, both, paper), pixels[::-1, ::-1])
    np.testing.assert_array_equal(warp(pixels, side, [left_right, left_right], paper), pixels)


@pytest.mark.parametrize("side", [6, 65])
def test_flips_mean_the_same_as_part_of_a_chain(side):
    pixels = noise(side)
    unchanged = affine(side, [[1, 0], [0, 1]])
    np.testing.assert_array_equal(warp(pixels, side, [flip(side, left_right=True), unchanged], WHITE), pixels[:, ::-1])
    np.testing.assert_array_equal(warp(pixels, side, [unchanged, flip(side, left_right=False)], WHITE), pixels[::-1])


@pytest.mark.parametrize("turns", [-1, 1, 2, 3, 4])
@pytest.mark.parametrize("side", [7, 64, 225])
def test_quarter_turns_are_numpys_counter_clockwise_ones_to_the_byte(side, turns):
    pixels = noise(side)
    expected = np.rot90(pixels, turns)
    np.testing.assert_array_equal(warp(pixels, side, [rotate(side, 90 * turns)], WHITE), expected)
    np.testing.assert_array_equal(warp(pixels, side, [rotate(side, 45 * turns)] * 2, WHITE), expected)


# From a dot at (83.5, 63.5), 20 px right of the centre, unless said otherwise; y points down.
@pytest.mark.parametrize(
    ("motion", "start", "end"),
    [
        (("rotate", 30), (83.5, 63.5), (63.5 + 20 * math.sqrt(3) / 2, 63.5 - 10)),
        (("rotate", -90), (83.5, 63.5), (63.5, 83.5)),
        (("scale", 1.5), (83.5, 43.5), (93.5, 33.5)),
        (("scale", 0.75), (83.5, 43.5), (78.5, 48.5)),
        (("shear", 0.5, 0), (63.5, 83.5), (73.5, 83.5)),
        (("shear", 0, 0.5), (83.5, 63.5), (83.5, 73.5)),
        (("translate", 0.25, -0.125), (63.5, 63.5), (95.5, 47.5)),
        (("hflip",), (83.5, 43.5), (43.5, 43.5)),
        # The upper corners come from a quarter inside: the inner quadrangle's diagonals cross at a third of the height.
        (("perspective", [0.25, 0, 0.25, 0, 0, 0, 0, 0]), (63.5, 128 / 3 - 0.5), (63.5, 63.5)),
        # Columns of 1 to 3: the line at 32 px comes to the middle. Rows of 3 to 1: the one at 96 does.
        (("grid", [1, 3], [3, 1]), (15.5, 47.5), (31.5, 31.5)),
        (("grid", [1, 3], [3, 1]), (79.5, 111.5), (95.5, 95.5)),
    ],
)
def test_a_dot_comes_to_the_place_calculated_by_hand(motion, start, end):
    found = place_of_dot(warp(with_dot(*start), SIDE_PX, [moved(*motion)], WHITE))
    assert found == pytest.approx(end, abs=0.5 if motion[0] == "perspective" else 0.06)  # perspective makes the dot lopsided


@pytest.mark.parametrize("stored", [64, 96, 256])
def test_a_dot_keeps_its_place_on_the_page_at_another_size(stored):
    scale = stored / SIDE_PX
    dot = with_dot(80.5 * scale - 0.5, 40.5 * scale - 0.5, stored)
    assert place_of_dot(warp(dot, SIDE_PX, [], WHITE)) == pytest.approx((80, 40), abs=0.05)
    shifted = warp(dot, SIDE_PX, [moved("translate", 0.125, 0)], WHITE)
    assert place_of_dot(shifted) == pytest.approx((96, 40), abs=0.05)  # motions' px are those of the result


def test_motions_are_done_in_their_order():
    turn, shift = rotate(SIDE_PX, 90), affine(SIDE_PX, [[1, 0], [0, 1]], (20, 0))
    dot = with_dot(63.5, 63.5)
    assert place_of_dot(warp(dot, SIDE_PX, [shift, turn], WHITE)) == pytest.approx((63.5, 43.5), abs=0.02)
    assert place_of_dot(warp(dot, SIDE_PX, [turn, shift], WHITE)) == pytest.approx((83.5, 63.5), abs=0.02)


def test_a_grid_before_a_shift_isnt_one_after_it():
    columns, shift = grid(SIDE_PX, [1, 3], [1]), affine(SIDE_PX, [[1, 0], [0, 1]], (32, 0))
    dot = with_dot(15.5, 63.5)
    # The left 32 px become 64; those right of them lose a third.
    assert place_of_dot(warp(dot, SIDE_PX, [columns, shift], WHITE)) == pytest.approx((63.5, 63.5), abs=0.06)
    assert place_of_dot(warp(dot, SIDE_PX, [shift, columns], WHITE)) == pytest.approx((64 + 16 / 1.5 - 0.5, 63.5), abs=0.06)


@settings(max_examples=60, deadline=None)
@given(chains, st.sampled_from([128, 150, 256]))
def test_chains_agree_with_positions_and_readings_computed_one_by_one(chain, stored):
    pixels = soft_picture(stored)
    difference = np.abs(warp(pixels, SIDE_PX, [moved(*motion) for motion in chain], WHITE) - read_by_hand(pixels, chain))
    # The steepest slope is 7 levels a pixel, scaling down up to four times steeper. Positions are whole 32nds of a pixel;
    # the coarse lattice adds a few hundredths for a perspective and up to half a pixel where it cuts a grid's corner.
    names = [motion[0] for motion in chain]
    assert difference.max() < 2.5 + 1.5 * names.count("perspective") + 5 * names.count("grid")
    assert difference.mean() < 0.5 + 0.3 * names.count("grid")


@settings(max_examples=30, deadline=None)
@given(st.integers(-200, 200), st.integers(-200, 200))
def test_a_shift_by_whole_32nds_of_a_pixel_is_a_plain_bilinear_mixture(right, down):
    pixels = noise(40)
    shifted = warp(pixels, 40, [affine(40, [[1, 0], [0, 1]], (right / 32, down / 32))], WHITE)
    y, x = np.indices((40, 40), float)
    assert np.abs(shifted - sampled(pixels, x - right / 32, y - down / 32, 255)).max() <= 0.501


def test_what_lies_outside_is_grey_paper():
    out = warp(np.zeros((64, 64), np.uint8), 64, [affine(64, [[1, 0], [0, 1]], (16, 8))], np.uint8(201))
    assert (out[:8] == 201).all()
    assert (out[:, :16] == 201).all()
    assert (out[8:, 16:] == 0).all()


@pytest.mark.parametrize("stored", [64, 256])
def test_what_lies_outside_is_coloured_paper(stored):
    pixels = np.full((stored, stored, 3), (10, 20, 30), np.uint8)
    out = warp(pixels, 64, [affine(64, [[0.5, 0], [0, 0.5]])], np.array([250, 240, 200], np.uint8))
    assert (out[:15] == (250, 240, 200)).all()
    assert (out[:, 49:] == (250, 240, 200)).all()
    assert (out[17:47, 17:47] == (10, 20, 30)).all()


def test_a_page_moved_out_of_sight_leaves_blank_paper():
    out = warp(np.zeros((64, 64), np.uint8), 64, [affine(64, [[1, 0], [0, 1]], (64, 64))] * 3, WHITE)
    assert (out == 255).all()


@pytest.mark.parametrize(("size", "period"), [(112, 1), (112, 2), (112, 3), (224, 1), (224, 2), (400, 1)])
def test_a_fine_checkerboard_is_flat_grey_after_a_large_reduction(size, period):
    rows, columns = np.indices((800, 800)) // period
    board = ((rows + columns) % 2 * 255).astype(np.uint8)
    middle = warp(board, size, [], WHITE)[4:-4, 4:-4].astype(float)
    antialiased = np.asarray(Image.fromarray(board).resize((size, size), Image.Resampling.BILINEAR))[4:-4, 4:-4]
    assert middle.mean() == pytest.approx(antialiased.mean(), abs=1)
    assert middle.std() <= antialiased.std() + 1
    assert np.ptp(board[:: 800 // size, :: 800 // size]) in (0, 255)  # what reading without a filter may give


def test_scaling_down_doesnt_alias_either():
    board = (np.indices((224, 224)).sum(0) % 2 * 255).astype(np.uint8)
    middle = warp(board, 224, [affine(224, [[0.25, 0], [0, 0.25]])], WHITE)[90:134, 90:134]
    assert np.abs(middle.astype(float) - 127.5).max() <= 1


def test_enlarging_what_is_stored_larger_stays_sharp():
    line = np.full((256, 256), 255, np.uint8)
    line[:, 127:129] = 0
    out = warp(line, 128, [affine(128, [[2, 0], [0, 2]])], WHITE)
    np.testing.assert_array_equal(out, line[64:192, 64:192])  # the very pixels: no filter, no mixture


def test_a_reduction_is_nearly_pillows():
    pixels = soft_picture(800)
    expected = np.asarray(Image.fromarray(pixels).resize((112, 112), Image.Resampling.BILINEAR))
    assert np.abs(warp(pixels, 112, [], WHITE).astype(int) - expected).max() <= 2


@pytest.mark.parametrize("stored", [64, 96, 128])
def test_colour_is_each_channel_by_itself(stored):
    pixels, paper = noise(stored, 3), np.array([250, 240, 10], np.uint8)
    motions = [rotate(64, 20), grid(64, [1, 1.3], [0.8, 1.1]), perspective(64, np.full((4, 2), 0.05))]
    out = warp(pixels, 64, motions, paper)
    for channel in range(3):
        alone = np.ascontiguousarray(pixels[..., channel])
        np.testing.assert_array_equal(out[..., channel], warp(alone, 64, motions, paper[channel]))


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("stored", [64, 150])
def test_the_given_pixels_stay_as_they_were(stored, channels):
    pixels = noise(stored, *channels)
    before = pixels.copy()
    motions = [flip(64, left_right=True), rotate(64, 9), Elastic(40, 4, Draws(b"0")), grid(64, [1, 2], [2, 1])]
    for some in ([], motions[:1], motions):
        out = warp(pixels, 64, some, np.full(channels, 255, np.uint8))
        assert out.dtype == np.uint8
        assert out.shape == (64, 64, *channels)
        np.testing.assert_array_equal(pixels, before)


def test_earlier_results_stay_as_they_were():
    first = warp(noise(64), 64, [rotate(64, 9)], WHITE)
    before = first.copy()
    warp(noise(64, seed=1), 64, [rotate(64, 30)], WHITE)
    np.testing.assert_array_equal(first, before)


def test_five_motions_at_once_are_sharper_than_five_warps():
    lattice = np.full((224, 224), 255, np.uint8)
    lattice[40:180:12, 40:180] = lattice[40:180, 60:170:15] = 0
    motions = [
        rotate(224, 7),
        affine(224, [[1.05, 0], [0, 1.05]]),
        affine(224, [[1, 0.1], [0.05, 1]]),
        affine(224, [[1, 0], [0, 1]], (3.3, -4.6)),
        rotate(224, -12),
    ]
    one_by_one = lattice
    for motion in motions:
        one_by_one = warp(one_by_one, 224, [motion], WHITE)
    assert sharpness(warp(lattice, 224, motions, WHITE)) > 3 * sharpness(one_by_one)


@pytest.mark.parametrize("size", [96, 224])
def test_a_grids_lines_are_rounded_by_less_than_half_a_pixel(size):
    widths = [0.7, 1.3, 0.7, 1.3, 0.7]
    expected = (between_lines((np.arange(size) + 0.5) / size - 0.5, widths) + 0.5) * size - 0.5
    x, y = read_positions([grid(size, widths, widths[::-1])], size)
    np.testing.assert_allclose(x, np.broadcast_to(expected, (size, size)), atol=0.5)
    np.testing.assert_allclose(y, np.broadcast_to(expected[:, None], (size, size)), atol=0.5)


def test_flips_name_themselves_and_nothing_else_does():
    assert flip(8, left_right=True).flips == (True, False)
    assert flip(8, left_right=False).flips == (False, True)
    assert rotate(8, 180).flips is None
    assert isinstance(perspective(8, np.zeros((4, 2))), Projective)


@pytest.mark.parametrize("sigma", [1.5, 4, 10])
def test_an_elastic_field_is_that_of_its_generator(sigma):
    first, again, other = (read_positions([Elastic(60, sigma, Draws(b"%d" % seed))], 96) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.5


@pytest.mark.parametrize("sigma", [1.5, 4, 10])
def test_elastic_fields_move_with_the_motions_around_them(sigma):
    def positions(*motions: Motion) -> np.ndarray:
        elastic = Elastic(300, sigma, Draws(b"5"))
        return read_positions([elastic if motion is None else motion for motion in motions], 96)

    alone = positions(None)
    shift = affine(96, [[1, 0], [0, 1]], (16, 8))
    np.testing.assert_allclose(positions(shift, None), alone - [[[16]], [[8]]], atol=1 / 32)
    np.testing.assert_allclose(positions(None, shift)[:, 8:, 16:], alone[:, :-8, :-16], atol=1 / 8)
    np.testing.assert_allclose(positions(None, flip(96, left_right=True)), alone[:, :, ::-1], atol=1 / 8)
    np.testing.assert_allclose(positions(None, rotate(96, 90)), np.rot90(alone, axes=(1, 2)), atol=1 / 8)


@pytest.mark.parametrize(("size", "alpha", "sigma"), [(224, 120, 10), (96, 300, 4), (96, 60, 1.5)])
def test_elastic_displacements_have_the_stated_deviation_everywhere(size, alpha, sigma):
    here = np.indices((size, size))[::-1]
    fields = np.stack([read_positions([Elastic(alpha, sigma, Draws(b"%d" % seed))], size) - here for seed in range(100)])
    expected = elastic_deviation(size, alpha, sigma)
    assert fields.std() == pytest.approx(expected, rel=0.05)
    edges = np.concatenate([fields[..., :8].ravel(), fields[..., -8:].ravel()])
    assert edges.std() == pytest.approx(expected, rel=0.15)  # as at the middle: nothing piles up at the edges


def albumentations() -> ModuleType:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else its import asks PyPI for a newer version
    module = pytest.importorskip("albumentations")
    if module.__version__ != "2.0.8":
        pytest.skip(f"albumentations {module.__version__}: 2.0.8 is what the displacements are compared with")
    return module


def displacements(operation: str, size: int, count: int) -> Iterator[np.ndarray]:
    """How far each final pixel is read from its own place, as views draw it: (x and y, rows, columns)."""
    view, blank = parse_view(operation), np.zeros((size, size), np.uint8)
    own_place = np.indices((size, size), np.float32)[::-1]
    for draw in range(count):
        with recorded_maps() as maps:
            render(blank, view, b"%d" % draw, size)
        yield np.stack(maps[-1]) - own_place


def their_displacements(transform, size: int, count: int) -> Iterator[np.ndarray]:
    transform.set_random_seed(1)
    own_place = np.indices((size, size), np.float32)[::-1]
    for _ in range(count):
        drawn = transform.get_params_dependent_on_data({"shape": (size, size)}, {})
        yield np.stack([drawn["map_x"], drawn["map_y"]]) - own_place


# albumentations repeats the noise of the edge beyond it, so that displacements pile up within three sigma of the edges
# (sigma 10 at 224 px: over the whole picture a deviation 1.3 times that of the middle); the middles are compared. Few
# fields of a large sigma fit a picture, so more are drawn. Its default, (1, 50), moves by a thousandth of a pixel, which
# is no motion in 32nds: (400, 50) is the same field, only stronger.
@pytest.mark.parametrize(
    ("size", "alpha", "sigma", "ours", "theirs"),
    [
        (224, 30, 4, 8, 8),
        (448, 30, 4, 4, 4),
        (224, 120, 10, 40, 40),
        (448, 120, 10, 16, 16),
        (224, 200, 25, 250, 100),
        (448, 400, 50, 300, 24),
    ],
)
def test_elastic_displacements_are_distributed_as_those_of_albumentations(size, alpha, sigma, ours, theirs):
    transform = albumentations().ElasticTransform(alpha=alpha, sigma=sigma, p=1)
    margin = min(3 * sigma, size // 2 - 12)
    middle = np.s_[:, margin : size - margin, margin : size - margin]
    our_fields = list(displacements(f"elastic({alpha},{sigma})", size, ours))
    their_fields = list(their_displacements(transform, size, theirs))
    if sigma == 4:  # the winner's: over the whole picture too
        assert np.std(our_fields) == pytest.approx(np.std(their_fields), rel=0.1)
    here, there = (np.stack([field[middle] for field in fields]) for fields in (our_fields, their_fields))
    assert here.std() == pytest.approx(there.std(), rel=0.1)
    assert abs(here.mean() - there.mean()) < 0.1 * there.std()
    if sigma < 50:  # how smooth: smoothed noise two sigma apart correlates with exp(-1), 0.37
        for fields in (here, there):
            apart = np.corrcoef(fields[..., : -2 * sigma].ravel(), fields[..., 2 * sigma :].ravel())[0, 1]
            assert apart == pytest.approx(math.exp(-1), abs=0.08)


@pytest.mark.parametrize(("size", "draws"), [(224, 500), (448, 250)])
@pytest.mark.parametrize(("steps", "limit"), [(4, 0.2), (5, 0.3)])
def test_grid_displacements_are_distributed_as_those_of_albumentations(size, draws, steps, limit):
    grid_distortion = albumentations().GridDistortion
    transform, still = (grid_distortion(num_steps=steps, distort_limit=most, normalized=True, p=1) for most in (limit, 0))
    # Theirs reads 0 to 224 over the pixels 0 to 223 where nothing is distorted, so half a pixel too far on average.
    (unmoved,) = their_displacements(still, size, 1)
    ours, theirs = displacements(f"grid({steps},{limit})", size, draws), their_displacements(transform, size, draws)
    # Whole columns and rows move: one row and one column tell all.
    here = np.concatenate([(field[0, 0], field[1, :, 0]) for field in ours])
    there = np.concatenate([(field[0, 0], field[1, :, 0]) for field in (field - unmoved for field in theirs)])
    assert here.std() == pytest.approx(there.std(), rel=0.1)
    assert abs(here.mean() - there.mean()) < 0.1 * there.std()
    # Where on the way from edge to edge, not only over all.
    assert np.abs(here.std(axis=0) - there.std(axis=0)).max() < 0.2 * there.std(axis=0).max()


def test_rotation_and_flips_turn_the_way_albumentations_does():
    library = albumentations()
    pixels = soft_picture(128)
    turned = library.Rotate((30, 30), border_mode=cv2.BORDER_CONSTANT, fill=255, p=1)(image=pixels)["image"]
    assert np.abs(warp(pixels, 128, [rotate(128, 30)], WHITE).astype(int) - turned).max() <= 3
    for transform, left_right in ((library.HorizontalFlip, True), (library.VerticalFlip, False)):
        np.testing.assert_array_equal(
            warp(pixels, 128, [flip(128, left_right=left_right)], WHITE), transform(p=1)(image=pixels)["image"]
        )


def test_a_perspective_is_albumentations_homography():
    albumentations()
    from albumentations.augmentations.geometric.functional import compute_perspective_params

    inset = np.abs(np.random.default_rng(0).normal(0, 0.1, (4, 2)))
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    points = (np.abs(corners - inset) * 128).astype(np.float32)
    theirs, *_ = compute_perspective_params(points, (128, 128))
    to_edges = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # theirs counts from the page's edge, ours from pixel centres
    ours = to_edges @ np.linalg.inv(perspective(128, inset).backward) @ np.linalg.inv(to_edges)
    np.testing.assert_allclose(ours / ours[2, 2], theirs, rtol=1e-4, atol=1e-4)
