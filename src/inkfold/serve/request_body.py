"""From a request's body to what is to be recognised: picture files, or the strokes of a sketch."""

import json
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Any

import numpy as np
from pydantic import ValidationError

from inkfold.images.announced import Announced
from inkfold.images.strokes import Sketch, Stroke
from inkfold.serve import schemas
from inkfold.serve.messages import Refusal, Request

DEFAULT_TOP, DEFAULT_NEAREST, DEFAULT_STROKES = 5, 6, 16  # where a request's query has no number
MAX_NEAREST = 24
MAX_STROKES_ERASED = 24  # of an explanation: each is a forward pass
MAX_FILES = 16  # of a form
MAX_JSON_BYTES = 1 << 20  # parsing takes about twenty times as much memory
MAX_NAME_LENGTH = 200
MAX_PART_HEAD_BYTES = 4096
REPORTED_PROBLEMS, MAX_SHOWN = 3, 60  # problems, and characters of each wrong value
UNION_TAGS = ("points", "stroke")  # which pydantic puts behind a stroke's number

_SHORT = reprlib.Repr()  # a value may be deep or long
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 3, 4, 3


@dataclass(frozen=True, slots=True)
class Upload:
    """One drawing as a client sent it.

    Attributes:
        name: The file's name in a form; None for other bodies.
        content: The bytes of a picture file, or a sketch.
        announced: What the picture's header says; None for a sketch, or while it is unknown.
    """

    name: str | None
    content: bytes | Sketch
    announced: Announced | None = None

    @property
    def decoded_bytes(self) -> int:
        """The most bytes of memory that reading the picture may take; 0 for a sketch."""
        return 0 if self.announced is None else self.announced.decoded_bytes


def holds_strokes(request: Request) -> bool:
    """Check whether a request's body is said to be strokes; everything else is a picture or refused."""
    return _content_type(request).get_content_type() == "application/json"


def read_uploads(request: Request) -> list[Upload]:
    """Read the drawings in a request's body in their order, at least one.

    Raises:
        Refusal: With 400, 413, 415 or 422 if there is none that can be read.
    """
    header = _content_type(request)
    kind = header.get_content_type()
    coding = request.headers.get("content-encoding", "identity")
    if any(part.strip().lower() not in ("", "identity") for part in coding.split(",")):  # without case: RFC 9110, 8.4.1
        raise _unsupported(f"content-encoding {coding[:40]!r}")
    if not request.body:
        raise Refusal(400, "empty_body", "the body has 0 bytes", "a picture or strokes", "Send the drawing in the body.")
    if kind == "multipart/form-data":
        return _read_form(request.body, header.get_param("boundary"))
    if kind == "application/json":
        return [Upload(None, _read_sketch(request.body))]
    if kind.startswith("image/") or kind == "application/octet-stream":
        return [Upload(None, request.body)]
    raise _unsupported(f"content-type {kind[:80]!r}")


def _content_type(request: Request) -> Message:
    header = Message()
    header["content-type"] = request.headers.get("content-type", "application/octet-stream")
    return header


def read_count(request: Request, name: str, default: int, least: int, most: int) -> int:
    """Read a whole number of the query.

    Args:
        request: The request whose query is read.
        name: Name of the number in the query, such as `top`.
        default: Taken where the query hasn't the name; lowered to `most`.
        least: The smallest number that is accepted.
        most: Larger numbers are lowered to it.

    Returns:
        The number, from `least` to `most`.

    Raises:
        Refusal: With 422 if it isn't a whole number of at least `least`.
    """
    text = request.query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) < least:
        raise _invalid(f"{name}={text[:40]!r} in the query", f"a whole number from {least} to {most}")
    return min(int(text), most)


def read_class(request: Request, name: str, class_names: Sequence[str]) -> int | None:
    """Read a class's name from the query.

    Args:
        request: The request whose query is read.
        name: Name of the parameter, such as `against`.
        class_names: The model's classes, by id.

    Returns:
        The class's id; None where the query hasn't the parameter.

    Raises:
        Refusal: With 422 if the model has no such class.
    """
    text = request.query.get(name)
    if text is None:
        return None
    if text not in class_names:
        raise _invalid(f"{name}={text[:40]!r} in the query", "a class's name as /api/model lists it")
    return class_names.index(text)


def read_one_upload(uploads: Sequence[Upload]) -> Upload:
    """Give the one drawing of a request.

    Raises:
        Refusal: With 422 if there are several.
    """
    if len(uploads) != 1:
        raise _invalid(f"{len(uploads)} drawings", "one drawing")
    return uploads[0]


def _read_form(body: bytes, boundary: Any) -> list[Upload]:
    """Take a form apart at its boundaries, RFC 2046 section 5.1; fields that aren't files are passed over."""
    if not isinstance(boundary, str) or not 1 <= len(boundary) <= 70 or not boundary.isascii():
        raise _bad_form("has no boundary of 1 to 70 characters")
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode(), MAX_FILES + 34)
    if len(parts) < 2 or not parts[-1].startswith(b"--"):
        raise _bad_form("breaks off before its last boundary, or has more parts than a form of drawings needs")
    uploads = []
    for part in parts[1:-1]:
        head, separator, content = part.partition(b"\r\n\r\n")
        if not separator or len(head) > MAX_PART_HEAD_BYTES:
            raise _bad_form("has a part without a head of at most 4 kB")
        name = _file_name(head)
        if name is not None:
            uploads.append(Upload(name, content))
    if not 1 <= len(uploads) <= MAX_FILES:
        raise _invalid(f"a form with {len(uploads)} files", f"1 to {MAX_FILES} files")
    return uploads


def _file_name(head: bytes) -> str | None:
    """Read the name of a part that is a file; None for other fields."""
    for line in head.decode("utf-8", "replace").split("\r\n"):
        field, _, value = line.partition(":")
        if field.strip().lower() == "content-disposition":
            match = re.search(r'filename="((?:[^"\\]|\\.)*)"|filename=([^;\s]+)', value)
            if match:
                return str(match[1] if match[1] is not None else match[2]).replace("%22", '"')[:MAX_NAME_LENGTH]
    return None


def _read_sketch(body: bytes) -> Sketch:
    if len(body) > MAX_JSON_BYTES:
        got = f"{len(body)} bytes of JSON"
        raise Refusal(413, "body_too_large", got, f"at most {MAX_JSON_BYTES} bytes", "Send fewer points.")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        got = f"invalid JSON: {str(error)[:100]}"
        raise Refusal(400, "malformed_json", got, 'JSON such as {"strokes": [[[x, y], ...]], ...}', "Correct it.") from None
    try:
        sketch = schemas.Sketch.model_validate(value)
    except ValidationError as error:
        raise _report(error) from None
    frame = None if sketch.frame is None else sketch.frame.sides()
    return Sketch(tuple(map(_to_stroke, sketch.strokes)), sketch.width, sketch.height, sketch.pen, frame)


def _to_stroke(stroke: np.ndarray | schemas.Stroke) -> Stroke:
    return Stroke(stroke.points, stroke.pen, stroke.erase) if isinstance(stroke, schemas.Stroke) else Stroke(stroke)


def _report(error: ValidationError) -> Refusal:
    """Say where the first problems are, what was there and what was expected."""
    problems = error.errors(include_url=False)
    places = [(_place(problem), problem) for problem in problems[:REPORTED_PROBLEMS]]
    got = "; ".join(f"{place}: {_got(problem)}" for place, problem in places)
    more = f"; and {len(problems) - len(places)} more" if len(problems) > len(places) else ""
    return _invalid(got + more, "; ".join(f"{place}: {_expected(problem)}" for place, problem in places))


def _place(problem: Mapping[str, Any]) -> str:
    """Name the place as JavaScript does: `strokes[0].points[3]`."""
    path = [part for i, part in enumerate(problem["loc"]) if not (i == 2 and part in UNION_TAGS)]
    if problem["type"] == "point":
        path.append(problem["ctx"]["index"])
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".") or "the body"


def _got(problem: Mapping[str, Any]) -> str:
    kind, value = problem["type"], problem["input"]
    if kind == "missing":
        return "nothing"
    if kind == "too_long":
        return f"{len(value)} items"
    if kind == "too_many_points":
        return f"{problem['ctx']['count']} points"
    text = _SHORT.repr(value[problem["ctx"]["index"]] if kind == "point" else value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def _expected(problem: Mapping[str, Any]) -> str:
    words = {"missing": "a value", "model_type": "an object", "too_long": f"at most {problem.get('ctx', {}).get('max_length')}"}
    return words.get(problem["type"]) or str(problem["msg"]).removeprefix("Input should be ")


def _invalid(got: str, expected: str) -> Refusal:
    return Refusal(422, "invalid_value", f"got {got}", expected, "Correct the request; /docs says what it may hold.")


def _bad_form(got: str) -> Refusal:
    return Refusal(400, "malformed_form", f"the form {got}", "multipart/form-data as RFC 7578", "Send the files again.")


def _unsupported(got: str) -> Refusal:
    expected = "image/*, application/octet-stream, multipart/form-data or application/json, not compressed"
    return Refusal(415, "unsupported_type", f"got {got}", expected, "Set the header to what the body is.")
