import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkfold.serve.messages import Refusal, Request
from inkfold.serve.request_body import MAX_JSON_BYTES, read_count, read_uploads


def read(body, kind="image/png", **headers):
    return read_uploads(Request("POST", "/predict", {}, {"content-type": kind, **headers}, body))


def refusal(body, kind="image/png", **headers):
    with pytest.raises(Refusal) as error:
        read(body, kind, **headers)
    return error.value


def form(*parts, boundary="xyz"):
    body = b"".join(b"--xyz\r\ncontent-disposition: form-data; " + head + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    return body + b"--xyz--\r\n", f"multipart/form-data; boundary={boundary}"


def sketch(strokes, **more):
    return json.dumps({"strokes": strokes, "width": 100, "height": 50, **more}).encode()


@pytest.mark.parametrize("kind", ["image/png", "image/x-anything", "application/octet-stream", "IMAGE/PNG; a=b"])
def test_a_pictures_bytes_are_taken_as_they_are(kind):
    (upload,) = read(b"\x89PNG", kind)
    assert (upload.name, upload.content) == (None, b"\x89PNG")


def test_a_forms_files_keep_their_names_and_every_byte():
    odd = b"\r\n--xy\r\n\r\n\x00\xff--xyz"
    uploads = read(*form((b'name="a"; filename="cat 1.png"', odd), (b'name="b"', b"text"), (b"name=c; filename=d.png", b"")))
    assert [(upload.name, upload.content) for upload in uploads] == [("cat 1.png", odd), ("d.png", b"")]


@given(st.lists(st.binary(max_size=200).filter(lambda data: b"--xyz" not in data), min_size=1, max_size=3))
def test_a_form_keeps_any_bytes(contents):
    uploads = read(*form(*((b'name="f"; filename="f"', data) for data in contents)))
    assert [upload.content for upload in uploads] == contents


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
        (*form(*[(b'name="a"; filename="f"', b"x")] * 17), 422),
        (*form(*[(b'name="a"; filename="f"', b"x")] * 99), 400),
        (form((b'name="a"; filename="f"', b"x"))[0], "multipart/form-data; boundary=" + "y" * 99, 400),
    ],
)
def test_a_body_without_a_drawing_is_refused(body, kind, status):
    assert refusal(body, kind).status == status


def test_a_compressed_body_is_refused():
    assert refusal(b"x", "image/png", **{"content-encoding": "gzip"}).status == 415


def test_strokes_come_in_both_forms_with_pens_and_erasers():
    (upload,) = read(sketch([[[1, 2], [3.5, 4]], {"points": [[5, 6]], "pen": 2, "erase": True}], pen=3), "application/json")
    page = upload.content
    assert (page.width, page.height, page.pen) == (100, 50, 3)
    np.testing.assert_array_equal(page.strokes[0].points, [[1, 2], [3.5, 4]])
    assert [(stroke.pen, stroke.erase) for stroke in page.strokes] == [(None, False), (2, True)]


def test_a_page_without_strokes_is_a_page():
    assert read(sketch([]), "application/json")[0].content.strokes == ()


def test_what_is_no_json_is_refused():
    whole_number = b'{"strokes": [[[1, ' + b"9" * 5000 + b"]]]}"
    for body in (b"{", b"\xff\xfe", whole_number, *(b"[" * depth for depth in (10, 1000, 50_000))):
        assert refusal(body, "application/json").status == 400


def test_json_past_the_limit_is_refused_before_it_is_parsed():
    assert read(sketch([]).ljust(MAX_JSON_BYTES), "application/json")
    assert refusal(b"{".ljust(MAX_JSON_BYTES + 1), "application/json").status == 413


def test_a_refusal_names_the_places_of_several_problems():
    error = refusal(sketch([[[1, 2], [1, "2"]], {"pen": -1}], width=0), "application/json")
    assert (error.status, error.code) == (422, "invalid_value")
    assert error.reason == "got strokes[0][1]: [1, '2']; strokes[1].points: nothing; strokes[1].pen: -1; and 1 more"
    assert error.expected.startswith("strokes[0][1]: [x, y], numbers between -1e+06 and 1e+06; strokes[1].points: a value; ")


def test_a_refusal_is_short_whatever_it_refuses():
    deep = json.loads("[" * 900 + "]" * 900)
    for strokes in (
        deep,
        [[["x" * 99]]] * 2001,
        [[["x" * 9999]]] * 99,
        [[[10**4000, 1]]],
        [{"points": [{"a" * 999: deep}]}] * 9,
    ):
        error = refusal(sketch(strokes), "application/json")
        assert error.status == 422
        assert len(error.reason) < 300
        assert len(error.expected) < 300


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda value: st.lists(value, max_size=4) | st.dictionaries(st.sampled_from(["points", "pen", "x"]), value, max_size=3),
        max_leaves=20,
    )
)
def test_any_json_is_a_sketch_or_refused_in_few_words(strokes):
    refusals = []
    try:
        read(sketch(strokes), "application/json")
    except Refusal as error:  # nothing else is raised
        refusals.append(error)
    assert all(error.status == 422 and 0 < len(error.reason) < 300 for error in refusals)


@pytest.mark.parametrize(("text", "expected"), [("3", 3), ("99", 9), (None, 5), ("1", 1)])
def test_a_count_is_read_and_limited(text, expected):
    request = Request("POST", "/", {} if text is None else {"top": text})
    assert read_count(request, "top", 5, 1, 9) == expected


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", "", "9999999", "٣"])
def test_a_wrong_count_is_refused(text):
    with pytest.raises(Refusal, match="422"):
        read_count(Request("POST", "/", {"top": text}), "top", 5, 1, 9)


@pytest.mark.parametrize("coding", ["identity", "Identity", "IDENTITY, identity", ""])
def test_content_codings_are_compared_without_case(coding):
    assert read(b"\x89PNG", **{"content-encoding": coding})[0].content == b"\x89PNG"
    assert refusal(b"\x89PNG", **{"content-encoding": "GZIP"}).status == 415
