import io
import sys
import types

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image, ImageOps

from inkfold.data.from_memory import DrawingSource, as_pixels, describe, draw, files_of, read_drawings, table_columns
from inkfold.errors import DataError
from inkfold.images.decode import decode_image
from inkfold.images.formats import BrokenImage
from inkfold.images.strokes import Sketch

PAGE = np.random.default_rng(0).integers(0, 256, (6, 8), dtype=np.uint8)
COLOURS = np.stack([PAGE, PAGE[::-1], PAGE[:, ::-1]], axis=-1)


def contents(given, **options):
    return [drawing.content for drawing in read_drawings(given, **options)]


def png(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


ONE = {
    "uint8": PAGE,
    "one channel": PAGE[..., None],
    "whole numbers": PAGE.astype(np.int64),
    "float16": (PAGE / 255).astype(np.float16),
    "float32": (PAGE / 255).astype(np.float32),
    "float64": PAGE / 255,
    "a view": np.repeat(PAGE, 2, axis=1)[:, ::2],
    "tensor": torch.from_numpy(PAGE),
    "tensor of one channel": torch.from_numpy(PAGE)[None] / 255,
    "Pillow": Image.fromarray(PAGE),
    "Pillow, 32 bits": Image.fromarray(PAGE.astype(np.int32)),
}


@pytest.mark.parametrize("kind", ONE)
def test_one_picture_gives_its_pixels(kind):
    [pixels] = contents(ONE[kind])
    assert (pixels.dtype, pixels.flags.c_contiguous) == (np.uint8, True)
    np.testing.assert_array_equal(pixels, PAGE)


@pytest.mark.parametrize(
    "given", [COLOURS, COLOURS / 255, torch.from_numpy(COLOURS).permute(2, 0, 1), Image.fromarray(COLOURS)], ids=type
)
def test_colours_stay_in_their_order(given):
    np.testing.assert_array_equal(contents(given)[0], COLOURS)


OBJECTS = np.empty(2, object)
OBJECTS[:] = [Image.fromarray(PAGE), PAGE]

MANY = {
    "list": [PAGE, PAGE],
    "tuple": (PAGE, PAGE),
    "stack": np.stack([PAGE, PAGE]),
    "stack with channels": np.stack([PAGE, PAGE])[..., None],
    "channels first": torch.from_numpy(np.stack([PAGE, PAGE]))[:, None],
    "object array": OBJECTS,
    "series": pd.Series([PAGE, PAGE]),
    "frame": pd.DataFrame({"image": [PAGE, PAGE], "label": [1, 2]}),
    "generator": None,
    "undecoded": [{"bytes": png(PAGE), "path": None}] * 2,
    "arrow": pa.table({"image": [png(PAGE)] * 2, "x": [1, 2]}),
}


@pytest.mark.parametrize("kind", MANY)
def test_many_are_read_one_by_one(kind):
    given = MANY[kind] if kind != "generator" else (PAGE for _ in range(2))
    source = read_drawings(given)
    assert source.count == (None if kind == "generator" else 2)
    found = [one.content if isinstance(one.content, np.ndarray) else decode_image(one.content) for one in source]
    assert len(found) == 2
    for pixels in found:
        np.testing.assert_array_equal(pixels, PAGE)


def test_a_generator_is_read_as_far_as_it_is_asked_for_and_may_reuse_its_array():
    drawn, page = [], np.zeros((2, 2), np.uint8)

    def pages():
        for value in range(5):
            drawn.append(value)
            page[:] = value
            yield page

    three = [drawing for drawing, _ in zip(read_drawings(pages()), range(3), strict=False)]
    assert [int(drawing.content[0, 0]) for drawing in three] == [0, 1, 2]
    assert len(drawn) < 5


def test_a_datasets_column_is_read_row_by_row_without_the_others(monkeypatch):
    asked = []

    class Dataset:
        column_names = ("image", "label")

        def __len__(self):
            return 2

        def select_columns(self, names):
            asked.append(names)
            return self

        def __iter__(self):
            return iter([{"image": Image.fromarray(PAGE), "label": 0}] * 2)

    Dataset.__module__ = "datasets.arrow_dataset"
    source = read_drawings(Dataset())
    assert (source.count, asked) == (2, [["image"]])
    for _ in range(2):  # it can be read again
        assert [drawing.content.shape for drawing in source] == [PAGE.shape] * 2
    assert "datasets" not in sys.modules


def test_true_is_white_and_alpha_is_laid_on_white():
    mask = PAGE > 128
    np.testing.assert_array_equal(contents(mask)[0], mask * 255)
    np.testing.assert_array_equal(contents(Image.fromarray(mask))[0], mask * 255)
    strokes = np.zeros((4, 4, 4), np.uint8)
    strokes[1, :, 3] = 255  # black strokes on nothing
    expected = np.full((4, 4, 3), 255, np.uint8)
    expected[1] = 0
    np.testing.assert_array_equal(contents(strokes)[0], expected)
    np.testing.assert_array_equal(contents(Image.fromarray(strokes))[0], expected)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "La", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16"]
)
def test_every_mode_of_pillow_becomes_pixels(mode):
    base = Image.fromarray(PAGE)
    through = {"RGBa": "RGBA", "La": "LA", "LAB": "RGB", "HSV": "RGB", "PA": "P"}.get(mode)
    image = Image.new(mode, (8, 6)) if mode in ("LAB", "PA") else (base.convert(through) if through else base).convert(mode)
    [pixels] = contents(image)
    assert (pixels.dtype, pixels.shape[:2]) == (np.uint8, (6, 8))


def test_an_opened_picture_stands_upright_as_its_file_does_and_a_derived_one_stays():
    tags = Image.Exif()
    tags[0x0112] = 6
    data = png(PAGE, exif=tags)
    opened = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(contents(opened)[0], decode_image(data))
    np.testing.assert_array_equal(contents(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))[0], decode_image(data))
    np.testing.assert_array_equal(contents(Image.open(io.BytesIO(data)).rotate(180))[0], PAGE[::-1, ::-1])


def test_files_are_read_later_and_what_is_in_memory_is_copied(tmp_path):
    (tmp_path / "a.png").write_bytes(png(PAGE))
    assert contents(tmp_path / "a.png") == contents(str(tmp_path)) == [str(tmp_path / "a.png")]
    assert contents([tmp_path / "gone.png", "gone.png"]) == [str(tmp_path / "gone.png"), "gone.png"]
    assert contents(np.array(["a.png", "b.png"])) == contents(pa.array(["a.png", "b.png"])) == ["a.png", "b.png"]
    with (tmp_path / "a.png").open("rb") as file:
        assert contents(file) == [png(PAGE)]
    for data in (png(PAGE), bytearray(png(PAGE)), memoryview(png(PAGE)), io.BytesIO(png(PAGE))):
        assert contents(data) == [png(PAGE)]
    page = PAGE.copy()
    [pixels] = contents(page)
    page[:] = 0
    np.testing.assert_array_equal(pixels, PAGE)


def test_a_directory_is_listed_and_an_empty_one_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no drawings below it"):
        files_of(tmp_path)
    with pytest.raises(DataError, match="neither a drawing nor a directory"):
        read_drawings(tmp_path / "gone")
    (tmp_path / "b.png").write_bytes(png(PAGE))
    assert files_of(tmp_path) == (["b.png"], [str(tmp_path / "b.png")])
    assert read_drawings(tmp_path / "b.png").single


LINE = '{"word": "line", "recognized": true, "drawing": [[[10, 200], [20, 200]]]}'


@pytest.mark.parametrize(
    "given",
    [
        LINE,
        LINE.encode(),
        {"drawing": [[[10, 200], [20, 200]]]},
        {"strokes": [[[10, 20], [200, 200]]], "width": 256, "height": 256},
    ],
)
def test_strokes_stay_strokes_until_their_style_is_known(given):
    [sketch] = contents(given)
    assert isinstance(sketch, Sketch)
    assert contents([sketch]) == [sketch]
    page = draw(sketch)
    assert (page.shape, page.min(), page.max()) == ((512, 512), 0, 255)
    thicker = draw(sketch, {"line_width_fraction": 0.1, "margin_fraction": 0.05, "ink": 0, "paper": 255})
    assert thicker.mean() < page.mean()


def test_a_file_of_lines_is_many_drawings_and_an_svg_of_lines_is_one(tmp_path):
    (tmp_path / "lines.ndjson").write_text(f"{LINE}\n\n{LINE}\nno json\n")
    source = read_drawings(tmp_path / "lines.ndjson")
    assert source.count is None
    with pytest.raises(DataError, match=r"lines\.ndjson\[2\]: got .*'no json', expected a line of JSON"):
        list(source)
    with pytest.raises(DataError, match=r"drawings\[0\]: got .*, which holds many drawings"):
        contents([str(tmp_path / "lines.ndjson")])
    (tmp_path / "line.svg").write_text('<svg viewBox="0 0 9 9"><path d="M1 1L8 8"/></svg>')
    (tmp_path / "curve.svg").write_text('<svg viewBox="0 0 9 9"><path d="M1 1C2 2 3 3 4 4"/></svg>')
    line, curve, gone = contents([str(tmp_path / name) for name in ("line.svg", "curve.svg", "gone.svg")])
    assert isinstance(line, Sketch)
    assert (curve.kind, "lines only" in str(curve)) == ("unsupported", True)
    assert gone == str(tmp_path / "gone.svg")


def test_a_picture_that_is_cut_short_is_broken_and_not_an_error_of_the_caller():
    [content] = contents(
        [Image.open(io.BytesIO(png(np.random.default_rng(0).integers(0, 255, (99, 99), dtype=np.uint8))[:2000]))]
    )
    assert isinstance(content, BrokenImage)
    assert "can't be decoded" in str(content)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (5, "drawings: got int 5, expected a path, a file's bytes"),
        (None, "drawings: got None, expected"),
        ([PAGE, 5], r"drawings\[1\]: got int 5, expected a path"),
        ([None], r"drawings\[0\]: got None, expected"),
        ([[1, 2]], r"drawings\[0\]: got list of 2, expected"),
        ({1, 2}, "drawings: got set of 2, whose order isn't known, expected a list"),
        (PAGE.astype(float), "got float64 .6, 8. from .* expected floats 0 to 1. Divide by 255"),
        (np.full((4, 4), -0.5), "from -0.5 to -0.5, expected floats 0 to 1"),
        (np.full((4, 4), np.nan), "expected floats 0 to 1"),
        (np.full((4, 4), 300), "from 300 to 300, expected whole numbers 0 to 255"),
        (np.zeros((4, 4), complex), "got complex128 .4, 4., expected uint8"),
        ([np.zeros((3, 5, 5, 3), np.uint8)], r"drawings\[0\]: got uint8 \(3, 5, 5, 3\), expected uint8"),
        (np.zeros(4, np.uint8), "got uint8 .4,., expected"),
        (np.zeros((2, 3, 4, 5, 6), np.uint8), "got uint8 .2, 3, 4, 5, 6., expected"),
        (np.zeros((0, 4), np.uint8), "got uint8 .0, 4., expected"),
        (io.StringIO("text"), "drawings: got a file that is opened as text, expected one of bytes"),
        ({"word": "cat"}, "drawings: got the keys 'word', expected"),
        (pd.DataFrame({"a": [1], "b": [2]}), "without a column of drawings.*its columns are 'a', 'b'. Name it: column=NAME"),
    ],
)
def test_what_is_no_drawing_is_one_line_with_its_place(given, words):
    with pytest.raises(DataError, match=words) as caught:
        contents(given)
    assert "\n" not in str(caught.value)


def test_a_tables_column_is_found_by_its_name_or_named():
    frame = pd.DataFrame({"x": ["a.png"], "File Name": ["b.png"], "label": ["c"]})
    assert contents(frame) == ["b.png"]
    assert contents(frame, column="x") == ["a.png"]
    assert contents(frame[["x"]]) == ["a.png"]
    assert table_columns(frame) == ["x", "File Name", "label"]
    assert table_columns([1]) == []
    with pytest.raises(DataError, match="without a column 'y'; its columns are 'x', 'File Name', 'label'"):
        contents(frame, column="y")
    with pytest.raises(DataError, match="got list of 1 and column='x', expected a table"):
        contents(["a.png"], column="x")


def test_names_are_noted_as_drawings_are_read():
    source = read_drawings(["a.png", PAGE]).with_names()
    assert isinstance(read_drawings(source), DrawingSource)
    assert source.names == []
    list(source)
    assert source.names == ["a.png", "drawings[1]"]


def test_values_are_described_in_a_few_words():
    assert describe("x" * 100) == "str " + repr("x" * 100)[:57] + "..."
    assert describe(types.SimpleNamespace()) == "types.SimpleNamespace"
    assert describe(np.zeros((2, 3))) == "numpy.ndarray float64 (2, 3)"
    with pytest.raises(DataError, match=r"here: got uint8 \(2, 2, 2\)"):
        as_pixels(np.zeros((2, 2, 2), np.uint8), "here")
