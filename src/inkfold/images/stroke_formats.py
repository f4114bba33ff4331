"""Reads drawings that are strokes: Quick, Draw! in both of its forms, the server's JSON, and SVG of straight lines.

What can't be read is a ValueError that says what was got and what was expected; callers say where.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.parsers import expat

import numpy as np
from jaxtyping import Float64

from inkfold.images.strokes import Sketch, Stroke

QUICK_DRAW_PX = 256.0  # side of the page of the simplified form
MOST_POINTS = 40_000
FARTHEST = 1e6
EXPECTED = '{"drawing": [[[x, ...], [y, ...]], ...]} as Quick, Draw! has it, or {"strokes": [[[x, y], ...], ...]}'
LINES = "paths of straight lines, polylines, polygons or lines"

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_PATH_TOKEN = re.compile(rf"\s*,?\s*([A-Za-z]|{_NUMBER})")
_PATH_DATA = rf"[Mm]\s*{_NUMBER}[\s,]*[-+\d.][MmLlHhVvZzCcSsQqTtAaeE\d\s,.+-]*\Z"
_STROKES = re.compile(rf"\s*(?:\{{\s*\"|<(?:svg|\?xml|!--)|{_PATH_DATA})")
_LENGTH = re.compile(rf"\s*({_NUMBER})\s*(?:px)?\s*$")
# Shapes and changes that lines can't stand for; what isn't named here, such as text or metadata, is left out.
_CURVED = frozenset({"circle", "ellipse", "rect", "image", "use"})
_UNSEEN = frozenset({"defs", "clipPath", "mask", "pattern", "marker", "symbol"})  # elements whose content isn't drawn itself


def read_strokes(source: Mapping[str, Any] | str) -> Sketch:
    """Read one drawing of strokes.

    Args:
        source: A line of a Quick, Draw! file (raw, with times, or simplified), the JSON that the server takes, or either
            of them parsed; an SVG document of straight lines, or the data of an SVG path.

    Returns:
        The strokes on their page. Times are left out.

    Raises:
        ValueError: If it is none of these; the text says what was got and what was expected.
    """
    if isinstance(source, Mapping):
        return _from_mapping(source)
    text = source.strip()
    if text.startswith("{"):
        try:
            return _from_mapping(json.loads(text))
        except (ValueError, RecursionError) as error:
            if isinstance(error, json.JSONDecodeError | RecursionError):
                raise ValueError(f"got broken JSON ({error}), expected {EXPECTED}") from None
            raise
    return _from_svg(text) if text.startswith("<") else _from_lines(_path_lines(text), None)


def looks_like_strokes(text: str) -> bool:
    """Return whether a text is strokes rather than the path of a file: JSON, SVG or the data of an SVG path."""
    return _STROKES.match(text) is not None


def _from_mapping(values: Mapping[str, Any]) -> Sketch:
    if "drawing" in values:
        return _from_quick_draw(values["drawing"])
    if "strokes" in values:
        return _from_server_json(values)
    raise ValueError(f"got the keys {', '.join(map(repr, list(values)[:8])) or 'of an empty object'}, expected {EXPECTED}")


def _from_quick_draw(raw: Any) -> Sketch:
    """Read the column `drawing`: for each stroke a list of x, a list of y and, in the raw form, a list of times."""
    expected = "a list of strokes, each [[x, ...], [y, ...]] or [[x, ...], [y, ...], [t, ...]]"
    if not _is_list(raw) or not len(raw):
        raise ValueError(f"got drawing: {_brief(raw)}, expected {expected}")
    strokes, is_raw = [], False
    for number, stroke in enumerate(raw):
        if not _is_list(stroke) or len(stroke) not in (2, 3) or not all(map(_is_list, stroke)):
            raise ValueError(f"got drawing[{number}]: {_brief(stroke)}, expected {expected}")
        if len({len(axis) for axis in stroke}) != 1 or not len(stroke[0]):
            lengths = ", ".join(str(len(axis)) for axis in stroke)
            raise ValueError(f"got drawing[{number}] with lists of {lengths} numbers, expected equally many, at least one")
        is_raw |= len(stroke) == 3
        strokes.append(Stroke(_points(np.stack([_numbers(axis, number) for axis in stroke[:2]], axis=1), number)))
    _check_count(strokes)
    if not is_raw:
        return Sketch(tuple(strokes), QUICK_DRAW_PX, QUICK_DRAW_PX)
    width, height = np.concatenate([stroke.points for stroke in strokes]).max(0).tolist()
    return Sketch(tuple(strokes), max(width, 1.0), max(height, 1.0))


def _from_server_json(values: Mapping[str, Any]) -> Sketch:
    """Read what the server takes: strokes of [x, y], or objects with `points`, `pen` and `erase`."""
    raw = values["strokes"]
    if not _is_list(raw) or not len(raw):
        raise ValueError(f"got strokes: {_brief(raw)}, expected {EXPECTED}")
    strokes = []
    for number, given in enumerate(raw):
        one = given if isinstance(given, Mapping) else {"points": given}
        points = _points(_numbers(one.get("points"), number, name="strokes"), number, name="strokes")
        strokes.append(Stroke(points, _length(one.get("pen"), f"strokes[{number}].pen"), bool(one.get("erase", False))))
    _check_count(strokes)
    width, height = np.concatenate([stroke.points for stroke in strokes]).max(0).tolist()
    frame = values.get("frame")
    if frame is not None:
        frame = tuple(float(frame[side]) for side in ("left", "top", "right", "bottom"))
    return Sketch(
        tuple(strokes),
        _length(values.get("width"), "width") or max(width, 1.0),
        _length(values.get("height"), "height") or max(height, 1.0),
        _length(values.get("pen"), "pen"),
        frame,
    )


def _from_svg(text: str) -> Sketch:
    """Read the lines of an SVG's paths, polylines, polygons and lines."""
    strokes = list[Stroke]()
    page: tuple[float, float, float, float] | None = None
    for name, attributes in _elements(text):
        if "transform" in attributes:
            raise ValueError(f"got <{name} transform=...>, expected coordinates without transforms. Flatten the SVG")
        if name == "svg" and page is None:
            page = _page(attributes)
        if name in _CURVED and not _is_background(name, attributes, page):
            raise ValueError(f"got <{name}>, expected {LINES}. Convert it to PNG")
        pen = _svg_length(attributes.get("stroke-width")) or None
        strokes += [Stroke(_points(line, number, name=name), pen) for number, line in enumerate(_lines_of(name, attributes))]
    return _from_lines([], page, strokes)


def _elements(text: str) -> list[tuple[str, dict[str, str]]]:
    """Parse an SVG to the elements that are drawn, each with its attributes and the width of lines that it inherits."""
    found: list[tuple[str, dict[str, str]]] = []
    above: list[tuple[bool, str | None]] = [(True, None)]  # whether it is drawn, and the width of its lines

    def start(tag: str, given: dict[str, str]) -> None:
        name, (is_drawn, pen) = tag.rpartition(":")[2], above[-1]
        styles = (part.split(":", 1) for part in given.get("style", "").split(";") if ":" in part)
        attributes = {**given, **{key.strip(): value.strip() for key, value in styles}}
        is_drawn = is_drawn and name not in _UNSEEN and attributes.get("display") != "none"
        pen = attributes.get("stroke-width", pen)
        above.append((is_drawn, pen))
        if is_drawn:
            found.append((name, attributes if pen is None else {**attributes, "stroke-width": pen}))

    def refuse(*_: object) -> None:
        raise ValueError("got an SVG that declares entities, expected plain SVG")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EntityDeclHandler = start, refuse
    parser.EndElementHandler = lambda _: above.pop()
    try:
        parser.Parse(text.encode("utf-8", "replace"), True)
    except expat.ExpatError as error:
        raise ValueError(f"got broken SVG ({error}), expected an SVG document") from None
    return found


def _is_background(name: str, attributes: Mapping[str, str], page: tuple[float, ...] | None) -> bool:
    """Return whether an element is a rectangle of paper, as large as the page."""
    sides = [_svg_length(attributes.get(side)) for side in ("width", "height")]
    whole = page is not None and all(side is not None and side >= size for side, size in zip(sides, page[2:], strict=True))
    return name == "rect" and (whole or (attributes.get("width"), attributes.get("height")) == ("100%", "100%"))


def _lines_of(name: str, attributes: Mapping[str, str]) -> list[Float64[np.ndarray, "n 2"]]:
    if name == "path":
        return _path_lines(attributes.get("d", ""))
    if name in ("polyline", "polygon"):
        values = np.array([float(number) for number in re.findall(_NUMBER, attributes.get("points", ""))])
        line = values[: len(values) // 2 * 2].reshape(-1, 2)
        if not len(line):
            return []
        return [np.concatenate([line, line[:1]]) if name == "polygon" else line]
    if name == "line":
        ends = [_svg_length(attributes.get(key)) or 0.0 for key in ("x1", "y1", "x2", "y2")]
        return [np.array(ends).reshape(2, 2)]
    return []


def _page(attributes: Mapping[str, str]) -> tuple[float, float, float, float] | None:
    """Read left, top, width and height of the page."""
    box = [float(number) for number in re.findall(_NUMBER, attributes.get("viewBox", ""))]
    if len(box) == 4 and min(box[2:]) > 0:
        return box[0], box[1], box[2], box[3]
    width, height = (_svg_length(attributes.get(side)) for side in ("width", "height"))
    return (0.0, 0.0, width, height) if width and height else None


def _path_lines(data: str) -> list[Float64[np.ndarray, "n 2"]]:
    """Read the straight lines of an SVG path (SVG 2, section 9.3): M, L, H, V and Z, absolute or relative."""
    lines: list[list[tuple[float, float]]] = []
    here = (0.0, 0.0)
    command, tokens, place = "", _path_tokens(data), 0
    while place < len(tokens):
        if tokens[place].isalpha():
            command, place = tokens[place], place + 1
        if command in ("Z", "z"):
            if lines:
                here = lines[-1][0]
                lines[-1].append(here)
            command = ""
            continue
        values = _coordinates(command, tokens, place)
        place += len(values)
        here = _moved(here, command, values)
        if command in ("M", "m") or not lines:
            lines.append([])
        lines[-1].append(here)
        command = {"M": "L", "m": "l"}.get(command, command)  # further pairs after a move are lines
    return [np.array(line, np.float64) for line in lines]


def _moved(here: tuple[float, float], command: str, values: Sequence[float]) -> tuple[float, float]:
    """Return where a command leads to."""
    x, y = here
    base_x, base_y = here if command.islower() else (0.0, 0.0)
    if command in ("H", "h"):
        return base_x + values[0], y
    if command in ("V", "v"):
        return x, base_y + values[0]
    return base_x + values[0], base_y + values[1]


def _coordinates(command: str, tokens: Sequence[str], place: int) -> list[float]:
    """Read the numbers that a command takes; whatever isn't a straight line is refused."""
    count = {"M": 2, "L": 2, "H": 1, "V": 1}.get(command.upper(), 0)
    if not count:
        got = repr(command or tokens[place])
        raise ValueError(f"got {got} in an SVG path, expected the commands M, L, H, V or Z: lines only")
    try:
        values = [float(number) for number in tokens[place : place + count]]
    except ValueError:
        values = []
    if len(values) < count:
        raise ValueError(f"got an SVG path that breaks off after {command!r}, expected {count} number(s) there")
    return values


def _path_tokens(data: str) -> list[str]:
    tokens, place = [], 0
    data = data.strip()
    while place < len(data):
        match = _PATH_TOKEN.match(data, place)
        if match is None:
            raise ValueError(f"got {data[place : place + 20]!r} in an SVG path, expected commands and numbers")
        tokens.append(match[1])
        place = match.end()
    return tokens


def _from_lines(
    lines: Sequence[Float64[np.ndarray, "n 2"]],
    page: tuple[float, float, float, float] | None,
    strokes: Sequence[Stroke] = (),
) -> Sketch:
    """Put lines on their page, whose corner becomes the origin; without a page, the one that they reach over."""
    drawn = [*strokes, *(Stroke(_points(line, number, name="path")) for number, line in enumerate(lines))]
    _check_count(drawn)
    if not drawn:
        raise ValueError(f"got no lines, expected {LINES}")
    points = np.concatenate([stroke.points for stroke in drawn])
    if page is None:
        width, height = points.max(0).tolist()
        return Sketch(tuple(drawn), max(width, 1.0), max(height, 1.0))
    corner = np.array(page[:2])
    moved = tuple(Stroke(stroke.points - corner, stroke.pen, stroke.erase) for stroke in drawn)
    return Sketch(moved, page[2], page[3])


def _check_count(strokes: Sequence[Stroke]) -> None:
    count = sum(len(stroke.points) for stroke in strokes)
    if count > MOST_POINTS:
        raise ValueError(f"got {count} points, expected at most {MOST_POINTS}")


def _points(values: np.ndarray, number: int, name: str = "drawing") -> Float64[np.ndarray, "n 2"]:
    if values.ndim != 2 or values.shape[1] != 2 or not len(values):
        raise ValueError(f"got {name}[{number}] of shape {values.shape}, expected points [x, y], at least one")
    if not np.isfinite(values).all() or np.abs(values).max() > FARTHEST:
        raise ValueError(f"got {name}[{number}] with coordinates beyond {FARTHEST:g} or not finite, expected numbers within")
    return values


def _numbers(values: Any, number: int, name: str = "drawing") -> np.ndarray:
    try:
        return np.array(values, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"got {name}[{number}]: {_brief(values)}, expected numbers") from None


def _length(value: Any, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= FARTHEST:
        raise ValueError(f"got {name}: {_brief(value)}, expected a number above 0")
    return float(value)


def _svg_length(text: str | None) -> float | None:
    """Read a length in the page's unit; None for other units and where there is none."""
    match = None if text is None else _LENGTH.match(text)
    if match is None:
        return None
    value = float(match[1])
    return value if math.isfinite(value) else None


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray)


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
