import numpy as np
import pytest
from PIL import Image

from inkfold.images.page import Page
from inkfold.images.preprocess import ImageOptions, square_of
from inkfold.serve.framing import frame_picture, read_frame
from inkfold.serve.messages import Refusal, Request
from served import png

LOOK = {"margin_fraction": 0.1}


def page(side=300, box=(200, 210, 260, 270)):
    """A page with a cross in a box: left, top, right, bottom."""
    left, top, right, bottom = box
    pixels = np.full((side, side), 255, np.uint8)
    for step in range(right - left):
        rows = np.array([top + step, bottom - 1 - step])
        pixels[rows, left + step] = pixels[np.maximum(rows - 1, top), left + step] = 0
    return pixels


def framed(pixels, chosen=None, **options):
    image = ImageOptions(size_px=32, **options)
    height, width = pixels.shape[:2]
    return frame_picture(Page(png(pixels)), image, LOOK, (width, height), chosen)


def plain(pixels, **options):
    return square_of(Page(png(pixels)), ImageOptions(size_px=32, **options))


@pytest.mark.parametrize("resize", ["pad", "squash"])
def test_a_small_drawing_is_cut_out_with_the_margin_of_training_drawings(resize):
    result = framed(page(), resize=resize)
    # 60 px are 0.8 of 75: a margin of 7.5, rounded to even
    assert result.frame == (192, 202, 268, 278)
    np.testing.assert_array_equal(result.square, plain(page()[202:278, 192:268], resize=resize))


def test_a_drawing_that_fills_its_page_about_as_in_training_is_read_as_predict_reads_it():
    pixels = page(box=(60, 60, 240, 240))
    result = framed(pixels)
    assert result.frame == (0, 0, 300, 300)
    np.testing.assert_array_equal(result.square, plain(pixels))


def test_the_word_page_leaves_a_small_drawing_alone():
    result = framed(page(), "page")
    assert result.frame == (0, 0, 300, 300)
    np.testing.assert_array_equal(result.square, plain(page()))


@pytest.mark.parametrize("chosen", [None, "page"])
def test_a_model_that_crops_crops_as_predict_does(chosen):
    result = framed(page(), chosen, resize="crop_to_ink")
    assert result.frame == (197, 207, 263, 273)  # a margin of 5 % of 60
    np.testing.assert_array_equal(result.square, plain(page(), resize="crop_to_ink"))


def test_a_chosen_frame_is_read_as_if_it_were_the_page():
    result = framed(page(), (190.2, 200.9, 280.0, 290.0))
    assert result.frame == (190, 200, 280, 290)
    np.testing.assert_array_equal(result.square, plain(page()[200:290, 190:280]))
    assert framed(page(), (250, 250, 900, 900)).frame == (250, 250, 300, 300)


def test_a_frame_beside_the_picture_is_refused():
    with pytest.raises(Refusal, match="422 invalid_value: got a frame of 300, 0, 400, 9 on 300 x 300 pixels"):
        framed(page(), (300, 0, 400, 9))


def test_a_blank_page_has_no_frame():
    assert framed(np.full((50, 50), 255, np.uint8)).frame is None


def test_the_frame_of_a_reduced_jpeg_is_in_its_own_pixels(tmp_path):
    pixels = np.full((1600, 3200), 255, np.uint8)
    pixels[1000:1400:4, 400:1000] = 0
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    options = ImageOptions(size_px=32, paper="keep")
    result = frame_picture(Page((tmp_path / "a.jpg").read_bytes()), options, LOOK, (3200, 1600), None)
    assert result.frame == pytest.approx((325, 925, 1075, 1475), abs=12)  # a margin of 75


@pytest.mark.parametrize(
    ("text", "frame"),
    [(None, None), ("page", "page"), ("1,2,3.5,4", (1, 2, 3.5, 4)), ("-1,-2,3,4", (-1, -2, 3, 4))],
)
def test_frames_are_read_from_the_query(text, frame):
    assert read_frame(Request("POST", "/predict", {} if text is None else {"frame": text})) == frame


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1,2,3,4,5", "3,2,1,4", "1,4,3,4", "nan,0,1,1", "1e9,0,2e9,1", "Page", "1,2,3,x"]
)
def test_other_frames_are_refused(text):
    with pytest.raises(Refusal, match="422 invalid_value"):
        read_frame(Request("POST", "/predict", {"frame": text}))
