import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from inkfold.images import frames
from inkfold.images.decode import decode_image

SIZE = (60, 40)
LINES = [(5, 5, 50, 8), (5, 15, 50, 30), (10, 35, 30, 20)]


def page(*lines: tuple[int, int, int, int], paper: int = 255) -> Image.Image:
    picture = Image.new("L", SIZE, paper)
    for line in lines:
        ImageDraw.Draw(picture).line(line, fill=0, width=3)
    return picture


BLANK, FIRST, WHOLE, BLACK = page(), page(LINES[0]), page(*LINES), page(paper=0)
OTHER = page((50, 38, 58, 2), (45, 38, 40, 2))


def animation(pictures: list[Image.Image], name: str) -> bytes:
    buffer = io.BytesIO()
    pictures = [picture.convert("RGB" if name == "WEBP" else "L") for picture in pictures]
    options = {"lossless": True} if name == "WEBP" else {"quality": 95} if name == "AVIF" else {}
    durations = [50 + i for i in range(len(pictures))]  # frames of equal length and content would be joined
    pictures[0].save(buffer, name, save_all=True, append_images=pictures[1:], duration=durations, **options)
    return buffer.getvalue()


def assert_shows(data: bytes, expected: Image.Image) -> None:
    assert np.abs(decode_image(data).astype(int) - np.asarray(expected)).mean() < 2


ANIMATED = pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP", "AVIF"])


@ANIMATED
@pytest.mark.parametrize(
    "pictures",
    [
        [BLANK, WHOLE],
        [BLANK, FIRST, WHOLE],
        [FIRST, WHOLE],
        [FIRST, WHOLE, BLANK],
        [BLANK, WHOLE, BLACK],
        [BLANK, WHOLE, FIRST],
    ],
)
def test_a_growing_drawing_is_read_when_it_is_whole(name, pictures):
    assert_shows(animation(pictures, name), WHOLE)


@ANIMATED
@pytest.mark.parametrize("later", [BLANK, BLACK, FIRST, OTHER])
def test_a_drawing_that_is_whole_at_first_stays(name, later):
    assert_shows(animation([WHOLE, later], name), WHOLE)


@ANIMATED
def test_an_animation_of_other_drawings_gives_its_first(name):
    assert_shows(animation([FIRST, OTHER], name), FIRST)


def test_a_drawing_that_grows_on_transparent_paper_is_read_when_it_is_whole():
    layers = [
        Image.merge("LA", [Image.new("L", SIZE, 0), picture.point(lambda level: 255 - level)]) for picture in (BLANK, WHOLE)
    ]
    for name in ("PNG", "WEBP"):
        buffer = io.BytesIO()
        first, last = (layer.convert("RGBA") for layer in layers)
        first.save(buffer, name, save_all=True, append_images=[last], duration=[50, 60], lossless=True)
        assert_shows(buffer.getvalue(), WHOLE)


def test_frames_beyond_the_limits_are_not_read(monkeypatch):
    data = animation([BLANK, FIRST, WHOLE], "GIF")
    monkeypatch.setattr(frames, "MAX_FRAMES", 2)
    assert_shows(data, FIRST)
    assert np.abs(decode_image(data, frame_pixels=SIZE[0] * SIZE[1]).astype(int) - np.asarray(BLANK)).mean() < 2


def test_a_frame_larger_than_the_first_ends_the_animation():
    data = bytearray(animation([BLANK, WHOLE], "GIF"))
    second = data.rindex(b"!\xf9\x04")
    place = data.index(b",", second + 8)
    data[place + 5 : place + 9] = b"\xff\xff\xff\xff"  # 65,535 x 65,535
    assert_shows(bytes(data), BLANK)


def test_a_damaged_frame_ends_the_animation():
    data = animation([BLANK, FIRST, WHOLE], "PNG")
    last = data.rindex(b"fdAT") + 8
    damaged = data[:last] + bytes(8) + data[last + 8 :]
    assert_shows(damaged, FIRST)


def tiff(*pictures: Image.Image) -> bytes:
    buffer = io.BytesIO()
    pictures = [picture.copy() for picture in pictures]
    pictures[0].save(buffer, "TIFF", save_all=True, append_images=pictures[1:])
    return buffer.getvalue()


def test_a_tiff_gives_its_first_page_that_is_not_blank():
    assert_shows(tiff(WHOLE, OTHER), WHOLE)
    assert_shows(tiff(BLANK, BLACK, WHOLE, OTHER), WHOLE)
    assert_shows(tiff(BLANK, BLACK), BLANK)


def test_a_tiffs_reduced_copy_is_passed_over():
    buffer = io.BytesIO()
    WHOLE.resize((15, 10)).save(buffer, "TIFF", save_all=True, append_images=[WHOLE.copy()], tiffinfo={254: 1})
    data = bytearray(buffer.getvalue())
    entry = b"\xfe\0\x04\0\x01\0\0\0\x01\0\0\0"  # NewSubfileType, LONG, one value: 1
    assert data.count(entry) == 2
    data[data.rindex(entry) + 8] = 0
    assert_shows(bytes(data), WHOLE)


def test_a_later_page_that_is_too_large_is_not_read():
    pixels = decode_image(tiff(BLANK, WHOLE.resize((600, 400))), pixel_limit=10_000)
    assert pixels.shape == SIZE[::-1]
