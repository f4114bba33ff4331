"""What `images.preprocess.preprocess` does to a drawing, as ONNX nodes on a batch of drawings of one size.

Values stay whole numbers from 0 to 255 in float32 and are rounded where Pillow rounds, between the two passes of a resize
and after them, with Pillow's own weights. Medians are found by halving the range of grey levels eight times, as exact as
sorting and without its cost.

Colour, polarity and paper come out equal to the last bit; a resized value may be two levels off. Pillow sums whole numbers
exactly, single precision keeps 24 bits, so a sum within `TIE_WIDTH` of a half may be rounded up where Pillow rounds down: one
level after the first pass. The second pass weighs such levels with weights whose absolute values sum to 1.00 (bilinear), 1.27
(bicubic) or 1.57 (lanczos) at the most, and may meet such a half itself; sums less than two apart are at most two levels
apart once rounded. Among 357 million values of random pages of 1 to 90 px fitted to 24 px, 270 were two levels off and none
was three. Weights split into high and low bits would make both sums exact, at 2.5 times the cost of the resize (512 x 512 px
on one core: 10 ms for 4).
"""

from functools import lru_cache

import numpy as np
from PIL import Image

from inkfold.augment.views import View
from inkfold.errors import ExportError
from inkfold.export.crop_graph import add_crop
from inkfold.export.graph import Graph
from inkfold.images.colour import COLOURED_FRACTION, GREY_SPREAD
from inkfold.images.preprocess import BORDER_FRACTION, DARK_LUMA, PAGE_SAMPLED_PX, POLARITY_SAMPLED_PX, ImageOptions

LUMA = (19595.0, 38470.0, 7471.0)  # of 65536: Pillow's ITU-R 601; all sums stay below 2^24
COEFFICIENT = 2.0**22  # Pillow's weights are whole multiples of its inverse
SUPPORT = {"nearest": 0.0, "bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}
CUBIC = -0.5
TIE_WIDTH = 2.0**-15  # Pillow's sums are exact and go up from a half; in single precision a half may come out a little less
DOWN_FIRST_FROM = 2.0  # Pillow 13: where the height shrinks by more than twice what the width does (3,000 sizes tried)


def add_channels(g: Graph, images: str) -> str:
    """Bring uint8 drawings, (n, h, w, 1 or 3), to three channels of float32, (n, 3, h, w), 0 to 255."""
    first = g.op("Transpose", images, perm=[0, 3, 1, 2])
    return g.op("Expand", g.op("Cast", first, to=1), g.ints(1, 3, 1, 1))


def add_fitting(g: Graph, drawings: str, options: ImageOptions) -> str:
    """Settle the colour and polarity of drawings, (n, 3, h, w), and resize them to squares, (n, 3, size, size).

    Drawings that have this size already aren't resized, unless they are cropped to their ink. The paper of photographed pages
    isn't flattened.
    """
    size = _Size(g, drawings)
    x = _settle_colour(g, drawings, size, options)
    if options.invert == "auto":
        x = _turn_dark_on_light(g, x, size)
    if options.resize == "crop_to_ink":
        return _each_cropped(g, x, options)
    yes, no = g.branch(), g.branch()
    square = g.op("And", *(g.op("Equal", side, g.const(options.size_px, np.int64)) for side in (size.height, size.width)))
    return g.choose(square, yes, no, (x, _resized(no, x, size, options)))


def _each_cropped(g: Graph, x: str, options: ImageOptions) -> str:
    """Crop the drawings of a batch to their ink, one after another since their boxes differ, and resize them."""

    def crop_one(body: Graph, number: str) -> str:
        one = body.op("Unsqueeze", body.op("Gather", x, number), body.ints(0))
        cropped = add_crop(body, one, _page_colour(body, one))
        return _resized(body, cropped, _Size(body, cropped), options)

    count = g.op("Gather", g.op("Shape", x), g.const(0, np.int64))
    return g.op("Squeeze", g.each(count, crop_one), g.ints(1))


def _page_colour(g: Graph, x: str) -> str:
    """Add each drawing's paper colour where the page may be surrounded, as `images.preprocess.page_colour` does."""
    border = add_paper(g, x)
    middle = _half_sum(g, _middle(g, _sampled(g, x, _Size(g, x), PAGE_SAMPLED_PX, channels=3)))
    sums = [g.op("ReduceSum", colour, g.ints(1)) for colour in (middle, border)]
    return g.op("Where", g.op("Greater", *sums), middle, border)


def add_paper(g: Graph, x: str) -> str:
    """Add each drawing's paper colour, (n, 3, 1, 1): the border's median, rounded down."""
    return _half_sum(g, _middle(g, _border(g, x, _Size(g, x), channels=3)))


def _half_sum(g: Graph, middle: str) -> str:
    """Halve the sum of two middle values, rounded down: (n, c, 2) gives (n, c, 1, 1)."""
    half = g.op("Mul", g.op("ReduceSum", middle, g.ints(2)), g.const(0.5, np.float32))
    return g.op("Unsqueeze", g.op("Floor", half), g.ints(3))


def add_luma(g: Graph, x: str) -> str:
    """Reduce drawings to their luma, (n, 1, h, w), as `images.decode.to_grey` does."""
    parts = g.op("Mul", x, g.const(np.array(LUMA, np.float32).reshape(1, 3, 1, 1)))
    total = g.op("Add", g.op("ReduceSum", parts, g.ints(1)), g.const(32768.0, np.float32))
    return g.op("Floor", g.op("Mul", total, g.const(1 / 65536, np.float32)))


class _Size:
    """The drawings' height and width, as whole numbers and as double precision."""

    def __init__(self, g: Graph, drawings: str) -> None:
        shape = g.op("Shape", drawings)
        self.height, self.width = (g.op("Gather", shape, g.const(axis, np.int64)) for axis in (2, 3))
        self.rows, self.columns = (g.op("Cast", side, to=11) for side in (self.height, self.width))


def _settle_colour(g: Graph, x: str, size: _Size, options: ImageOptions) -> str:
    if options.colour == "rgb":
        return x
    luma = add_luma(g, x)
    if options.colour == "grey":
        return g.op("Expand", luma, g.ints(1, 3, 1, 1))
    axis = g.ints(1)
    spread = g.op("Sub", g.op("ReduceMax", x, axis), g.op("ReduceMin", x, axis))
    coloured = g.op("Cast", g.op("Greater", spread, g.const(GREY_SPREAD, np.float32)), to=6)
    count = g.op("Cast", g.op("ReduceSum", coloured, g.ints(1, 2, 3)), to=11)
    share = g.op("Mul", g.op("Mul", g.const(COLOURED_FRACTION, np.float64), size.rows), size.columns)
    grey = g.op("Less", count, g.op("Max", share, g.const(1.0, np.float64)))
    return g.op("Where", grey, luma, x)


def _turn_dark_on_light(g: Graph, x: str, size: _Size) -> str:
    """Swap light and dark in drawings whose border and whole both have a dark median."""
    luma = add_luma(g, x)
    dark_border = _is_dark(g, _border(g, luma, size, channels=1))
    some, none = g.branch(), g.branch()
    inner = some.op("And", dark_border, _is_dark(some, _sampled(some, luma, size, POLARITY_SAMPLED_PX, channels=1)))
    axis = some.ints(1)
    ends = some.op("Add", some.op("ReduceMax", x, axis), some.op("ReduceMin", x, axis))
    turned = some.op("Add", x, some.op("Sub", some.const(255.0, np.float32), ends))
    shape = some.op("Unsqueeze", inner, some.ints(2, 3))
    any_dark = g.op("Cast", g.op("ReduceMax", g.op("Cast", dark_border, to=6), keepdims=0), to=9)
    return g.choose(any_dark, some, none, (some.op("Where", shape, turned, x), x))


def _is_dark(g: Graph, values: str) -> str:
    """Compare the median, the mean of the two middle values, with the limit: (n, 1, values) gives (n, 1)."""
    middle = _middle(g, values)
    return g.op("Less", g.op("ReduceSum", middle, g.ints(2), keepdims=0), g.const(2 * DARK_LUMA, np.float32))


def _middle(g: Graph, values: str) -> str:
    """Find the two middle values of (n, c, values), which coincide if their number is odd: (n, c, 2)."""
    count = g.op("Gather", g.op("Shape", values), g.const(2, np.int64))
    half = g.const(2, np.int64)
    below = g.op("Div", g.op("Sub", count, g.const(1, np.int64)), half)
    ranks = [g.op("Unsqueeze", rank, g.ints(0)) for rank in (below, g.op("Div", count, half))]
    rank = g.op("Cast", g.op("Concat", *ranks, axis=0), to=6)
    row, level = g.op("Unsqueeze", values, g.ints(2)), g.const(np.zeros((1, 1, 2), np.float32))
    for bit in (128, 64, 32, 16, 8, 4, 2, 1):
        tried = g.op("Add", level, g.const(float(bit), np.float32))
        lower = g.op("Cast", g.op("Less", row, g.op("Unsqueeze", tried, g.ints(3))), to=6)
        fits = g.op("LessOrEqual", g.op("ReduceSum", lower, g.ints(3), keepdims=0), rank)
        level = g.op("Where", fits, tried, level)
    return level


def _sampled(g: Graph, x: str, size: _Size, sampled_px: int, channels: int) -> str:
    """Take evenly spaced rows and columns, about so many of the shorter side: (n, channels, values)."""
    shorter = g.op("Min", size.height, size.width)
    step = g.op("Max", g.op("Div", shorter, g.const(sampled_px, np.int64)), g.const(1, np.int64))
    steps = g.op("Expand", step, g.ints(2))
    some = g.op("Slice", x, g.ints(0, 0), g.ints(2**31, 2**31), g.ints(2, 3), steps)
    return g.op("Reshape", some, g.ints(0, channels, -1))


def _border(g: Graph, x: str, size: _Size, channels: int) -> str:
    """Join the outer rows and columns in one line: (n, c, values); corners are in it twice."""
    lines = []
    for side, axis in ((size.rows, 2), (size.columns, 3)):
        wide = g.op("Round", g.op("Mul", side, g.const(BORDER_FRACTION, np.float64)))
        count = g.op("Cast", g.op("Max", wide, g.const(1.0, np.float64)), to=7)
        count = g.op("Unsqueeze", count, g.ints(0))
        ends = ((g.ints(0), count), (g.op("Neg", count), g.ints(2**31)))
        lines += [g.op("Slice", x, start, end, g.ints(axis)) for start, end in ends]
    return g.op("Concat", *(g.op("Reshape", line, g.ints(0, channels, -1)) for line in lines), axis=2)


def _resized(g: Graph, x: str, size: _Size, options: ImageOptions) -> str:
    """Resize as Pillow does, and lay the result on the drawing's own paper where it doesn't fill the square."""
    side = options.size_px
    whole = g.const(float(side), np.float64)
    heights = (whole, g.const(0.0, np.float64))
    widths = heights
    if options.resize != "squash":
        scale = g.op("Div", whole, g.op("Max", size.rows, size.columns))
        heights, widths = (_fitted(g, side_px, scale, whole) for side_px in (size.rows, size.columns))
    across, filled_columns = _weights(g, size.columns, widths, options)
    down, filled_rows = _weights(g, size.rows, heights, options)
    shrinks = (g.op("Sub", size.columns, widths[0]), g.op("Sub", size.rows, heights[0]))
    resized = _both_passes(g, x, across, down, shrinks)
    if options.resize == "squash":
        return resized
    filled = g.op("And", g.op("Unsqueeze", filled_rows, g.ints(1)), g.op("Unsqueeze", filled_columns, g.ints(0)))
    return g.op("Where", filled, resized, add_paper(g, x))


def _both_passes(g: Graph, x: str, across: str, down: str, shrinks: tuple[str, str]) -> str:
    """Resize the width and the height in Pillow's order, which matters as values are rounded and clipped in between.

    `across` and `down` are the weights of the columns, (size, w), and of the rows, (size, h); `shrinks` are the numbers of
    pixels by which the width and the height shrink.
    """
    columns = g.op("Transpose", across, perm=[1, 0])
    usual, other = g.branch(), g.branch()
    first = _to_levels(usual, usual.op("MatMul", x, columns))
    usually = _to_levels(usual, usual.op("MatMul", down, first))
    if not _goes_down_first():
        g.nodes += usual.nodes
        return usually
    first = _to_levels(other, other.op("MatMul", down, x))
    otherwise = _to_levels(other, other.op("MatMul", first, columns))
    by_width, by_height = shrinks
    much = g.op("Greater", by_height, g.op("Mul", by_width, g.const(DOWN_FIRST_FROM, np.float64)))
    condition = g.op("And", much, g.op("Greater", by_height, g.const(0.0, np.float64)))
    return g.choose(condition, other, usual, (otherwise, usually))


@lru_cache
def _goes_down_first() -> bool:
    """Whether this Pillow shrinks tall pictures' height first, as 13 does and older ones don't."""
    tall = Image.fromarray(
        np.arange(0, 60 * 7, 7).reshape(60, 1).repeat(8, 1).astype(np.uint8) ^ np.arange(8, dtype=np.uint8) * 31
    )
    down_first = tall.resize((8, 20), Image.Resampling.BICUBIC).resize((6, 20), Image.Resampling.BICUBIC)
    across_first = tall.resize((6, 60), Image.Resampling.BICUBIC).resize((6, 20), Image.Resampling.BICUBIC)
    resized = np.asarray(tall.resize((6, 20), Image.Resampling.BICUBIC))
    return bool((resized == np.asarray(down_first)).all() and (resized != np.asarray(across_first)).any())


def _fitted(g: Graph, side: str, scale: str, whole: str) -> tuple[str, str]:
    """Add a side's length in the square and where it begins, in pixels."""
    length = g.op("Max", g.op("Round", g.op("Mul", side, scale)), g.const(1.0, np.float64))
    start = g.op("Floor", g.op("Mul", g.op("Sub", whole, length), g.const(0.5, np.float64)))
    return length, start


def _weights(g: Graph, side: str, place: tuple[str, str], options: ImageOptions) -> tuple[str, str]:
    """Build Pillow's weights of every source pixel (columns) for every pixel of the square (rows), and the mask of filled rows.

    `place` is the number of the square's pixels that the drawing's side fills, and the first of them.

    Source: Pillow's Resample.c, `precompute_coeffs` and `normalize_coeffs_8bpc`.
    """
    length, start = place
    half = g.const(0.5, np.float64)
    row = g.op("Sub", g.const(np.arange(options.size_px, dtype=np.float64)), start)
    filled = g.op("And", g.op("GreaterOrEqual", row, g.const(0.0, np.float64)), g.op("Less", row, length))
    ratio = g.op("Div", side, length)
    centre = g.op("Unsqueeze", g.op("Mul", g.op("Add", row, half), ratio), g.ints(1))
    pixel = g.op("Range", g.const(0.0, np.float64), side, g.const(1.0, np.float64))
    if options.interpolation == "nearest":
        weights = g.op("Cast", g.op("Equal", pixel, g.op("Floor", centre)), to=11)
        return g.op("Cast", weights, to=1), filled
    reach = g.op("Max", ratio, g.const(1.0, np.float64))
    distance = g.op("Abs", g.op("Div", g.op("Add", g.op("Sub", pixel, centre), half), reach))
    raw = _kernel(g, distance, options.interpolation)
    total = g.op("ReduceSum", raw, g.ints(1))
    scaled = g.op("Mul", g.op("Div", raw, total), g.const(COEFFICIENT, np.float64))
    rounded = g.op("Mul", g.op("Floor", g.op("Add", g.op("Abs", scaled), half)), g.op("Sign", scaled))
    return g.op("Cast", g.op("Mul", rounded, g.const(1 / COEFFICIENT, np.float64)), to=1), filled


def _kernel(g: Graph, distance: str, interpolation: str) -> str:
    """Evaluate Pillow's filter at distances in units of its scale."""

    def number(value: float) -> str:
        return g.const(value, np.float64)

    inside = g.op("Less", distance, number(SUPPORT[interpolation]))
    if interpolation == "bilinear":
        values = g.op("Sub", number(1), distance)
    elif interpolation == "bicubic":
        near = _polynomial(g, distance, (1, 0, -(CUBIC + 3), CUBIC + 2))
        far = _polynomial(g, distance, (-4 * CUBIC, 8 * CUBIC, -5 * CUBIC, CUBIC))
        values = g.op("Where", g.op("Less", distance, number(1)), near, far)
    else:
        values = g.op("Mul", _sinc(g, distance), _sinc(g, g.op("Div", distance, number(3))))
    return g.op("Where", inside, values, number(0))


def _polynomial(g: Graph, x: str, coefficients: tuple[float, ...]) -> str:
    """Evaluate by Horner's scheme, the constant first."""
    value = g.const(coefficients[-1], np.float64)
    for coefficient in reversed(coefficients[:-1]):
        value = g.op("Add", g.op("Mul", value, x), g.const(coefficient, np.float64))
    return value


def _sinc(g: Graph, x: str) -> str:
    angle = g.op("Mul", x, g.const(np.pi, np.float64))
    at_zero = g.op("Equal", x, g.const(0.0, np.float64))
    safe = g.op("Where", at_zero, g.const(1.0, np.float64), angle)
    return g.op("Where", at_zero, g.const(1.0, np.float64), g.op("Div", g.op("Sin", safe), safe))


def _to_levels(g: Graph, x: str) -> str:
    rounded = g.op("Floor", g.op("Add", x, g.const(0.5 + TIE_WIDTH, np.float32)))
    return g.op("Clip", rounded, g.const(0.0, np.float32), g.const(255.0, np.float32))


def add_view(g: Graph, squares: str, view: View, size_px: int) -> str:
    """Apply a test-time view to squares, (n, 3, size, size): flips, and rotations by fixed angles.

    Raises:
        ExportError: If the view has any other operation.
    """
    operations = view.operations
    if not all(each.p == 1 and each.is_fixed and each.name in ("hflip", "vflip", "rotate") for each in operations):
        raise ExportError(
            f"tta: '{view}' is more than flips and rotations by fixed angles, which is all that a file can hold. "
            "Leave test-time views out: --without-tta."
        )
    if any(operation.name == "rotate" for operation in operations):
        return _rotated(g, squares, view, size_px)
    for operation in operations:
        axis = 3 if operation.name == "hflip" else 2
        squares = g.op("Slice", squares, g.ints(-1), g.ints(-(2**31)), g.ints(axis), g.ints(-1))
    return squares


def _rotated(g: Graph, squares: str, view: View, size_px: int) -> str:
    """Read each pixel where `augment.geometric` reads it, from four neighbours; outside lies each drawing's own paper."""
    from inkfold.augment import geometric  # noqa: PLC0415 - OpenCV: 160 ms

    motions = [
        geometric.rotate(size_px, each.args[0])
        if each.name == "rotate"
        else geometric.flip(size_px, left_right=each.name == "hflip")
        for each in view.operations
    ]
    coordinates = geometric.source_map(size_px, size_px, motions)
    x, y = (np.clip(axis, -1, size_px).astype(np.float64).ravel() for axis in coordinates)
    left, top = np.minimum(np.floor(x), size_px - 1), np.minimum(np.floor(y), size_px - 1)
    side = size_px + 2  # with a margin of paper
    first = ((top + 1) * side + left + 1).astype(np.int64)
    framed = _framed(g, squares, size_px)
    total = None
    for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = np.abs(1 - down - (y - top)) * np.abs(1 - across - (x - left))
        values = g.op("Gather", framed, g.const((first + down * side + across).astype(np.int32)), axis=2)
        part = g.op("Mul", values, g.const(weight, np.float32))
        total = part if total is None else g.op("Add", total, part)
    assert total is not None
    return g.op("Reshape", g.op("Round", total), g.ints(0, 0, size_px, size_px))


def _framed(g: Graph, squares: str, size_px: int) -> str:
    """Put a pixel of paper around squares, and flatten them: (n, 3, (size + 2)^2)."""
    paper = add_paper(g, squares)
    across = g.op("Expand", paper, g.ints(1, 1, 1, size_px))
    down = g.op("Expand", paper, g.ints(1, 1, size_px + 2, 1))
    tall = g.op("Concat", across, squares, across, axis=2)
    return g.op("Reshape", g.op("Concat", down, tall, down, axis=3), g.ints(0, 0, -1))
