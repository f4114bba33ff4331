"""What `images.ink_box` does, as ONNX nodes: the box around one drawing's ink, equal to the last pixel.

Components are found by spreading each cell's number to its neighbours until nothing changes, which takes as many rounds as
the longest component has cells along its strokes, at most some hundred.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from inkfold.export.graph import Graph
from inkfold.images import ink_box as rules
from inkfold.images.preprocess import CROP_MARGIN_FRACTION

INT64, FLOAT = 7, 1
CELLS = rules.GRID**2
END = 2**31


def add_crop(g: Graph, x: str, paper: str) -> str:
    """Crop one drawing to its ink and a margin, as `images.preprocess.crop_to_ink` does.

    Args:
        g: The graph of one drawing.
        x: The drawing, (1, 3, h, w), float32 in 0..255.
        paper: The page's colour, (1, 3, 1, 1).

    Returns:
        Name of the cropped drawing, (1, 3, h', w').
    """
    distance = g.op("ReduceMax", g.op("Abs", g.op("Sub", x, paper)), g.ints(0, 1), keepdims=0)
    half = g.op("Floor", g.op("Mul", g.op("ReduceMax", distance, keepdims=0), g.const(0.5, np.float32)))
    limits = [g.const(level, np.float32) for level in (rules.LEAST_CONTRAST, rules.MOST_CONTRAST)]
    inked = g.op("Cast", g.op("GreaterOrEqual", distance, g.op("Clip", half, *limits)), to=FLOAT)
    box = _ink_box(g, inked)
    sides = g.op("Sub", box["ends"], box["starts"])
    longer = g.op("Cast", g.op("ReduceMax", sides, keepdims=0), to=11)
    margin = g.op("Cast", g.op("Round", g.op("Mul", longer, g.const(CROP_MARGIN_FRACTION, np.float64))), to=INT64)
    starts = g.op("Max", g.op("Sub", box["starts"], margin), g.ints(0))
    return g.op("Slice", x, starts, g.op("Add", box["ends"], margin), g.ints(2, 3))


def _ink_box(g: Graph, inked: str) -> Mapping[str, str]:
    """Top and left (`starts`), bottom and right (`ends`) of the ink in (h, w); the whole page if there is none."""
    shape = g.op("Shape", inked)
    block = _divided_up(g, g.op("ReduceMax", shape, keepdims=0), g.const(rules.GRID, np.int64))
    cells = _divided_up(g, shape, block)
    areas = _areas(g, inked, shape, cells, block)
    kept = _kept_cells(g, areas, cells, block, inked)
    for axis in (0, 1):
        length = g.op("Gather", shape, g.const(axis, np.int64))
        places = g.op("Div", g.op("Range", g.const(0, np.int64), length, g.const(1, np.int64)), block)
        kept = g.op("Gather", kept, places, axis=axis)
    drawn = g.op("Mul", inked, kept)
    starts, ends = [], []
    for axis in (1, 0):
        line = g.op("ReduceMax", drawn, g.ints(axis), keepdims=0)
        starts.append(g.op("ArgMax", line, axis=0, keepdims=1))
        last = g.op("ArgMax", line, axis=0, keepdims=1, select_last_index=1)
        ends.append(g.op("Add", last, g.ints(1)))
    # Without ink all values are equal: the first of them is the first row, and the last one the last row.
    return {"starts": g.op("Concat", *starts, axis=0), "ends": g.op("Concat", *ends, axis=0)}


def _areas(g: Graph, inked: str, shape: str, cells: str, block: str) -> str:
    """Count the pixels with ink in each cell: (rows, columns)."""
    missing = g.op("Sub", g.op("Mul", cells, block), shape)
    padded = g.op("Pad", inked, g.op("Concat", g.ints(0, 0), missing, axis=0))
    rows, columns = (g.op("Slice", cells, g.ints(i), g.ints(i + 1)) for i in (0, 1))
    side = g.op("Unsqueeze", block, g.ints(0))
    blocks = g.op("Reshape", padded, g.op("Concat", rows, side, columns, side, axis=0))
    return g.op("ReduceSum", blocks, g.ints(1, 3), keepdims=0)


def _kept_cells(g: Graph, areas: str, cells: str, block: str, inked: str) -> str:
    """Mark the cells of the components that belong to the drawing: (rows, columns) of 0.0 and 1.0."""
    square = g.op("Reshape", _labels(g, areas, cells), cells)
    labels = g.op("Reshape", square, g.ints(-1))
    rows, columns = (g.op("Gather", cells, _int(g, i)) for i in (0, 1))
    place = g.op("Range", _int(g, 0), g.op("Mul", rows, columns), _int(g, 1))
    row = g.op("Div", place, columns)
    column = g.op("Sub", place, g.op("Mul", row, columns))
    flat = g.op("Cast", g.op("Reshape", areas, g.ints(-1)), to=INT64)

    def gathered(values: str, reduction: str, start: int, at_cells: str = labels) -> str:
        return g.op("ScatterElements", g.const(np.full(CELLS + 1, start, np.int64)), at_cells, values, reduction=reduction)

    one = _int(g, 1)
    margins = [g.op("Add", line, one) for line in (row, column)]
    margins += [g.op("Sub", count, line) for count, line in ((rows, row), (columns, column))]
    outermost = g.op("Mul", g.op("Min", *margins), _int(g, 100))
    band = _at_least(g, _times(g, g.op("Max", rows, columns), rules.STRIP_BAND), outermost)
    lines, sides = _lines(g, inked), []
    for line, along in zip(lines, _lines(g, square), strict=True):
        places = g.op("Div", g.op("Range", _int(g, 0), _length(g, line), one), block)
        sides.append(gathered(g.op("Cast", line, to=INT64), "add", 0, g.op("Gather", along, places)))
    page = {
        "rows": rows,
        "columns": columns,
        "block": block,
        "area": gathered(flat, "add", 0),
        "band_area": gathered(g.op("Mul", flat, g.op("Cast", band, to=INT64)), "add", 0),
        "top": gathered(row, "min", END),
        "left": gathered(column, "min", END),
        "bottom": gathered(g.op("Add", row, one), "max", 0),
        "right": gathered(g.op("Add", column, one), "max", 0),
    }
    measured = [(side, _length(g, line)) for side, line in zip(sides, lines, strict=True)]
    kept = g.op("Cast", g.op("And", _belongs(g, page, measured), g.const(np.arange(CELLS + 1) > 0)), to=FLOAT)
    return g.op("Reshape", g.op("Gather", kept, labels), cells)


def _lines(g: Graph, page: str) -> list[str]:
    """The outermost lines of a page (rows, columns): top, bottom, left, right."""
    return [g.op("Gather", page, _int(g, place), axis=axis) for axis in (0, 1) for place in (0, -1)]


def _length(g: Graph, line: str) -> str:
    return g.op("Squeeze", g.op("Shape", line))


def _labels(g: Graph, areas: str, cells: str) -> str:
    """Give the cells of each component the largest of their numbers, from 1; cells without ink get 0."""
    inked = g.op("Cast", g.op("Greater", areas, g.const(0.0, np.float32)), to=FLOAT)
    page = g.op("Concat", g.ints(1, 1), cells, axis=0)
    count = g.op("ReduceProd", cells, keepdims=0)
    numbers = g.op("Cast", g.op("Range", _int(g, 1), g.op("Add", count, _int(g, 1)), _int(g, 1)), to=FLOAT)
    mask = g.op("Reshape", inked, page)
    start = g.op("Mul", g.op("Reshape", numbers, page), mask)

    def spread(body: Graph, labels: str) -> str:
        return body.op("Mul", body.op("MaxPool", labels, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), mask)

    return g.op("Cast", g.settle(start, spread), to=INT64)


def _belongs(g: Graph, page: Mapping[str, str], sides: Sequence[tuple[str, str]]) -> str:
    """Decide which components are the drawing, as `images.ink_box._belongs` does, rule by rule."""
    area = page["area"]
    longer = g.op("Max", page["rows"], page["columns"])
    exists = g.op("Greater", area, _int(g, 0))

    def within(cells: str, percent: int) -> str:
        return _at_least(g, g.op("Mul", longer, _int(g, percent)), g.op("Mul", cells, _int(g, 100)))

    below = [g.op("Sub", page[count], page[start]) for count, start in (("rows", "top"), ("columns", "left"))]
    ends = (page["bottom"], below[0], page["right"], below[1])

    def in_corner(percent: int, across: int) -> str:
        nearer = [g.op("Min", *pair) for pair in (ends[:2], ends[2:])]
        return all_of(within(g.op("Min", *nearer), percent), within(g.op("Max", *nearer), across))

    def all_of(*parts: str) -> str:
        return _all(g, *parts)

    def without(chosen: str) -> str:
        return g.op("Not", chosen)

    def covers(percent: int) -> list[str]:
        return [_at_least(g, _times(g, pixels, 100), _times(g, length, percent)) for pixels, length in sides]

    along = covers(rules.STRIP_COVER)
    ends_only = all_of(*(_any(g, side, without(end)) for side, end in zip(along, covers(rules.STRIP_ENDS), strict=True)))
    count = g.op("Sum", *(g.op("Cast", side, to=FLOAT) for side in along))
    few_sides = all_of(*(g.op(op, count, g.const(n, np.float32)) for op, n in (("GreaterOrEqual", 1), ("LessOrEqual", 3))))
    height, width = g.op("Sub", page["bottom"], page["top"]), g.op("Sub", page["right"], page["left"])
    surround = all_of(*covers(rules.SURROUND_COVER))
    inside = _at_least(g, _times(g, page["band_area"], 100), _times(g, area, rules.STRIP_INSIDE))
    strip = all_of(exists, inside, few_sides, ends_only)
    covered = g.op("Mul", g.op("Mul", height, width), g.op("Mul", page["block"], page["block"]))
    filled = _at_least(g, _times(g, area, 100), _times(g, covered, rules.HOLE_FILLED))
    small = all_of(within(height, rules.HOLE_SIDE), within(width, rules.HOLE_SIDE))
    largest = _most(g, area, all_of(exists, without(_any(g, surround, strip))))
    slight = _at_least(g, _times(g, largest, rules.HOLE_AREA), _times(g, area, 100))
    hole = all_of(exists, small, slight, filled, in_corner(rules.HOLE_BAND, 100))
    hole = all_of(hole, _at_least(g, _int(g, rules.MOST_HOLES), _sum(g, _int(g, 1), hole)))
    hole = _in_row(g, page, hole, [within(end, rules.HOLE_BAND) for end in ends], within)
    solid = all_of(exists, without(_any(g, surround, strip, hole)))
    largest = _most(g, area, solid)
    speck = all_of(solid, _at_least(g, _times(g, largest, rules.SPECK_AREA), _times(g, area, 100)))
    slight = _at_least(g, _times(g, largest, rules.MARGIN_AREA), _times(g, area, 100))
    marginal = all_of(solid, without(speck), in_corner(rules.MARGIN_BAND, rules.MARGIN_ACROSS), slight)
    anchors = all_of(solid, without(speck), without(marginal))
    gaps, _ = _gaps(g, page, anchors)
    inner = all_of(anchors, without(in_corner(rules.MARGIN_BAND, rules.MARGIN_ACROSS)))
    any_inner = g.op("Cast", g.op("ReduceMax", g.op("Cast", inner, to=6), keepdims=0), to=9)
    _, distances = _gaps(g, page, _any(g, inner, all_of(anchors, without(any_inner))))
    clear = all_of(*(_any(g, without(a), without(within(d, rules.STRIP_GAP))) for a, d in zip(along, distances, strict=True)))
    drawn = _sum(g, area, all_of(exists, without(_any(g, surround, strip))))

    def far(chosen: str, percent: int) -> str:
        return all_of(chosen, without(within(gaps, percent)))

    def few(chosen: str, percent: int) -> str:
        return _at_least(g, _times(g, drawn, percent), _times(g, _sum(g, area, chosen), 100))

    far_speck, far_hole = far(speck, rules.SPECK_GAP), far(hole, rules.HOLE_GAP)
    far_marginal = far(marginal, rules.MARGIN_GAP)
    few_specks = few(speck, rules.SPECKS_IN_ALL)
    dropped = _any(
        g,
        surround,
        all_of(strip, clear),
        all_of(far_hole, few(far_hole, rules.HOLES_IN_ALL)),
        all_of(far_speck, few_specks, few(far_speck, rules.FAR_SPECKS_IN_ALL)),
        all_of(far_marginal, few_specks, few(far_marginal, rules.MARGINS_IN_ALL)),
    )
    any_anchor = g.op("Cast", g.op("ReduceMax", g.op("Cast", anchors, to=6), keepdims=0), to=9)
    return all_of(exists, without(all_of(dropped, any_anchor)))


def _in_row(g: Graph, page: Mapping[str, str], chosen: str, bands: Sequence[str], within: Callable[[str, int], str]) -> str:
    """Return which of some components stand in a row, as `images.ink_box._Page.in_row` does."""
    rows = []
    for inside, side in zip(bands, ("top", "top", "left", "left"), strict=True):
        band, place = _all(g, chosen, inside), page[side]
        widest = _all(g, band, g.op("Equal", page["area"], _most(g, page["area"], band)))
        for start in (*_extent(g, place, place, band), _most(g, place, widest)):
            row = _all(g, band, within(g.op("Abs", g.op("Sub", place, start)), rules.HOLE_ROW))
            rows.append(_all(g, row, _at_least(g, _sum(g, _int(g, 1), row), _int(g, rules.FEWEST_HOLES))))
    return _any(g, *rows)


def _gaps(g: Graph, page: Mapping[str, str], anchors: str) -> tuple[str, list[str]]:
    """Measure how far each component is from the box around some of them, and that box from the page's sides, in cells."""
    top, bottom = _extent(g, page["top"], page["bottom"], anchors)
    left, right = _extent(g, page["left"], page["right"], anchors)
    gaps = (
        g.op("Sub", top, page["bottom"]),
        g.op("Sub", page["top"], bottom),
        g.op("Sub", left, page["right"]),
        g.op("Sub", page["left"], right),
    )
    ends = (g.op("Sub", page["rows"], bottom), g.op("Sub", page["columns"], right))
    return g.op("Max", *gaps, _int(g, 0)), [top, ends[0], left, ends[1]]


def _extent(g: Graph, starts: str, ends: str, chosen: str) -> tuple[str, str]:
    """The least of some components' starts and the most of their ends."""
    first = g.op("ReduceMin", g.op("Where", chosen, starts, _int(g, END)), keepdims=0)
    return first, g.op("ReduceMax", g.op("Where", chosen, ends, _int(g, 0)), keepdims=0)


def _int(g: Graph, value: int) -> str:
    return g.const(value, np.int64)


def _times(g: Graph, values: str, factor: int) -> str:
    return g.op("Mul", values, _int(g, factor))


def _at_least(g: Graph, values: str, limits: str) -> str:
    return g.op("GreaterOrEqual", values, limits)


def _all(g: Graph, first: str, *others: str) -> str:
    for other in others:
        first = g.op("And", first, other)
    return first


def _any(g: Graph, first: str, *others: str) -> str:
    for other in others:
        first = g.op("Or", first, other)
    return first


def _sum(g: Graph, values: str, chosen: str) -> str:
    return g.op("ReduceSum", g.op("Where", chosen, values, _int(g, 0)), keepdims=0)


def _most(g: Graph, values: str, chosen: str) -> str:
    return g.op("ReduceMax", g.op("Where", chosen, values, _int(g, 0)), keepdims=0)


def _divided_up(g: Graph, values: str, by: str) -> str:
    """Divide whole numbers and round up."""
    return g.op("Div", g.op("Sub", g.op("Add", values, by), _int(g, 1)), by)
