"""Takes drawings in any form that people have them in from Python, and gives each as one of four kinds of content.

`read_drawings` is the one place that knows the forms; whatever takes drawings calls it. Pandas, polars, pyarrow, datasets and
PyTorch are recognised by where their types come from and are never imported. Strokes stay strokes until it is known in whose
line style they are drawn: `draw` does that as the server does it.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, final

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from inkfold.data.paths import list_images
from inkfold.errors import DataError
from inkfold.images.colour import Pixels
from inkfold.images.formats import BrokenImage
from inkfold.images.orientation import UPRIGHT, info_orientation, upright
from inkfold.images.transparency import flatten

if TYPE_CHECKING:
    from inkfold.images.strokes import Sketch

EXPECTED = (
    "a path, a file's bytes, a Pillow image, an array (h, w), (h, w, 3) or (h, w, 4) of uint8, bool or floats 0 to 1, an open "
    "file, or strokes"
)
EXPECTED_MANY = f"{EXPECTED}; or a sequence, a generator, a table or a stack of arrays of these"
IMAGE_COLUMNS = (
    "image_path",
    "image",
    "img",
    "drawing",
    "picture",
    "path",
    "file_path",
    "filepath",
    "file",
    "file_name",
    "filename",
)
CHANNELS = (1, 3, 4)
FIRST_KEPT = 12  # of drawings that are shown beside their answers
STROKE_FILES, LINE_FILES = (".svg",), (".ndjson", ".jsonl")
FLOAT_SLACK = 1e-3  # resizing overshoots 0 and 1 by less

Content: TypeAlias = "str | bytes | Pixels | Sketch | BrokenImage"


@final
@dataclass(frozen=True, slots=True)
class Drawing:
    """One drawing as it was given.

    Attributes:
        name: The path of a file, else its place, such as `drawings[3]`; for messages.
        content: The path of a file as text; a file's bytes; opaque upright pixels of uint8, (h, w) or (h, w, 3) in RGB order;
            strokes; or why a picture that was given can't be read.
    """

    name: str
    content: Content


@final
@dataclass(frozen=True, slots=True)
class DrawingSource:
    """Drawings in one of the forms that people have them in; each is read when the iteration comes to it.

    Attributes:
        count: How many there are; None for generators and other iterators, which can be read only once.
        items: What was given for each drawing.
        what: Name of the argument that holds them, for messages.
        single: Whether one drawing was given by itself.
        names: The names of the drawings that were read so far; None where they aren't noted.
        first: The first drawings that were read, `FIRST_KEPT` at the most; None where they aren't kept.
    """

    count: int | None
    items: Iterable[Any]
    what: str = "drawings"
    single: bool = False
    names: list[str] | None = None
    first: list[Drawing] | None = None

    def __iter__(self) -> Iterator[Drawing]:
        """Give the drawings in their order, one at a time.

        Raises:
            DataError: At the first that isn't a drawing, with its place.
        """
        for place, item in enumerate(self.items):
            drawing = as_drawing(item, self.what if self.single else f"{self.what}[{place}]")
            if self.names is not None:
                self.names.append(drawing.name)
            if self.first is not None and len(self.first) < FIRST_KEPT:
                self.first.append(drawing)
            yield drawing

    def with_names(self) -> "DrawingSource":
        """Return the same drawings, whose names are noted in `names` as they are read, and the first of them in `first`."""
        return replace(self, names=[], first=[])


def read_drawings(given: Any, column: str | None = None, what: str = "drawings") -> DrawingSource:
    """Recognise drawings, whatever form they are given in.

    Args:
        given: One drawing or many. One: the path of a file; a file's bytes; a Pillow image of any mode; an array (h, w),
            (h, w, 1), (h, w, 3) or (h, w, 4) of uint8, bool (True is white), whole numbers 0 to 255 or floats 0 to 1, where
            RGB is the order and alpha is laid on white; a PyTorch tensor, its channels first; an open file; strokes as
            `images.stroke_formats` reads them. Many: a directory; a file of Quick, Draw! lines (.ndjson); an array
            (n, h, w) or (n, h, w, channels); a sequence, generator or column of single ones; a `datasets.Dataset`, or a
            table of pandas, polars or pyarrow, with a column of them.
        column: The table's column that holds the drawings; None looks for it.
        what: Name of the argument, for messages.

    Returns:
        The drawings, none of which has been read yet.

    Raises:
        DataError: If it is no form of drawings, with what was got and what is expected.
    """
    if isinstance(given, DrawingSource):
        return given
    if isinstance(given, str | os.PathLike):
        return _from_path(given, what)
    if _is_table(given):
        return _from_table(given, column, what)
    if column is not None:
        raise DataError(f"{what}: got {describe(given)} and column={column!r}, expected a table with that column.")
    if _is_array(given):
        return _from_array(given, what)
    if _is_single(given):
        return DrawingSource(1, [given], what, single=True)
    return DrawingSource(*_values(given, what), what)


def as_drawing(item: Any, name: str) -> Drawing:
    """Read what was given for one drawing.

    Args:
        item: One drawing, in any form that `read_drawings` takes for one.
        name: Its place, such as `drawings[3]`, for messages.

    Raises:
        DataError: If it isn't a drawing, with what was got and what is expected.
    """
    if isinstance(item, str | os.PathLike):
        return _from_text(os.fspath(item), name)
    if isinstance(item, Mapping):
        return _from_mapping(item, name)
    return Drawing(name, _content(item, name))


def _content(item: Any, name: str) -> Content:
    """Read a drawing that is neither a text nor a mapping."""
    if isinstance(item, Image.Image):
        return _pillow_pixels(item)
    if isinstance(item, bytes | bytearray | memoryview):
        return _from_bytes(bytes(item), name)
    if hasattr(item, "read"):
        return _from_bytes(_read_open(item, name), name)
    if _is_array(item):
        return as_pixels(item, name)
    if not _is_sketch(item):
        raise _refused(name, item, EXPECTED)
    sketch: Sketch = item
    return sketch


def as_pixels(values: Any, name: str) -> Pixels:
    """Turn an array of one picture into opaque pixels of 8 bits, which share no memory with it.

    Args:
        values: (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), or a PyTorch tensor with its channels first: uint8, bool, whole
            numbers 0 to 255, or floats 0 to 1.
        name: Its place, for messages.

    Returns:
        (h, w), or (h, w, 3) in RGB order.

    Raises:
        DataError: If its shape, type or range is another one.
    """
    array = _numpy(values)
    if _is_tensor(values) and array.ndim == 3 and array.shape[0] in CHANNELS:
        array = np.moveaxis(array, 0, -1)
    shown = f"{array.dtype} {array.shape}"
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in CHANNELS) or not array.size:
        raise DataError(f"{name}: got {shown}, expected uint8, bool or floats 0 to 1 of shape (h, w), (h, w, 3) or (h, w, 4).")
    levels = _levels(array, name, shown)
    if levels.ndim == 3 and levels.shape[2] != 3:
        levels = levels[..., 0] if levels.shape[2] == 1 else flatten(levels)
    return np.ascontiguousarray(levels)


def draw(sketch: "Sketch", look: Mapping[str, Any] | None = None) -> UInt8[np.ndarray, "side side"]:
    """Draw strokes on a page, exactly as the server draws them.

    Args:
        sketch: The strokes.
        look: The line style of a model's training drawings; None takes the usual one, black lines of 2 % of the page's side.
    """
    from inkfold.images.line_style import UNKNOWN  # noqa: PLC0415 - OpenCV: 160 ms
    from inkfold.images.strokes import draw_page  # noqa: PLC0415 - likewise

    return draw_page(sketch, UNKNOWN if look is None else look)


def describe(value: Any) -> str:
    """Say in a few words what was got instead of something else: its type, with its shape, length or value."""
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
    if value is None:
        return "None"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{name} {value.dtype} {tuple(value.shape)}"
    text = repr(value) if isinstance(value, str | bytes | int | float | bool) else ""
    text = text if len(text) <= 60 else text[:57] + "..."
    size = f" of {len(value)}" if hasattr(value, "__len__") else ""
    return f"{name} {text}" if text else name + size


def table_columns(table: Any) -> list[str]:
    """Return the names of a table's columns; of any object that isn't a table of pandas, polars, pyarrow or datasets, none."""
    if not _is_table(table):
        return []
    names = table.column_names if hasattr(table, "column_names") else table.columns
    return [*map(str, names if names is not None else next(iter(table), {}))]


def column_values(table: Any, name: str) -> tuple[int | None, Iterable[Any]]:
    """Return how many values a table's column has, None where that isn't known, and the values, which are read one by one."""
    library = _library(table)
    count = len(table) if hasattr(table, "__len__") else table.num_rows if hasattr(table, "num_rows") else None
    if library == "pyarrow":
        return count, _Again(lambda: (value.as_py() for value in table.column(name)))
    if library == "datasets":
        narrow = table.select_columns([name]) if hasattr(table, "select_columns") else table
        return count, _Again(lambda: (row[name] for row in narrow))
    column = table.get_column(name) if library == "polars" else table[name]
    return _values(column, name)


@final
@dataclass(frozen=True, slots=True)
class _Again:
    """Values that are read anew in each iteration."""

    start: Callable[[], Iterator[Any]]

    def __iter__(self) -> Iterator[Any]:
        return self.start()


class _Line(str):
    """A line of a file of strokes, whatever is in it."""

    __slots__ = ()


def _library(value: Any) -> str:
    """Name the library that a value's type comes from."""
    return type(value).__module__.partition(".")[0]


def _is_table(value: Any) -> bool:
    library = _library(value)
    if library in ("pandas", "polars"):
        return hasattr(value, "columns")
    return library in ("pyarrow", "datasets") and hasattr(value, "column_names")


def _is_tensor(value: Any) -> bool:
    return _library(value) == "torch" and hasattr(value, "detach")


def _is_array(value: Any) -> bool:
    """Return whether a value is an array of numbers, which a column of a table isn't, nor an array of paths."""
    if _is_tensor(value):
        return True
    if isinstance(value, Image.Image) or _library(value) in ("pandas", "polars", "pyarrow") or not hasattr(value, "__array__"):
        return False
    return getattr(value, "dtype", None) is None or np.dtype(value.dtype).kind in "biufc"


def _is_sketch(value: Any) -> bool:
    strokes = sys.modules.get("inkfold.images.strokes")  # who has a sketch has imported it
    return strokes is not None and isinstance(value, strokes.Sketch)


def _is_single(given: Any) -> bool:
    return (
        isinstance(given, Image.Image | bytes | bytearray | memoryview | Mapping) or hasattr(given, "read") or _is_sketch(given)
    )


def _numpy(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu() if _is_tensor(value) else value)


def _from_path(given: "str | os.PathLike[str]", what: str) -> DrawingSource:
    path = Path(given)
    if isinstance(given, str) and _is_stroke_text(given):
        return DrawingSource(1, [given], what, single=True)
    if path.suffix.lower() in LINE_FILES and path.is_file():
        return DrawingSource(None, _Again(lambda: _lines(path)), path.name)
    files = files_of(path)[1]
    return DrawingSource(len(files), files, what, single=path.is_file())


def files_of(path: Path) -> tuple[list[str], list[str]]:
    """List a directory's drawings.

    Args:
        path: A directory of drawings, or a single drawing.

    Returns:
        Names of the drawings relative to the directory, and paths of their files.

    Raises:
        DataError: If there are no drawings.
    """
    if path.is_file():
        return [path.name], [str(path)]
    if not path.is_dir():
        raise DataError(f"{path}: neither a drawing nor a directory. Check the path.")
    names, problems = list_images(path)
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        raise DataError(errors)
    if not len(names):
        raise DataError(f"{path}: no drawings below it. Expected files such as .png or .jpg.")
    return names.tolist(), [str(path / name) for name in names.tolist()]


def _lines(path: Path) -> Iterator[str]:
    """Give the lines of a file of strokes that aren't blank."""
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from (_Line(line) for line in file if line.strip())


def _from_table(table: Any, column: str | None, what: str) -> DrawingSource:
    names = table_columns(table)
    found = column if column is not None else _image_column(names)
    if found not in names:
        wanted = repr(column) if column is not None else f"of drawings, such as {IMAGE_COLUMNS[0]!r} or {IMAGE_COLUMNS[1]!r}"
        shown = ", ".join(map(repr, names[:20])) + (" ..." if len(names) > 20 else "")
        raise DataError(f"{what}: got a table without a column {wanted}; its columns are {shown}. Name it: column=NAME.")
    return DrawingSource(*column_values(table, found), what)


def _image_column(names: Sequence[str]) -> str:
    """Choose the column that holds drawings, or their paths, by its name; the only one, whatever its name."""
    if len(names) == 1:
        return names[0]
    lowered = {name.lower().replace(" ", "_"): name for name in reversed(names)}
    return next((lowered[name] for name in IMAGE_COLUMNS if name in lowered), "")


def _from_array(given: Any, what: str) -> DrawingSource:
    """Take an array as one picture if its shape is a picture's, otherwise as a stack of them."""
    array = _numpy(given)
    is_one = array.ndim == 2 or (array.ndim == 3 and array.shape[0 if _is_tensor(given) else 2] in CHANNELS)
    if is_one:
        return DrawingSource(1, [given], what, single=True)
    if array.ndim == 3:
        return DrawingSource(len(array), array, what)
    if array.ndim == 4 and (array.shape[3] in CHANNELS or array.shape[1] in CHANNELS):
        first = array.shape[1] in CHANNELS and (_is_tensor(given) or array.shape[3] not in CHANNELS)
        return DrawingSource(len(array), np.moveaxis(array, 1, -1) if first else array, what)
    shown = f"{array.dtype} {array.shape}"
    raise DataError(
        f"{what}: got {shown}, expected (h, w), (h, w, 3), (n, h, w) or (n, h, w, channels) with 1, 3 or 4 channels."
    )


def _values(given: Any, what: str) -> tuple[int | None, Iterable[Any]]:
    """Return the number of the values that something iterable has, None where that isn't known, and the values."""
    if isinstance(given, Set):
        raise DataError(f"{what}: got {describe(given)}, whose order isn't known, expected a list.")
    for method in ("tolist", "to_list", "to_pylist"):  # of pandas, polars, pyarrow
        if _library(given) in ("pandas", "polars", "pyarrow") and hasattr(given, method):
            values = getattr(given, method)()
            if isinstance(values, list):
                return len(values), values
    if not isinstance(given, Iterable) and not hasattr(given, "__getitem__"):
        raise _refused(what, given, EXPECTED_MANY)
    return (len(given) if isinstance(given, Sized) else None), given


def _from_text(text: Any, name: str) -> Drawing:
    if not isinstance(text, str):
        raise _refused(name, text, EXPECTED)
    if isinstance(text, _Line) and not text.lstrip().startswith("{"):
        raise DataError(f'{name}: got {describe(text.strip())}, expected a line of JSON: {{"drawing": ...}}.')
    if isinstance(text, _Line) or _is_stroke_text(text):
        return Drawing(name, _strokes(text, name))
    suffix = os.path.splitext(text)[1].lower()  # noqa: PTH122 - many times as fast
    if suffix in STROKE_FILES:
        return Drawing(text, _from_stroke_file(text))
    if suffix in LINE_FILES:
        raise DataError(f"{name}: got {text!r}, which holds many drawings, expected one. Give the file by itself.")
    return Drawing(text, text)


def _from_stroke_file(path: str) -> Content:
    """Read an SVG of lines; any other SVG, or a file that can't be opened, is left to what reads pictures."""
    try:
        text = Path(path).read_text("utf-8", errors="replace")
    except OSError:
        return path
    try:
        return _read_strokes(text)
    except ValueError as error:
        return BrokenImage("unsupported", f"is an SVG that can't be drawn here: {error}.")


def _from_bytes(data: bytes, name: str) -> Content:
    head = data[:256].lstrip()
    if head.startswith((b"{", b"<svg", b"<?xml")):
        return _strokes(data.decode("utf-8", "replace"), name)
    return data


def _from_mapping(item: Mapping[Any, Any], name: str) -> Drawing:
    """Read strokes, or a picture as datasets keeps it undecoded: its file's bytes, or its path."""
    if item.keys() >= {"bytes", "path"} and item.keys() <= {"bytes", "path"}:
        inner = item["bytes"] if item["bytes"] is not None else item["path"]
        return as_drawing(inner, name)
    return Drawing(name, _strokes(item, name))


def _is_stroke_text(text: str) -> bool:
    if text[:1] not in ("{", "<", "M", "m", " ", "\n", "\t"):  # most texts are paths
        return False
    from inkfold.images.stroke_formats import looks_like_strokes  # noqa: PLC0415 - OpenCV: 160 ms

    return looks_like_strokes(text)


def _read_strokes(source: Any) -> "Sketch":
    from inkfold.images.stroke_formats import read_strokes  # noqa: PLC0415 - OpenCV: 160 ms

    return read_strokes(source)


def _strokes(source: Any, name: str) -> "Sketch":
    try:
        return _read_strokes(source)
    except ValueError as error:
        raise DataError(f"{name}: {error}.") from None


def _read_open(file: Any, name: str) -> bytes:
    data = file.read()
    if isinstance(data, str):
        if _is_stroke_text(data):
            return data.encode()
        raise DataError(f"{name}: got a file that is opened as text, expected one of bytes. Open it with mode 'rb'.")
    return bytes(data)


def _pillow_pixels(image: Image.Image) -> Content:
    """Turn a Pillow image of any mode into the pixels that its file would give; one that is read from a file stands upright."""
    from inkfold.images.depth import to_8_bits  # noqa: PLC0415

    try:
        image.load()
        if not all(image.size):
            return BrokenImage("empty", f"has {image.width} x {image.height} pixels, expected a picture.")
        is_turned_already = image.format in (None, "TIFF", "HEIF")  # no longer the file's picture, or turned by Pillow
        orientation = UPRIGHT if is_turned_already else info_orientation(image.info)
        return np.array(upright(to_8_bits(image, b""), orientation), order="C")
    except (OSError, ValueError, SyntaxError, MemoryError) as error:
        words = (str(error).splitlines() or [type(error).__name__])[0]
        return BrokenImage("unreadable", f"can't be decoded ({words}), expected an undamaged picture.")


def _levels(array: np.ndarray, name: str, shown: str) -> UInt8[np.ndarray, "h w *channels"]:
    """Scale numbers to 0..255, and refuse those whose range isn't known."""
    if array.dtype == np.uint8:
        return array.copy()
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "iuf":
        raise DataError(f"{name}: got {shown}, expected uint8, bool or floats 0 to 1.")
    lowest, highest = float(array.min()), float(array.max())
    if array.dtype.kind in "iu":
        if lowest < 0 or highest > 255:
            raise DataError(f"{name}: got {shown} from {lowest:g} to {highest:g}, expected whole numbers 0 to 255.")
        return array.astype(np.uint8)
    if not (lowest >= -FLOAT_SLACK and highest <= 1 + FLOAT_SLACK):  # a NaN isn't either
        hint = " Divide by 255." if lowest >= 0 and 1 < highest <= 255 else ""
        raise DataError(f"{name}: got {shown} from {lowest:g} to {highest:g}, expected floats 0 to 1.{hint}")
    single = array.astype(np.float32 if array.dtype.itemsize < np.dtype(np.float64).itemsize else np.float64)
    levels: np.ndarray = np.clip(np.rint(single * 255), 0, 255).astype(np.uint8)
    return levels


def _refused(name: str, value: Any, expected: str) -> DataError:
    return DataError(f"{name}: got {describe(value)}, expected {expected}.")
