import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from inkfold.images.announced import COLOUR, GREY, PictureLimits, check_announced, read_announced
from inkfold.images.decode import BrokenImage

SIZE = (50, 30)


def saved(name: str, mode: str = "RGB", size: tuple[int, int] = SIZE, **options: object) -> bytes:
    data = io.BytesIO()
    Image.new(mode, size, 0).save(data, name, **options)
    return data.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_head(width: int, height: int, *more: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(more) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def webp_head(width: int, height: int) -> bytes:
    body = bytes([0x10, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + body


def tiff(*pages: dict[int, int]) -> bytes:
    """Write directories of numbers of 32 bits, without pixels."""
    data = b"II*\x00" + struct.pack("<I", 8)
    for i, page in enumerate(pages):
        end = len(data) + 2 + 12 * len(page) + 4
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(page.items()))
        data += struct.pack("<H", len(page)) + entries + struct.pack("<I", end if i + 1 < len(pages) else 0)
    return data


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P", "CMYK"])
def test_the_size_of_every_format_is_read_from_its_header(name, mode):
    if (name, mode) in {("JPEG", "RGBA"), ("JPEG", "P")} or (mode == "CMYK" and name not in ("JPEG", "TIFF")):
        return
    picture = read_announced(saved(name, mode))
    assert (picture.width, picture.height) == SIZE
    assert picture.decoded_bytes > GREY * SIZE[0] * SIZE[1]


@pytest.mark.parametrize("options", [{}, {"lossless": True}], ids=["lossy", "lossless"])
def test_the_size_of_webp_is_read_without_its_decoder(options, monkeypatch):
    data = saved("WEBP", "RGBA", **options)
    monkeypatch.setattr(Image, "open", None)
    assert (read_announced(data).width, read_announced(data).height) == SIZE


def test_more_bytes_are_expected_of_more_channels_and_depth():
    def bytes_of(pixels: np.ndarray) -> int:
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "PNG")
        return read_announced(data.getvalue()).decoded_bytes

    shapes = [(300, 300), (300, 300, 3), (300, 300, 4)]
    grey, colour, alpha = (bytes_of(np.zeros(shape, np.uint8)) for shape in shapes)
    assert grey < colour < alpha
    assert bytes_of(np.zeros((300, 300), np.uint16)) > grey
    assert colour - grey == (COLOUR - GREY) * 300 * 300


def test_several_frames_and_a_progressive_jpeg_take_more():
    frames = [Image.new("L", SIZE, level) for level in (0, 255)]
    for name in ("GIF", "PNG", "WEBP"):
        data = io.BytesIO()
        frames[0].save(data, name, save_all=True, append_images=frames[1:])
        assert read_announced(data.getvalue()).decoded_bytes > read_announced(saved(name, "L")).decoded_bytes
    assert read_announced(saved("JPEG", progressive=True)).decoded_bytes > read_announced(saved("JPEG")).decoded_bytes


def test_the_largest_page_of_a_tiff_counts():
    small, large = {256: 10, 257: 10, 258: 8}, {256: 5000, 257: 4000, 258: 32}
    picture = read_announced(tiff(small, large))
    assert (picture.width, picture.height) == (5000, 4000)
    assert picture.decoded_bytes > 4 * 5000 * 4000


def test_a_tile_larger_than_its_picture_counts():
    assert read_announced(tiff({256: 10, 257: 10, 258: 8, 322: 20_000, 323: 20_000})).decoded_bytes > 400_000_000


def test_packed_texts_count():
    text = chunk(b"zTXt", b"a\x00\x00" + zlib.compress(bytes(1_000_000)))
    assert read_announced(png_head(9, 9, text)).decoded_bytes - read_announced(png_head(9, 9)).decoded_bytes >= 1_000_000


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (png_head(1, 25_000_000), "one side at most 50 times as long"),
        (png_head(5001, 5000), "announces 5001 x 5000 = 25005000 pixels, expected at most 25000000"),
        (webp_head(5000, 5000), "which take up to 527 MiB to decode, expected at most 384 MiB"),
        (webp_head(16_000_000, 16_000_000), "pixels, expected at most 25000000"),
        (tiff({256: 5000, 257: 4900, 258: 64}), "to decode, expected at most 384 MiB"),
        (tiff({256: 10, 257: 10}, {256: 2**31, 257: 2**31}), "pixels, expected at most"),
    ],
    ids=["long-png", "large-png", "webp", "huge-webp", "deep-tiff", "second-page"],
)
def test_beyond_the_limits_a_header_is_refused(data, words):
    with pytest.raises(BrokenImage, match=words) as caught:
        check_announced(data, PictureLimits())
    assert caught.value.kind == "too_large"


def test_tags_that_point_at_the_same_bytes_again_and_again_are_refused():
    entries = b"".join(struct.pack("<HHII", 40_000 + i, 1, 200_000, 0) for i in range(20))
    data = b"II*\x00" + struct.pack("<IH", 8, 20) + entries + bytes(4) + bytes(200_000)
    with pytest.raises(BrokenImage, match="tags of 4000000 bytes in a file of 200254"):
        check_announced(data, PictureLimits())


@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF"])
def test_a_header_that_breaks_off_is_cut_short(name):
    with pytest.raises(BrokenImage, match="is cut short") as caught:
        read_announced(saved(name)[:14])
    assert caught.value.kind == "truncated"


def test_no_bytes_and_no_pixels_are_refused():
    with pytest.raises(BrokenImage, match="has 0 bytes"):
        read_announced(b"")
    with pytest.raises(BrokenImage, match="announces 0 x 10 pixels"):
        read_announced(png_head(0, 10))
