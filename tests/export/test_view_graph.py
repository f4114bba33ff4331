import numpy as np
import pytest

from inkfold.augment.views import parse_view, render
from inkfold.errors import ExportError
from inkfold.export.graph import Graph
from inkfold.export.preprocess_graph import add_channels
from inkfold.export.view_graph import add_view
from toy_onnx import run_graph

SIZE = 24
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
    square = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    view, g = parse_view(text), Graph()
    shown = run_graph(g, {"images": square}, add_view(g, add_channels(g, "images"), view, SIZE)).transpose(0, 2, 3, 1)
    for pixels, one in zip(square, shown, strict=True):
        np.testing.assert_array_equal(one, render(pixels, view, b"", SIZE))


@pytest.mark.parametrize("text", ["rotate(15)", "hflip@0.5", "thin(1,1)", "scale(1.5,1.5)"])
def test_other_views_are_refused_with_the_way_out(text):
    with pytest.raises(ExportError, match="--without-tta"):
        add_view(Graph(), "x", parse_view(text), SIZE)
