import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from inkfold.augment.views import parse_view, render
from inkfold.errors import ExportError
from inkfold.export.graph import Graph
from inkfold.export.preprocess_graph import _weights, add_channels, add_fitting, add_view
from inkfold.export.verify import open_session
from inkfold.images.preprocess import ImageOptions, preprocess
from toy_onnx import as_images, as_three, run_graph

SIZE = 24
SMALLEST = 8  # one such value of a page that is a line repeats in all of the square's rows
# A level in each pass: see the docstring of `preprocess_graph`, which derives it.
LARGEST_DIFFERENCE = 2
# Share of values that may be off: those that lie half-way between two levels but for the last bits of Pillow's weights.
# Bilinear weights such as 1/3 put up to 0.083 of a page of noise there; other weights up to 0.028 of a small page.
SHARE_OFF = {"bilinear": 0.15, "bicubic": 0.05, "lanczos": 0.05}
_sessions = {}


def fitted(pixels, options):
    """Through the graph; a session for each of the options is kept."""
    if options not in _sessions:
        g = Graph()
        g.call(add_fitting(g, add_channels(g, "images"), options), "out")
        _sessions[options] = open_session(
            g.model({"images": (np.uint8, list("nhwc"))}, {"out": None}, {}).SerializeToString(), 1
        )
    batch = pixels if pixels.ndim == 4 else as_images(pixels)
    return _sessions[options].run(None, {"images": batch})[0].transpose(0, 2, 3, 1)


def assert_same(pixels, options):
    distance = np.abs(fitted(pixels, options)[0] - as_three(preprocess(pixels, options)))
    assert distance.max() <= LARGEST_DIFFERENCE
    if min(pixels.shape[:2]) >= SMALLEST:
        assert (distance > 0).mean() <= SHARE_OFF[options.interpolation]


def page(kind, height, width, seed):
    """Drawings of which each part of the fitting has something to say."""
    rng = np.random.default_rng(seed)
    match kind:
        case "noise":
            return rng.integers(0, 256, (height, width, 3), np.uint8)
        case "dark":
            return rng.integers(0, 90, (height, width), np.uint8)
        case "nearly dark":  # medians around the limit decide
            return rng.integers(95, 105, (height, width), np.uint8)
        case "equal channels":
            return np.repeat(rng.integers(150, 256, (height, width, 1), np.uint8), 3, axis=2)
        case "nearly grey":
            return (rng.integers(100, 240, (height, width, 1)) + rng.integers(0, 15, (height, width, 3))).astype(np.uint8)
    light_on_dark = np.zeros((height, width, 3), np.uint8)
    light_on_dark[height // 3 : height // 2 + 1] = rng.integers(100, 256, 3)
    return light_on_dark


KINDS = ["noise", "dark", "nearly dark", "equal channels", "nearly grey", "light on dark"]


@settings(max_examples=216, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    seed=st.integers(0, 99),
    fit=st.sampled_from(["pad", "squash"]),
    colour=st.sampled_from(["auto", "grey", "rgb"]),
    interpolation=st.sampled_from(["bilinear", "bicubic", "lanczos"]),
)
# 227.4999995 in the first pass, whose weight in the second is 1.08: two levels off.
@example(kind="dark", size=(14, 2), seed=13, fit="pad", colour="rgb", interpolation="bicubic")
def test_drawings_are_fitted_as_pillow_fits_them(kind, size, seed, fit, colour, interpolation):
    options = ImageOptions(size_px=SIZE, resize=fit, colour=colour, invert="auto", interpolation=interpolation)
    assert_same(page(kind, *size, seed), options)


@pytest.mark.parametrize(("interpolation", "expected"), [("bilinear", 1.00), ("bicubic", 1.27), ("lanczos", 1.57)])
def test_no_row_of_weights_carries_two_levels_of_the_first_pass(interpolation, expected):
    largest = 0.0
    for side in (*range(1, 60), 224, 700):
        g = Graph()
        place = tuple(g.const(value, np.float64) for value in (float(SIZE), 0.0))
        weights, _ = _weights(g, g.op("Cast", "side", to=11), place, ImageOptions(size_px=SIZE, interpolation=interpolation))
        rows = np.abs(run_graph(g, {"side": np.array(side, np.int64)}, weights)).sum(1)
        largest = max(largest, float(rows.max()))
    assert largest == pytest.approx(expected, abs=0.02)
    assert np.ceil(largest + 2.0**-13) <= LARGEST_DIFFERENCE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("invert", ["auto", "never"])
def test_squares_of_the_right_size_are_not_resized(kind, invert):
    pixels, options = page(kind, SIZE, SIZE, 1), ImageOptions(size_px=SIZE, invert=invert)
    np.testing.assert_array_equal(fitted(pixels, options)[0], as_three(preprocess(pixels, options)))


def test_what_was_fitted_stays_as_it_is():
    options = ImageOptions(size_px=SIZE)
    once = preprocess(page("light on dark", 60, 31, 0), options)
    np.testing.assert_array_equal(fitted(once, options)[0], as_three(once))


def test_each_drawing_of_a_batch_is_judged_by_itself():
    batch = np.stack([page(kind, 40, 33, 2) for kind in ("noise", "equal channels", "nearly grey", "light on dark")])
    options = ImageOptions(size_px=SIZE)
    together = fitted(batch, options)
    for pixels, one in zip(batch, together, strict=True):
        np.testing.assert_array_equal(one, fitted(pixels, options)[0])


@pytest.mark.parametrize("size", [(300, 500), (800, 60), (61, 700), (513, 512)])
def test_large_pages_are_fitted_too(size):
    rng = np.random.default_rng(0)
    pixels = np.full(size, 20, np.uint8)
    pixels[rng.random(size) < 0.1] = 230
    assert_same(pixels, ImageOptions(size_px=SIZE))


SIDE = 24
VIEWS = [
    "identity",
    "hflip",
    "vflip",
    "hflip + vflip",
    "rotate(90,90)",
    "rotate(180,180)",
    "rotate(-90,-90)",
    "rotate(8,8)",
    "hflip + rotate(-8,-8)",
    "rotate(45,45)",
    "rotate(33,33) + vflip",
    "rotate(90,90) + hflip",
]


@pytest.mark.parametrize("text", VIEWS)
def test_views_that_draw_nothing_are_the_runs(text):
    square = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    view, g = parse_view(text), Graph()
    shown = run_graph(g, {"images": square}, add_view(g, add_channels(g, "images"), view, SIDE)).transpose(0, 2, 3, 1)
    for pixels, one in zip(square, shown, strict=True):
        np.testing.assert_array_equal(one, render(pixels, view, b"", SIDE))


@pytest.mark.parametrize("text", ["rotate(15)", "hflip@0.5", "thin(1,1)", "scale(1.5,1.5)"])
def test_other_views_are_refused_with_the_way_out(text):
    with pytest.raises(ExportError, match="--without-tta"):
        add_view(Graph(), "x", parse_view(text), SIDE)
