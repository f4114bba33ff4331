"""The models against an independent reader of the schemas that they publish: jsonschema."""

import json
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from inkfold.serve.http import HttpLimits
from inkfold.serve.openapi import describe
from inkfold.serve.schemas import MAX_POINTS, MAX_STROKES, Sketch

POINT = [1, 2]


def page(strokes, **more):
    return {"strokes": strokes, "width": 100, "height": 50, **more}


@cache
def validator():
    return Draft202012Validator({"$ref": "#/components/schemas/Sketch", **describe(HttpLimits())})


def is_accepted(value):
    try:
        Sketch.model_validate(value)
    except ValidationError:
        return False
    return True


GOOD = [
    page([]),
    page([[POINT]], pen=None),
    page([[[1, 2.5], [-1e6, 1e6]], {"points": [POINT], "pen": 2, "erase": True}], pen=3),
    page([{"points": [POINT], "pen": None, "unknown": "keys are passed over"}], unknown=1),
    page([], width=1e-6, height=1e6),
]
BAD = [
    [1],
    None,
    {},
    {"strokes": 1, "width": 1, "height": 1},
    {"strokes": [], "width": 1},
    page(None),
    page({"a": 1}),
    *(
        page([], **{name: value})
        for name in ("width", "height")
        for value in (0, -1, 1e-308, 2e6, 10**400, True, "5", None, [5])
    ),
    *(page([], pen=value) for value in (0, -1, 2e6, 10**400, True, "wide", [1])),
    *(page([stroke]) for stroke in (None, 7, "x", [], {}, {"points": []}, {"points": 5}, {"points": {}})),
    *(page([[POINT, point]]) for point in (None, 1, "ab", [], [1], [1, 2, 3], {"x": 1, "y": 2}, [[1], [2]])),
    *(page([[POINT, [1, value]]]) for value in (None, "2", True, [2], 1e7, -1e7, 10**400, -(10**400))),
    *(page([{"points": [POINT], "pen": value}]) for value in (0, -1, "wide", True, 2e6)),
    *(page([{"points": [POINT], "erase": value}]) for value in (None, 0, 1, "yes")),
]


def test_good_sketches_are_accepted_by_the_model_and_by_its_schema():
    for value in GOOD:
        assert is_accepted(value)
        assert validator().is_valid(value)


def test_bad_sketches_are_refused_by_the_model_and_by_its_schema():
    for value in BAD:
        assert not is_accepted(value), str(value)[:200]
        assert not validator().is_valid(value), str(value)[:200]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(text):
    value = json.loads(text)
    for sketch in (page([[[1, value]]]), page([], width=value), page([], pen=value), page([{"points": [POINT], "pen": value}])):
        assert not is_accepted(sketch)


def test_strokes_and_points_are_limited():  # test_openapi.py finds the limits in the schemas, where jsonschema is slow
    assert is_accepted(page([[POINT]] * MAX_STROKES))
    assert not is_accepted(page([[POINT]] * (MAX_STROKES + 1)))
    assert is_accepted(page([[POINT] * MAX_POINTS]))
    assert not is_accepted(page([[POINT] * (MAX_POINTS + 1)]))


def test_the_points_of_all_strokes_are_limited_together():
    half = [POINT] * (MAX_POINTS // 2)
    assert is_accepted(page([half, {"points": half}]))
    assert not is_accepted(page([half, {"points": half}, [POINT]]))


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-3, 3) | st.sampled_from([10**7, 10**400, True])
leaves = st.none() | st.text(max_size=3) | numbers
points = st.lists(numbers, min_size=1, max_size=3) | leaves
lists = st.lists(points, max_size=3)
strokes = lists | leaves | st.fixed_dictionaries({}, optional={"points": lists, "pen": leaves, "erase": leaves})
pages = st.fixed_dictionaries(
    {"strokes": st.lists(strokes, max_size=3)}, optional={"width": leaves, "height": leaves, "pen": leaves}
)


@given(pages | st.recursive(leaves, lambda value: st.lists(value, max_size=3), max_leaves=9).map(page))
def test_the_model_and_its_schema_agree_on_any_json(value):
    assert is_accepted(value) == validator().is_valid(value)
