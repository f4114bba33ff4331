"""The JSON that the server takes and gives, defined once: these models check requests, and `/openapi.json` is made of them."""

from collections.abc import Mapping
from itertools import chain
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

MAX_STROKES = 2000
MAX_POINTS = 40_000  # of a sketch: they take 40 ms
MAX_COORDINATE = 1e6
MIN_EXTENT = 1e-6  # of a page: points are divided by a part of it


class _RequestModel(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, arbitrary_types_allowed=True, use_attribute_docstrings=True)


class _ResponseModel(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


def _to_points(values: Any) -> Float64[np.ndarray, "n 2"]:
    """Check a list of [x, y]; a pydantic model per point would take many times as long."""
    if not isinstance(values, list) or not values:
        raise PydanticCustomError("points", "a list of [x, y], at least one")
    if len(values) > MAX_POINTS:
        raise _too_many_points(len(values))
    if set(map(type, values)) == {list} and set(map(len, values)) == {2}:
        points = _to_array(values)
        if points is not None:
            return points
    wrong = next(i for i, point in enumerate(values) if not _is_point(point))
    expected = "[x, y], numbers between {low} and {high}"
    raise PydanticCustomError("point", expected, {"index": wrong, "low": f"{-MAX_COORDINATE:g}", "high": f"{MAX_COORDINATE:g}"})


def _too_many_points(count: int) -> PydanticCustomError:
    expected = "at most {limit} points in all strokes together: thin them out"
    return PydanticCustomError("too_many_points", expected, {"limit": MAX_POINTS, "count": count})


def _to_array(values: list[list[float]]) -> Float64[np.ndarray, "n 2"] | None:
    if not set(map(type, chain.from_iterable(values))) <= {int, float}:  # a bool would become a number in the array
        return None
    try:
        points = np.array(values, np.float64)
    except OverflowError:  # a whole number beyond all floats
        return None
    return points if bool((np.abs(points) <= MAX_COORDINATE).all()) else None  # NaN isn't


def _is_point(point: Any) -> bool:
    return (
        isinstance(point, list)
        and len(point) == 2
        and all(type(value) in (int, float) and abs(value) <= MAX_COORDINATE for value in point)
    )


_NUMBER = {"type": "number", "minimum": -MAX_COORDINATE, "maximum": MAX_COORDINATE}
_POINT = {"type": "array", "minItems": 2, "maxItems": 2, "items": _NUMBER}

Points = Annotated[
    np.ndarray,
    BeforeValidator(_to_points),
    WithJsonSchema({"type": "array", "minItems": 1, "maxItems": MAX_POINTS, "items": _POINT}),
]
Extent = Annotated[float, Field(ge=MIN_EXTENT, le=MAX_COORDINATE, allow_inf_nan=False)]
PenWidth = Annotated[float, Field(gt=0, le=MAX_COORDINATE, allow_inf_nan=False)]


class Stroke(_RequestModel):
    """One movement of the pen or of the eraser."""

    points: Points
    """[x, y] in the page's unit, x to the right and y down, in the order of drawing."""
    pen: PenWidth | None = None
    """The line's width in the page's unit; null is the usual pen's."""
    erase: bool = False
    """Whether the stroke takes ink away."""


FrameSide = Annotated[float, Field(ge=-2 * MAX_COORDINATE, le=2 * MAX_COORDINATE, allow_inf_nan=False)]


class Frame(_RequestModel):
    """The box around what is the drawing: in the unit of the strokes, or in pixels of the whole upright picture."""

    left: FrameSide
    """Where it begins; x goes to the right."""
    top: FrameSide
    """Where it begins; y goes down."""
    right: FrameSide
    """Where it ends; more than `left`."""
    bottom: FrameSide
    """Where it ends; more than `top`."""

    @model_validator(mode="after")
    def _has_size(self) -> "Frame":
        if self.left >= self.right or self.top >= self.bottom:
            raise PydanticCustomError("frame", "left less than right, and top less than bottom")
        return self

    def sides(self) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom."""
        return self.left, self.top, self.right, self.bottom


def _stroke_form(value: Any) -> str:
    return "stroke" if isinstance(value, dict | Stroke) else "points"


class Sketch(_RequestModel):
    """A page of strokes; all of them together have at most 40,000 points."""

    strokes: Annotated[
        list[Annotated[Annotated[Points, Tag("points")] | Annotated[Stroke, Tag("stroke")], Discriminator(_stroke_form)]],
        Field(max_length=MAX_STROKES),
    ]
    """In the order of drawing: each a list of [x, y], or an object with its own pen or the eraser."""
    width: Extent
    """The page's width, in any unit."""
    height: Extent
    """The page's height, in the same unit."""
    pen: PenWidth | None = None
    """The usual line's width; null takes the median of the strokes' own pens."""
    frame: Frame | None = None
    """The box around the drawing: all ink inside counts, and nothing outside. Null leaves out one to three small marks far off
    the rest."""

    @model_validator(mode="after")
    def _limit_points(self) -> "Sketch":
        count = sum(len(stroke.points if isinstance(stroke, Stroke) else stroke) for stroke in self.strokes)
        if count > MAX_POINTS:
            raise _too_many_points(count)
        return self


class Guess(_ResponseModel):
    """A class that the drawing may show."""

    class_name: str
    """The class's name in the training data."""
    target: int
    """The class's number in the training data's tables."""
    probability: float
    """The model's probability; those of all classes sum to 1."""


Words = Literal["almost_certain", "likely", "unsure", "guess", "blank"]


class Confidence(_ResponseModel):
    """How often answers with about this probability were right on drawings held out of training."""

    words: Words
    """A key for programs, which pages translate; chosen by the lower end of the interval."""
    text: str
    """The same as an English sentence."""
    accuracy: float | None
    """The share of right answers; null where none was measured."""
    low: float | None
    """The lower end of its 95 % interval."""
    high: float | None
    """The upper end of its 95 % interval."""
    count: int
    """How many drawings it was measured on."""


class Neighbour(_ResponseModel):
    """A training drawing that looks like the one that was sent."""

    class_name: str
    """Its class."""
    similarity: float
    """The cosine between the two drawings' features, at most 1."""
    image: str
    """Its thumbnail as a data URI of a PNG file."""


class Answer(_ResponseModel):
    """What the model says of one drawing."""

    name: str | None
    """The file's name in the form; null for other bodies."""
    top: list[Guess]
    """The class that the model decides on, then the most probable others. It is the most probable one, unless the model has a
    rule that suits its metric better."""
    sure: Confidence
    """How far the first class can be trusted."""
    frame: Frame | None
    """The part of the input that the model saw, around the drawing. Null for a blank page, and for a photographed sheet that
    was straightened. Sent back as the chosen frame, it shows the model the same."""
    nearest: list[Neighbour]
    """The most similar training drawings, the best first; empty for a blank page or without an index."""


class Times(_ResponseModel):
    """Where the time went, in milliseconds."""

    queued: float
    """The longest wait of a drawing for the model."""
    model: float
    """The longest forward pass."""
    total: float
    """From the whole request to its answer."""


class Answers(_ResponseModel):
    """The answer to `/predict`."""

    answers: list[Answer]
    """One per drawing, in the order of the request."""
    time_ms: Times
    """Where the time went."""


class StrokeEffect(_ResponseModel):
    """One stroke of a drawing: a connected part of its ink, or a piece of a long one."""

    box: Frame | None
    """The box around it, in the input's units; null where `bounds` is."""
    effect: float
    """By how much it raises the logarithm of the class's probability, in nats: 0.69 says that the probability is half as large
    without it. Negative where it speaks against the class. With a second class, that of the two probabilities' ratio."""
    ink_fraction: float
    """The share of the drawing's ink that it is."""


class Explanation(_ResponseModel):
    """The answer to `/explain`: which strokes of a drawing the model's answer rests on."""

    class_name: str
    """The class that is explained."""
    probability: float
    """Its probability on the whole drawing."""
    against: str | None
    """The second class; null without one."""
    against_probability: float | None
    """Its probability on the whole drawing; null without one."""
    strokes: list[StrokeEffect]
    """The strokes, that which speaks most for the class first; empty for a blank page."""
    picture: str
    """The ink as the model saw it on transparent paper, a data URI of a PNG file: blue where it speaks for the class, orange
    where it speaks against it, grey where it does neither."""
    bounds: Frame | None
    """Where the picture lies on the input, in its units; null for a photographed sheet that was straightened, and where a
    chosen part was cropped to its ink."""
    time_ms: Times
    """Where the time went."""


class RequestLimits(_ResponseModel):
    """What one request may hold."""

    body_bytes: int
    """Bytes of the body."""
    pixels: int
    """Pixels of a picture."""
    side_ratio: int
    """The longer side of a picture divided by the shorter one."""
    decoded_bytes: int
    """Bytes of memory that reading a picture may take, as its header tells; a picture of fewer pixels may be beyond it."""
    strokes: int
    """Strokes of a sketch."""
    points: int
    """Points of all strokes of a sketch."""


class Accuracy(_ResponseModel):
    """An accuracy as it was measured."""

    value: float
    """The share of right answers."""
    ci95: tuple[float, float]
    """Its 95 % interval."""
    of: str
    """Which drawings it was measured on, such as `out_of_fold` or `holdout`."""


class Model(_ResponseModel):
    """The model that is served."""

    name: str
    """The run's name."""
    classes: int
    """How many classes it knows."""
    class_names: list[str]
    """Their names."""
    size_px: int
    """The side of the squares that it takes; drawings of any size can be sent."""
    backbones: list[str]
    """timm's names of its backbones."""
    folds: int
    """How many fold models vote."""
    accuracy: Accuracy | None
    """Its accuracy on drawings that it wasn't trained on; null where none was measured."""
    look: Mapping[str, Any]
    """How the training drawings look, which strokes are drawn like."""
    nearest: bool
    """Whether it has an index of training drawings."""
    limits: RequestLimits
    """What one request may hold."""


class Problem(_ResponseModel):
    """Why a request wasn't served."""

    code: str
    """A stable word for programs."""
    reason: str
    """What the server got."""
    expected: str
    """What it would have served."""
    do: str
    """What the client can do."""


class Refusal(_ResponseModel):
    """The answer to a request that wasn't served."""

    error: Problem
    """Why, and what to do."""
