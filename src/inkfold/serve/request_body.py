"""From a request's body to what is to be recognised: picture files, or the strokes of a sketch."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any, TypeGuard

import numpy as np

from inkfold.images.strokes import Sketch, Stroke
from inkfold.serve.messages import Refusal, Request

TOP, NEAREST = 5, 6  # where a request says no number
NAME_LENGTH = 200
MOST_HEADERS_BYTES = 4096
EXTENT = 1e6
LEAST = 1e-6  # of a page: points are divided by a part of it


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What one request may ask for.

    Attributes:
        files: In a form.
        json_bytes: Of a sketch; parsing takes about twenty times as much memory.
        strokes: Of a sketch.
        points: Of all its strokes.
        nearest: Training drawings a drawing.
    """

    files: int = 16
    json_bytes: int = 1 << 20
    strokes: int = 2000
    points: int = 40_000
    nearest: int = 24


@dataclass(frozen=True, slots=True)
class Given:
    """One drawing as it was sent.

    Attributes:
        name: Of its file, if that has one.
        content: A file's bytes, or a sketch.
    """

    name: str | None
    content: bytes | Sketch


def take_in(request: Request, limits: BodyLimits) -> list[Given]:
    """Find the drawings in a request.

    Args:
        request: Whole.
        limits: What it may hold.

    Returns:
        At least one.

    Raises:
        Refusal: With 400, 413, 415 or 422 if there is none that can be read.
    """
    header = Message()
    header["content-type"] = request.headers.get("content-type", "application/octet-stream")
    kind = header.get_content_type()
    if request.headers.get("content-encoding", "identity") != "identity":
        raise _unsupported(f"content-encoding {request.headers['content-encoding'][:40]!r}")
    if not request.body:
        raise Refusal(400, "empty_body", "the body has 0 bytes", "a picture or strokes", "Send the drawing in the body.")
    if kind == "multipart/form-data":
        return _files(request.body, header.get_param("boundary"), limits)
    if kind == "application/json":
        return [Given(None, _sketch(request.body, limits))]
    if kind.startswith("image/") or kind == "application/octet-stream":
        return [Given(None, request.body)]
    raise _unsupported(f"content-type {kind[:80]!r}")


def count_of(request: Request, name: str, usual: int, least: int, most: int) -> int:
    """Read a whole number of the query.

    Args:
        request: Whose query.
        name: Of the number.
        usual: Where it isn't there; cut to `most`.
        least: The smallest.
        most: The largest; more is cut to it.

    Returns:
        The number.

    Raises:
        Refusal: With 422 if it is none.
    """
    text = request.query.get(name, str(usual))
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) < least:
        raise _wrong(f"{name}={text[:40]!r} in the query", f"a whole number from {least} to {most}")
    return min(int(text), most)


def _files(body: bytes, boundary: Any, limits: BodyLimits) -> list[Given]:
    """Take a form apart at its boundaries, RFC 2046 section 5.1; fields that aren't files are passed over."""
    if not isinstance(boundary, str) or not 1 <= len(boundary) <= 70 or not boundary.isascii():
        raise _bad_form("has no boundary of 1 to 70 characters")
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode(), limits.files + 34)
    if len(parts) < 2 or not parts[-1].startswith(b"--"):
        raise _bad_form("breaks off before its last boundary, or has more parts than a form of drawings needs")
    given = []
    for part in parts[1:-1]:
        head, found, content = part.partition(b"\r\n\r\n")
        if not found or len(head) > MOST_HEADERS_BYTES:
            raise _bad_form("has a part without a head of at most 4 kB")
        name = _file_name(head)
        if name is not None:
            given.append(Given(name, content))
    if not 1 <= len(given) <= limits.files:
        raise _wrong(f"a form with {len(given)} files", f"1 to {limits.files} files")
    return given


def _file_name(head: bytes) -> str | None:
    """Read the name of a part that is a file; None for other fields."""
    for line in head.decode("utf-8", "replace").split("\r\n"):
        field, _, value = line.partition(":")
        if field.strip().lower() == "content-disposition":
            found = re.search(r'filename="((?:[^"\\]|\\.)*)"|filename=([^;\s]+)', value)
            if found:
                return str(found[1] if found[1] is not None else found[2]).replace("%22", '"')[:NAME_LENGTH]
    return None


def _sketch(body: bytes, limits: BodyLimits) -> Sketch:
    if len(body) > limits.json_bytes:
        got = f"{len(body)} bytes of JSON"
        raise Refusal(413, "body_too_large", got, f"at most {limits.json_bytes} bytes", "Send fewer points.")
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as error:
        got = f"no JSON: {str(error)[:100]}"
        raise Refusal(400, "malformed_json", got, 'JSON such as {"strokes": [[[x, y], ...]], ...}', "Mend it.") from None
    if not isinstance(told, dict) or not isinstance(told.get("strokes"), list):
        raise _wrong("JSON without strokes", 'an object with "strokes": [[[x, y], ...], ...], "width" and "height"')
    if len(told["strokes"]) > limits.strokes:
        raise _wrong(f"{len(told['strokes'])} strokes", f"at most {limits.strokes}")
    width, height = (_extent(told, name) for name in ("width", "height"))
    strokes, left = [], limits.points
    for i, one in enumerate(told["strokes"]):
        stroke = _stroke(one, f"strokes[{i}]", left)
        left -= len(stroke.points)
        strokes.append(stroke)
    return Sketch(tuple(strokes), width, height, _pen(told, "pen"))


def _stroke(told: Any, where: str, left: int) -> Stroke:
    more: Mapping[str, Any] = told if isinstance(told, dict) else {}
    points = more.get("points") if more else told
    if not isinstance(points, list) or not points:
        raise _wrong(f"{where} without points", "a list of [x, y], at least one")
    if len(points) > left:
        raise _wrong(f"{where}, with which there are too many points", "fewer points in all: thin them out")
    for j, point in enumerate(points):
        if not isinstance(point, list) or len(point) != 2 or not all(_is_number(value) for value in point):
            raise _wrong(f"{where}, point {j}: {str(point)[:60]}", f"[x, y], numbers between {-EXTENT:g} and {EXTENT:g}")
    erase = more.get("erase", False)
    if not isinstance(erase, bool):
        raise _wrong(f"{where}: erase is {str(erase)[:40]}", "true or false")
    return Stroke(np.array(points, np.float64), _pen(more, where), erase)


def _pen(told: Mapping[str, Any], where: str) -> float | None:
    pen = told.get("pen")
    if pen is None:
        return None
    if not _is_number(pen) or pen <= 0:
        raise _wrong(f"{where}: pen is {str(pen)[:40]}", f"a width between 0 and {EXTENT:g}")
    return float(pen)


def _extent(told: Mapping[str, Any], name: str) -> float:
    value = told.get(name)
    if not _is_number(value) or value < LEAST:
        raise _wrong(f"{name} {str(value)[:40]}", f"a number from {LEAST:g} to {EXTENT:g}")
    return float(value)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= EXTENT  # NaN isn't


def _wrong(got: str, expected: str) -> Refusal:
    return Refusal(422, "invalid_value", f"got {got}", expected, "Mend the request; /docs says what it may hold.")


def _bad_form(got: str) -> Refusal:
    return Refusal(400, "malformed_form", f"the form {got}", "multipart/form-data as RFC 7578", "Send the files anew.")


def _unsupported(got: str) -> Refusal:
    expected = "image/*, application/octet-stream, multipart/form-data or application/json, not compressed"
    return Refusal(415, "unsupported_type", f"got {got}", expected, "Set the header to what the body is.")
