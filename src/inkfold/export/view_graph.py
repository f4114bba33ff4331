"""A test-time view that draws nothing, as ONNX nodes: what `augment.render` does to squares, to the last grey level."""

import numpy as np

from inkfold.augment.views import View
from inkfold.errors import ExportError
from inkfold.export.graph import Graph
from inkfold.export.preprocess_graph import add_paper


def add_view(g: Graph, squares: str, view: View, size_px: int) -> str:
    """Show squares as a view has them.

    Args:
        g: The graph.
        squares: (n, 3, size, size).
        view: Flips and rotations by fixed angles.
        size_px: The side.

    Returns:
        The same shape.

    Raises:
        ExportError: If the view does anything else.
    """
    known = all(one.p == 1 and one.is_fixed and one.name in ("hflip", "vflip", "rotate") for one in view.operations)
    if not known:
        raise ExportError(
            f"tta: '{view}' is more than flips and rotations by fixed angles, which is all that fits into a file. "
            "Leave test-time views out: --without-tta."
        )
    if any(one.name == "rotate" for one in view.operations):
        return _rotated(g, squares, view, size_px)
    for one in view.operations:
        squares = g.op("Slice", squares, g.ints(-1), g.ints(-(2**31)), g.ints(3 if one.name == "hflip" else 2), g.ints(-1))
    return squares


def _rotated(g: Graph, squares: str, view: View, size_px: int) -> str:
    """Read each pixel where `warp` reads it, from four neighbours; outside lies each drawing's own paper."""
    from inkfold.augment import geometric as warp  # noqa: PLC0415 - OpenCV: 160 ms

    motions = [
        warp.rotate(size_px, one.args[0]) if one.name == "rotate" else warp.flip(size_px, left_right=one.name == "hflip")
        for one in view.operations
    ]
    x, y = (np.clip(one, -1, size_px).astype(np.float64).ravel() for one in warp.source_map(size_px, size_px, motions))
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
    """Put a pixel of paper around squares, and lay them flat: (n, 3, (size + 2)^2)."""
    paper = add_paper(g, squares)
    across = g.op("Expand", paper, g.ints(1, 1, 1, size_px))
    down = g.op("Expand", paper, g.ints(1, 1, size_px + 2, 1))
    tall = g.op("Concat", across, squares, across, axis=2)
    return g.op("Reshape", g.op("Concat", down, tall, down, axis=3), g.ints(0, 0, -1))
