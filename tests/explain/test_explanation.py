import io

import numpy as np
import pytest
from PIL import Image

from inkfold.explain.explanation import explanation_of
from inkfold.explain.picture import AGAINST, FOR, NEITHER, ink_colours, overlay, words_of
from inkfold.explain.strokes import split_ink

CLASSES = ("cat", "dog_house", "바다")


def square():
    made = np.full((48, 48), 255, np.uint8)
    made[4:6, 4:20], made[40:44, 30:44] = 0, 0
    return made


@pytest.fixture(scope="module")
def explained():
    drawing = square()
    probs = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.9, 0.05, 0.05]])
    return explanation_of(drawing, split_ink(drawing, 2), probs, CLASSES, 0)


def test_strokes_come_by_their_effect_with_box_and_share_of_ink(explained):
    first, second = explained.strokes
    assert (first.number, second.number) == (1, 2)
    assert first.effect == pytest.approx(np.log(4))
    assert second.effect == pytest.approx(np.log(8 / 9))
    assert first.box[0] <= 4
    assert first.box[2] >= 20
    assert first.ink_fraction == pytest.approx(32 / (32 + 56))
    assert first.ink_fraction + second.ink_fraction == pytest.approx(1)
    assert (first.where(48), second.where(48)) == ("upper left", "lower right")


def test_the_picture_is_blue_where_ink_speaks_for_the_class_and_orange_where_against(explained):
    pixels = np.asarray(explained.to_image(48))[:48].astype(int)
    assert np.abs(pixels[4, 12] - FOR).max() < 40
    blue, orange = pixels[4, 12], pixels[42, 38]
    assert blue[2] > blue[0]
    assert orange[0] > orange[2]
    assert (pixels[24, 24] == 255).all()
    assert np.asarray(explained.to_image(48)).shape[0] > 48  # the legend


def test_a_notebook_gets_a_png_and_a_short_text(explained):
    assert Image.open(io.BytesIO(explained._repr_png_())).format == "PNG"
    assert repr(explained) == "<Explanation 'cat' (0.80), 2 strokes: +1.39, -0.12 nats>"
    assert explained.as_json()["strokes"][0]["effect"] == 1.3863


def test_a_size_beyond_the_limits_is_refused(explained):
    with pytest.raises(ValueError, match="expected 16 to 4096"):
        explained.to_image(8)


def test_a_blank_page_has_a_picture_too():
    blank = np.full((48, 48), 255, np.uint8)
    found = explanation_of(blank, np.zeros((48, 48), np.int32), np.array([[0.5, 0.3, 0.2]]), CLASSES, 0, 1)
    assert found.strokes == ()
    assert repr(found) == "<Explanation 'cat' (0.50) against 'dog_house' (0.30), 0 strokes>"
    assert (np.asarray(found.to_image(48))[:48] == 255).all()


def test_ink_without_any_effect_is_grey_and_the_overlay_has_no_paper():
    assert (ink_colours(np.zeros((1, 1))) == NEITHER).all()
    assert (ink_colours(np.array([[1.0, -1.0]]))[0] == [FOR, AGAINST]).all()
    layer = overlay(square(), np.where(square() < 255, 0.5, 0.0))
    assert layer[4, 10].tolist() == [*FOR, 255]
    assert layer[20, 20, 3] == 0


def test_names_that_the_legends_font_lacks_are_paraphrased():
    assert words_of("dog_house", None) == ("speaks for dog house", "speaks against dog house")
    assert words_of("바다", "cat") == ("speaks for the answer", "speaks for cat")
