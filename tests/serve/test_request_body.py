import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkfold.serve.messages import Refusal, Request
from inkfold.serve.request_body import BodyLimits, count_of, take_in

LIMITS = BodyLimits(files=3, json_bytes=100_000, strokes=5, points=50)


def taken(body, kind="image/png", **headers):
    return take_in(Request("POST", "/predict", {}, {"content-type": kind, **headers}, body), LIMITS)


def refused(body, kind="image/png", **headers):
    with pytest.raises(Refusal) as found:
        taken(body, kind, **headers)
    return found.value


def form(*parts, boundary="xyz"):
    body = b"".join(b"--xyz\r\ncontent-disposition: form-data; " + head + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    return body + b"--xyz--\r\n", f"multipart/form-data; boundary={boundary}"


def sketch(strokes, **more):
    return json.dumps({"strokes": strokes, "width": 100, "height": 50, **more}).encode()


@pytest.mark.parametrize("kind", ["image/png", "image/x-anything", "application/octet-stream", "IMAGE/PNG; a=b"])
def test_a_pictures_bytes_are_taken_as_they_are(kind):
    (one,) = taken(b"\x89PNG", kind)
    assert (one.name, one.content) == (None, b"\x89PNG")


def test_a_forms_files_keep_their_names_and_every_byte():
    odd = b"\r\n--xy\r\n\r\n\x00\xff--xyz"
    found = taken(*form((b'name="a"; filename="cat 1.png"', odd), (b'name="b"', b"text"), (b"name=c; filename=d.png", b"")))
    assert [(one.name, one.content) for one in found] == [("cat 1.png", odd), ("d.png", b"")]


@given(st.lists(st.binary(max_size=200).filter(lambda data: b"--xyz" not in data), min_size=1, max_size=3))
def test_any_bytes_come_out_of_a_form_as_they_went_in(contents):
    found = taken(*form(*((b'name="f"; filename="f"', data) for data in contents)))
    assert [one.content for one in found] == contents


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "image/png", 400),
        (b"x", "text/plain", 415),
        (b"x", "application/x-www-form-urlencoded", 415),
        (b"x", "multipart/form-data", 400),
        (b"--xyz\r\n", "multipart/form-data; boundary=xyz", 400),
        (b"--xyz\r\nno head--xyz--", "multipart/form-data; boundary=xyz", 400),
        (form((b'name="a"; filename="f"', b"x"))[0][:-6], "multipart/form-data; boundary=xyz", 400),
        (*form((b'name="a"', b"no file")), 422),
        (*form(*[(b'name="a"; filename="f"', b"x")] * 4), 422),
        (*form(*[(b'name="a"; filename="f"', b"x")] * 99), 400),
        (form((b'name="a"; filename="f"', b"x"))[0], "multipart/form-data; boundary=" + "y" * 99, 400),
    ],
)
def test_what_holds_no_drawing_is_refused(body, kind, status):
    assert refused(body, kind).status == status


def test_a_compressed_body_is_refused():
    assert refused(b"x", "image/png", **{"content-encoding": "gzip"}).status == 415


def test_strokes_come_in_both_forms_with_pens_and_erasers():
    told = sketch([[[1, 2], [3.5, 4]], {"points": [[5, 6]], "pen": 2, "erase": True}], pen=3)
    (one,) = taken(told, "application/json")
    page = one.content
    assert (page.width, page.height, page.pen) == (100, 50, 3)
    np.testing.assert_array_equal(page.strokes[0].points, [[1, 2], [3.5, 4]])
    assert [(stroke.pen, stroke.erase) for stroke in page.strokes] == [(None, False), (2, True)]


def test_a_page_without_strokes_is_a_page():
    assert taken(sketch([]), "application/json")[0].content.strokes == ()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 50_000, 400),
        (b"[1]", 422),
        (b"{}", 422),
        (b'{"strokes": 1}', 422),
        (b'{"strokes": [], "width": 1}', 422),
        (sketch([], width=0), 422),
        (sketch([[[1, 2]]], width=1e-308, height=1e-308), 422),
        (sketch([], width=True), 422),
        (sketch([], height="5"), 422),
        (sketch([], pen=-1), 422),
        (sketch([[[1, 2]]] * 6), 422),
        (sketch([[[1, 2]] * 30, [[1, 2]] * 21]), 422),
        (sketch([[]]), 422),
        (sketch([{}]), 422),
        (sketch([7]), 422),
        (sketch([[[1]]]), 422),
        (sketch([[[1, "2"]]]), 422),
        (sketch([[[1, True]]]), 422),
        (sketch([[[1, float("nan")]]]), 422),
        (sketch([[[1, float("inf")]]]), 422),
        (sketch([[[1, 10**400]]]), 422),
        (sketch([{"points": [[1, 2]], "erase": "yes"}]), 422),
        (sketch([{"points": [[1, 2]], "pen": "wide"}]), 422),
        (b'{"strokes": [[[1, ' + b"9" * 5000 + b"]]]}", 400),
        (b" " * 100_001, 413),
    ],
)
def test_what_is_no_sketch_is_refused(body, status):
    refusal = refused(body, "application/json")
    assert refusal.status == status
    assert len(refusal.reason) < 300


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=4)
    )
)
def test_any_json_is_a_sketch_or_refused(strokes):
    body = json.dumps({"strokes": strokes, "width": 10, "height": 10}).encode()
    with contextlib.suppress(Refusal):  # nothing else is raised
        assert len(taken(body, "application/json")) == 1


@pytest.mark.parametrize(("text", "expected"), [("3", 3), ("99", 9), (None, 5), ("1", 1)])
def test_a_count_is_read_and_cut(text, expected):
    request = Request("POST", "/", {} if text is None else {"top": text})
    assert count_of(request, "top", 5, 1, 9) == expected


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", "", "9999999", "٣"])
def test_what_is_no_count_is_refused(text):
    with pytest.raises(Refusal, match="422"):
        count_of(Request("POST", "/", {"top": text}), "top", 5, 1, 9)
