import json

import numpy as np
import pytest

from inkfold.images.stroke_formats import looks_like_strokes, read_strokes
from inkfold.serve.request_body import _read_sketch


def points(source):
    return [stroke.points.tolist() for stroke in read_strokes(source).strokes]


def test_both_forms_of_quick_draw_are_read_and_times_left_out():
    simplified = read_strokes('{"word": "cat", "drawing": [[[0, 255], [3, 4]], [[5], [6]]]}')
    assert [stroke.points.tolist() for stroke in simplified.strokes] == [[[0, 3], [255, 4]], [[5, 6]]]
    assert (simplified.width, simplified.height) == (256, 256)
    raw = read_strokes({"drawing": [[[0.5, 700], [3, 400], [0, 16]]]})
    assert raw.strokes[0].points.tolist() == [[0.5, 3], [700, 400]]
    assert (raw.width, raw.height) == (700, 400)


def test_the_servers_json_is_read_as_the_server_reads_it():
    body = {
        "strokes": [[[1, 2], [3, 4]], {"points": [[5, 6]], "pen": 2.5, "erase": True}],
        "width": 40,
        "height": 30,
        "pen": 2,
        "frame": {"left": 1, "top": 2, "right": 3, "bottom": 4},
    }
    ours, theirs = read_strokes(body), _read_sketch(json.dumps(body).encode())
    for one, other in zip(ours.strokes, theirs.strokes, strict=True):
        np.testing.assert_array_equal(one.points, other.points)
        assert (one.pen, one.erase) == (other.pen, other.erase)
    assert (ours.width, ours.height, ours.pen, ours.frame) == (theirs.width, theirs.height, theirs.pen, theirs.frame)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        ("M1 2L3 4", [[[1, 2], [3, 4]]]),
        ("m1,2 3,4", [[[1, 2], [4, 6]]]),
        ("M1 2 3 4 5 6", [[[1, 2], [3, 4], [5, 6]]]),
        ("M10 10h5v-5H0V0", [[[10, 10], [15, 10], [15, 5], [0, 5], [0, 0]]]),
        ("M0 0L4 0 4 4Zm1 1 1 1", [[[0, 0], [4, 0], [4, 4], [0, 0]], [[1, 1], [2, 2]]]),
        ("M-1.5e1.5-.5L+1 2", [[[-15.0, 0.5], [-0.5, 1.0]]]),
    ],
)
def test_straight_lines_of_a_path_follow_svgs_grammar(data, lines):
    if data.startswith("M-1.5e1"):
        data, lines = "M-1.5e1 .5-.5 1", [[[-15.0, 0.5], [-0.5, 1.0]]]
    assert points(data) == lines


def test_an_svgs_lines_are_put_on_its_page_with_their_pens():
    sketch = read_strokes(
        '<?xml version="1.0"?><!-- x --><svg xmlns="http://www.w3.org/2000/svg" viewBox="10 10 100 50">'
        '<defs><path d="M0 0C1 1 2 2 3 3"/></defs><rect width="100%" height="100%" fill="white"/>'
        '<g stroke-width="3"><path d="M10,10L50,50"/><line x1="11" y1="12" x2="13" y2="14" style="stroke-width:5px"/></g>'
        '<polygon points="10,10 20,20 30,10"/><polyline points="10 10 20 20"/><text>words</text></svg>'
    )
    assert (sketch.width, sketch.height) == (100, 50)
    assert [(stroke.points.tolist(), stroke.pen) for stroke in sketch.strokes] == [
        ([[0, 0], [40, 40]], 3),
        ([[1, 2], [3, 4]], 5),
        ([[0, 0], [10, 10], [20, 0], [0, 0]], None),
        ([[0, 0], [10, 10]], None),
    ]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{", "broken JSON"),
        ("[1]" * 3, "expected commands and numbers"),
        ("{" + '"a":' * 3, "broken JSON"),
        ({"word": "cat"}, "got the keys 'word'"),
        ({"drawing": []}, r"got drawing: \[\]"),
        ({"drawing": [[[1, 2]]]}, r"got drawing\[0\]: \[\[1, 2\]\]"),
        ({"drawing": [[[1, 2], [1]]]}, "lists of 2, 1 numbers"),
        ({"drawing": [[["a"], [1]]]}, "expected numbers"),
        ({"drawing": [[[1e9], [1]]]}, "beyond 1e"),
        ({"drawing": [[[float("nan")], [1]]]}, "not finite"),
        ({"drawing": [[[0] * 40001, [0] * 40001]]}, "got 40001 points, expected at most 40000"),
        ({"strokes": []}, "got strokes"),
        ({"strokes": [[1, 2]]}, "of shape"),
        ({"strokes": [[[1, 2]]], "width": 0}, "got width: 0"),
        ("M0 0C1 1 2 2 3 3", "lines only"),
        ("M0 0L1", "breaks off after 'L'"),
        ("1 2", "lines only"),
        ("<svg/>", "got no lines"),
        ("<svg", "broken SVG"),
        ("<svg><circle r='1'/></svg>", "got <circle>, expected paths of straight lines"),
        ("<svg><g transform='scale(2)'><path d='M0 0L1 1'/></g></svg>", "without transforms"),
        ('<!DOCTYPE x [<!ENTITY a "aaaa">]><svg>&a;</svg>', "declares entities"),
    ],
)
def test_what_is_no_strokes_says_what_was_got_and_expected(source, words):
    with pytest.raises(ValueError, match=words):
        read_strokes(source)


@pytest.mark.parametrize(
    ("text", "is_strokes"),
    [
        ('{"drawing": []}', True),
        (' {\n "strokes": []}', True),
        ("<svg>", True),
        ("M 10 10 L 20 20", True),
        ("m1,2 3,4z", True),
        ("M 10 10.png", False),
        ("m1 2 cat.png", False),
        ("{a}/b.png", False),
        ("Mona.png", False),
        ("a.svg", False),
    ],
)
def test_paths_of_files_are_told_from_strokes(text, is_strokes):
    assert looks_like_strokes(text) == is_strokes
