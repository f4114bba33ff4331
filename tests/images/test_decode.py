import io
import struct
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageCms, ImageDraw, ImageOps, PngImagePlugin

from inkfold.images.decode import BrokenImage, decode_image, to_grey

FORMATS = {
    "jpeg": ("JPEG", {"quality": 92}),
    "progressive": ("JPEG", {"quality": 92, "progressive": True}),
    "png": ("PNG", {}),
    "gif": ("GIF", {}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "tiff_lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff_deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "webp": ("WEBP", {}),
    "webp_lossless": ("WEBP", {"lossless": True}),
}


def encode(picture: Image.Image, name: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, name, **options)
    return buffer.getvalue()


def drawing(width: int = 90, height: int = 60, colour: tuple[int, int, int] = (200, 20, 20)) -> Image.Image:
    picture = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(picture)
    pen.line((5, 5, width - 20, height - 15), fill=colour, width=4)
    pen.ellipse((width // 3, 5, width // 2, height // 2), outline=(10, 60, 10), width=2)
    return picture


def broken(data: bytes, **options: object) -> BrokenImage:
    with pytest.raises(BrokenImage) as caught:
        decode_image(data, **options)
    message = str(caught.value)
    assert "expected" in message
    assert message.endswith(".")
    assert "object at 0x" not in message
    return caught.value


@pytest.mark.parametrize("case", FORMATS)
def test_every_format_gives_its_picture(case):
    name, options = FORMATS[case]
    pixels = decode_image(encode(drawing(), name, **options))
    assert pixels.shape == (60, 90, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.asarray(drawing())).mean() < 6


@pytest.mark.parametrize("case", FORMATS)
def test_a_file_that_breaks_off_is_refused(case):
    name, options = FORMATS[case]
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))
    data = encode(noise, name, **options)
    for fraction in (0.001, 0.02, 0.3, 0.6, 0.9, 0.97):
        assert broken(data[: int(fraction * len(data))]).kind in ("truncated", "unreadable", "not_an_image", "empty")
    # Not the table of a compressed TIFF, which stands at its end.
    if case not in ("tiff_lzw", "tiff_deflate", "webp_lossless"):
        assert broken(data[: len(data) * 9 // 10]).kind == "truncated"


def test_a_png_without_its_end_is_refused_even_if_its_pixels_are_all_there():
    data = encode(drawing())
    assert broken(data[: data.index(b"IEND")]).kind == "truncated"


def test_zero_bytes_are_named_as_such():
    error = broken(b"")
    assert error.kind == "empty"
    assert str(error) == "has 0 bytes, expected an image. Fetch it again or remove it."


def test_a_file_that_is_no_picture_is_named():
    error = broken(b"\n<!DOCTYPE html><html><body>404</body></html>")
    assert error.kind == "not_an_image"
    assert "web page" in str(error)


def png_of(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(tag: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunk(*each) for each in chunks) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_from_its_header(monkeypatch):
    def decode(_image):
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr(Image.Image, "load", decode)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", decode)
    for side in (9_000, 13_000, 40_000, 2**31 - 1):
        error = broken(png_of(side, side, (b"IDAT", zlib.compress(bytes(1000)))))
        assert error.kind == "too_large"
        assert str(side) in str(error) or str(side * side) in str(error)


def test_the_pixel_limit_counts_for_jpegs_and_every_other_format():
    for name, options in FORMATS.values():
        data = encode(drawing(), name, **options)
        error = broken(data, pixel_limit=90 * 60 - 1)
        assert error.kind == "too_large"
        assert "90 x 60 = 5400 pixels, expected at most 5399" in str(error)
        assert decode_image(data, pixel_limit=90 * 60).shape[:2] == (60, 90)


def test_a_jpeg_of_endless_scans_is_refused_before_it_is_decoded():
    data = encode(drawing(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    assert decode_image(data).shape[:2] == (60, 90)
    error = broken(data[:last] + data[last:-2] * 600 + data[-2:])
    assert error.kind == "too_large"
    assert "scans" in str(error)


def test_pillows_own_limit_stays_as_it_was():
    before = Image.MAX_IMAGE_PIXELS
    decode_image(encode(drawing()), pixel_limit=10**12)
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_text_chunk_bomb_is_refused():
    bomb = png_of(1, 1, (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20_000_000))), (b"IDAT", zlib.compress(b"\0\0")))
    assert broken(bomb).kind == "too_large"


def test_ordinary_text_chunks_are_no_obstacle():
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "drawn by hand " * 100, zip=True)
    assert decode_image(encode(drawing(), pnginfo=text)).shape == (60, 90, 3)


def test_pictures_without_width_or_height_are_refused():
    for width, height in ((0, 5), (5, 0), (0, 0)):
        assert broken(png_of(width, height, (b"IDAT", zlib.compress(b"")))).kind in ("unreadable", "truncated")
    jpeg = bytearray(encode(drawing(), "JPEG"))
    start_of_frame = jpeg.index(b"\xff\xc0")
    jpeg[start_of_frame + 5 : start_of_frame + 7] = bytes(2)
    broken(bytes(jpeg))


@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1), (1, 1)])
def test_absurd_aspects_decode(size):
    assert decode_image(encode(Image.new("L", size, 7))).shape == size[::-1]


def test_a_reduced_jpeg_keeps_the_asked_side_where_it_has_it():
    for width, height, least, expected in [
        (800, 800, 336, (400, 400)),
        (801, 801, 336, (401, 401)),
        (800, 800, 401, (800, 800)),
        (1600, 800, 200, (200, 400)),
        (1600, 800, 50, (100, 200)),
        (100, 60, 336, (60, 100)),
        (800, 800, 0, (800, 800)),
    ]:
        data = encode(Image.new("L", (width, height), 200), "JPEG")
        assert decode_image(data, min_side_px=least).shape == expected


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("case", ["jpeg", "progressive", "png", "webp_lossless", "tiff", "tiff_lzw"])
def test_the_exif_orientation_is_applied_as_pillow_does_it(case, orientation):
    name, options = FORMATS[case]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(drawing(), name, exif=exif, **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    pixels = decode_image(data)
    assert pixels.shape == expected.shape
    assert pixels.flags.c_contiguous
    assert np.abs(pixels.astype(int) - expected).max() <= 3


def test_damaged_exif_leaves_the_picture_readable():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(encode(drawing(), "JPEG", exif=exif))
    start = data.index(b"Exif\0\0") + 6
    data[start + 4 : start + 8] = b"\xff\xff\xff\xff"
    assert decode_image(bytes(data)).shape == (60, 90, 3)


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "I", "F"])
def test_grey_modes_become_grey_arrays(mode):
    grey = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8))
    picture = {
        "I;16": lambda: Image.fromarray(np.array([[0, 65535], [65535, 0]], np.uint16)),
        "I": lambda: Image.fromarray(np.array([[0, 255], [255, 0]], np.int32)),
        "F": lambda: Image.fromarray(np.array([[0, 1], [1, 0]], np.float32)),
    }.get(mode, lambda: grey.convert(mode))()
    data = encode(picture, "TIFF")
    np.testing.assert_array_equal(decode_image(data), np.asarray(grey))


def test_sixteen_bits_are_divided_by_257():
    values = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    for name in ("PNG", "TIFF"):
        np.testing.assert_array_equal(decode_image(encode(Image.fromarray(values), name)), [[0, 1, 128, 255]])


def test_wide_integers_and_odd_floats_are_scaled_by_their_largest():
    wide = encode(Image.fromarray(np.array([[0, 65535]], np.int32)), "TIFF")
    np.testing.assert_array_equal(decode_image(wide), [[0, 255]])
    floats = encode(Image.fromarray(np.array([[0, 0.5, np.nan, 1]], np.float32)), "TIFF")
    np.testing.assert_array_equal(decode_image(floats), [[0, 128, 0, 255]])


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB"])
def test_other_colour_spaces_become_rgb(mode):
    solid = Image.new("RGB", (16, 16), (200, 40, 40))
    if mode == "LAB":
        spaces = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        picture = ImageCms.profileToProfile(solid, *spaces, outputMode="LAB")
    else:
        picture = solid.convert(mode)
    pixels = decode_image(encode(picture, "TIFF"))
    assert np.abs(pixels.astype(int) - (200, 40, 40)).max() <= 4


@pytest.mark.parametrize("transform", [0, 2])
def test_cmyk_and_ycck_jpegs_look_as_in_pillow(transform):
    data = bytearray(encode(drawing().convert("CMYK"), "JPEG", quality=95))
    adobe = data.index(b"Adobe")
    data[adobe + 11] = transform  # 2 makes the decoders read the same bytes as YCCK
    assert simplejpeg.decode_jpeg_header(bytes(data))[2] == ("CMYK", "YCCK")[transform // 2]
    with Image.open(io.BytesIO(bytes(data))) as image:
        expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(decode_image(bytes(data), colour="rgb") - expected).max() <= 2


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_black_strokes_on_transparency_come_out_black_on_white(mode):
    picture = Image.new("LA", (20, 20), (0, 0))
    ImageDraw.Draw(picture).line((0, 10, 19, 10), fill=(0, 255))
    picture = picture.convert("RGBA").quantize(4) if mode == "PA" else picture.convert(mode)
    pixels = decode_image(encode(picture))
    assert pixels.shape == (20, 20)
    assert pixels[0, 0] == 255
    assert pixels[10, 10] == 0


@pytest.mark.parametrize("ink", [255, 225])
def test_light_strokes_on_transparency_come_out_light_on_black(ink):
    picture = Image.new("LA", (20, 20), (255, 0))
    ImageDraw.Draw(picture).line((0, 10, 19, 10), fill=(ink, 255))
    pixels = decode_image(encode(picture))
    assert pixels[0, 0] == 0
    assert pixels[10, 10] == ink


def test_a_palette_with_a_transparent_entry_is_laid_on_white():
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.putpixel((3, 3), 1)
    for name in ("PNG", "GIF"):
        pixels = decode_image(encode(picture, name, transparency=0))
        assert tuple(pixels[0, 0]) == (255, 255, 255)
        assert tuple(pixels[3, 3]) == (255, 0, 0)


def test_full_transparency_is_a_blank_page():
    assert (decode_image(encode(Image.new("RGBA", (9, 9), (0, 0, 0, 0)))) == 255).all()


def test_an_animation_of_blank_frames_gives_its_first_frame():
    frames = [Image.new("L", (8, 8), level) for level in (0, 200)]
    for name in ("GIF", "WEBP", "TIFF", "PNG"):
        options = {} if name in ("TIFF", "GIF") else {"lossless": True}
        data = encode(frames[0], name, save_all=True, append_images=frames[1:], **options)
        assert (decode_image(data) == 0).all()


def test_a_jpeg_damaged_in_the_middle_is_refused():
    data = bytearray(encode(drawing(400, 400), "JPEG", quality=95))
    middle = data.index(b"\xff\xda") + 2000
    data[middle : middle + 40] = b"\xff\xd9" + bytes(38)
    assert broken(bytes(data)).kind in ("truncated", "unreadable")


def test_many_bytes_left_over_before_a_jpegs_end_mean_damage():
    data = encode(drawing(), "JPEG")
    assert broken(data[:-2] + b"\x11" * 500 + data[-2:]).kind == "unreadable"


def test_a_few_bytes_left_over_before_a_jpegs_end_are_harmless():
    data = encode(drawing(), "JPEG")
    padded = data[:-2] + b"\x11" * 20 + data[-2:]
    with pytest.raises(ValueError, match="extraneous bytes before marker 0xd9"):
        simplejpeg.decode_jpeg(padded)
    np.testing.assert_array_equal(decode_image(padded), decode_image(data))


def test_running_out_of_memory_is_a_broken_image_with_its_words(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise MemoryError

    monkeypatch.setattr(Image, "open", refuse)
    assert "MemoryError" in str(broken(encode(drawing())))


@pytest.mark.parametrize("case", FORMATS)
def test_flipped_bytes_give_an_array_or_a_broken_image_and_nothing_else(case):
    name, options = FORMATS[case]
    whole = encode(drawing(48, 40), name, **options)
    rng = np.random.default_rng(zlib.crc32(case.encode()))
    for round_ in range(150):
        data = bytearray(whole)
        reach = len(data) if round_ % 2 else min(len(data), 200)  # headers are where decoders trip
        for place in rng.integers(0, reach, int(rng.integers(1, 8))):
            data[place] = rng.integers(256)
        if round_ % 5 == 0:
            data = data[: int(rng.integers(len(data)))]
        try:
            pixels = decode_image(bytes(data), min_side_px=int(rng.integers(0, 40)), pixel_limit=1_000_000)
        except BrokenImage:
            continue
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 2 or pixels.shape[2:] == (3,)
        assert pixels.size > 0


def test_a_colour_jpeg_decoded_as_grey_is_the_luma_of_its_colours():
    data = encode(drawing(), "JPEG", quality=95, subsampling=0)
    difference = decode_image(data, colour="grey").astype(int) - to_grey(decode_image(data, colour="rgb"))
    assert np.abs(difference).max() <= 8  # the RGB was clipped on the way
    assert np.abs(difference).mean() < 0.5
