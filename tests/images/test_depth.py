import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from inkfold.images.decode import BrokenImage, decode_image
from inkfold.images.depth import read_deep, scale_to_8_bits

RAMP = np.array([[0, 64, 128, 255], [255, 0, 200, 10]], np.uint8)
FACTORS = {8: 1, 10: 4, 12: 16, 14: 64}


def encode(picture: Image.Image, name: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, name, **options)
    return buffer.getvalue()


def png16(values: np.ndarray) -> bytes:
    """Write 16 bits a channel, which Pillow can't do with colours: 1 channel is grey, 2 are grey and alpha, then RGB(A)."""

    def chunk(tag: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))

    height, width, channels = values.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(values: np.ndarray, order: str, photometric: int, *others: tuple[int, int]) -> bytes:
    """Write a plain TIFF of (h, w) or (h, w, channels) in either byte order; `others` are more tags of type SHORT."""
    channels = values.shape[2] if values.ndim == 3 else 1
    body = values.astype(values.dtype.newbyteorder(order)).tobytes()
    bits, kind = 8 * values.dtype.itemsize, {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    lists = struct.pack(f"{order}{2 * channels}H", *[bits] * channels, *[kind] * channels)
    single = {256: values.shape[1], 257: values.shape[0], 259: 1, 262: photometric, 277: channels, 278: values.shape[0]}
    entries = [struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in (*single.items(), *others)]
    entries += [struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in ((273, 8), (279, len(body)))]
    for tag, value, start in ((258, bits, 0), (339, kind, 2 * channels)):
        place = struct.pack(order + "HH", value, value) if channels <= 2 else struct.pack(order + "I", 8 + len(body) + start)
        entries.append(struct.pack(order + "HHI", tag, 3, channels) + place)
    entries.sort(key=lambda entry: struct.unpack_from(order + "H", entry))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(body) + len(lists))
    return head + body + lists + struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)


def assert_close(pixels: np.ndarray, expected: np.ndarray, levels: int = 1) -> None:
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= levels


@pytest.mark.parametrize(
    ("largest", "full_scale"),
    [(2, 255), (255, 255), (256, 1023), (1023, 1023), (1024, 4095), (4095, 4095), (4096, 16383), (16384, 65535)],
)
def test_the_full_scale_is_that_of_the_smallest_depth_that_holds_the_largest_value(largest, full_scale):
    for kind in (np.uint16, np.int32, np.uint32):
        levels = scale_to_8_bits(np.array([[0, largest]], kind))
        np.testing.assert_array_equal(levels, [[0, round(largest / full_scale * 255)]])


def test_a_page_of_zeros_stays_black_and_its_noise_dark():
    for kind in (np.uint16, np.int32, np.float32, np.float64):
        assert not scale_to_8_bits(np.zeros((3, 3), kind)).any()
    assert scale_to_8_bits(np.arange(6, dtype=np.uint16).reshape(2, 3)).max() == 5


def test_zeros_and_ones_are_a_mask():
    mask = (RAMP > 127).astype(np.uint8)
    for data in (
        encode(Image.fromarray(mask)),
        encode(Image.fromarray(mask.astype(np.uint16))),
        encode(Image.fromarray(mask), "TIFF"),
    ):
        np.testing.assert_array_equal(decode_image(data), mask * 255)


def test_integers_below_zero_are_spread_over_their_range():
    values = (RAMP.astype(np.int32) * 257 - 2**15).astype(np.int16)
    np.testing.assert_array_equal(scale_to_8_bits(values), RAMP)


def test_signed_16_bits_have_15_for_the_levels():
    for order in "<>":
        assert_close(decode_image(tiff(RAMP.astype(np.int16) * 128, order, 1)), RAMP)


@pytest.mark.parametrize("scale", [0.05, 1, 1.05, 255, 262, 1023, 4095, 65535, 1e6])
def test_floats_on_any_scale_are_read(scale):
    values = (RAMP / 255 * scale).astype(np.float32)
    assert_close(decode_image(encode(Image.fromarray(values), "TIFF")), RAMP, 14)


def test_floats_that_are_no_numbers_and_those_of_a_network_are_read():
    odd = np.array([[0, 1, np.nan, np.inf, -np.inf]], np.float32)
    np.testing.assert_array_equal(scale_to_8_bits(odd), [[0, 255, 0, 255, 0]])
    assert not scale_to_8_bits(np.full((2, 2), np.nan, np.float32)).any()
    assert_close(scale_to_8_bits(RAMP / 127.5 - 1), RAMP)
    assert not scale_to_8_bits(np.full((2, 2), -5.0)).any()
    assert not scale_to_8_bits(np.full((2, 2), -5)).any()


@pytest.mark.parametrize("bits", FACTORS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_of_16_bits_that_uses_fewer_is_read(bits, channels):
    values = np.repeat(RAMP[..., None].astype(np.uint16) * FACTORS[bits], channels, 2)
    assert_close(decode_image(png16(values)), RAMP, 4)


@pytest.mark.parametrize("bits", FACTORS)
def test_colours_and_alpha_of_16_bits_are_each_scaled_by_what_they_use(bits):
    grey, full = RAMP.astype(np.uint16) * FACTORS[bits], np.full_like(RAMP, 65535, np.uint16)
    assert_close(decode_image(png16(np.dstack([grey, full]))), RAMP, 4)
    assert_close(decode_image(png16(np.dstack([grey] * 3 + [full]))), RAMP, 4)
    ink = (255 - RAMP).astype(np.uint16) * FACTORS[bits]
    black = np.zeros_like(ink)
    assert_close(decode_image(png16(np.dstack([black, ink]))), RAMP, 4)
    assert_close(decode_image(png16(np.dstack([black, black, black, ink]))), RAMP, 4)


def test_colours_of_the_whole_16_bits_keep_their_upper_byte():
    values = np.array([[(65535, 0, 0), (40_000, 20_000, 255), (1, 2, 3)]], np.uint16)
    np.testing.assert_array_equal(decode_image(png16(values)), values >> 8)


def test_a_hue_survives_the_scaling():
    values = np.array([[(4095, 0, 0), (4095, 4095, 4095)]], np.uint16)
    np.testing.assert_array_equal(decode_image(png16(values)), [[(255, 0, 0), (255, 255, 255)]])


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("kind", ["8", "16", "12 of 16", "32", "float", "double"])
def test_tiffs_of_both_byte_orders_and_both_polarities_are_read(order, white_is_zero, kind):
    stored = 255 - RAMP if white_is_zero else RAMP
    values = {
        "8": stored,
        "16": stored.astype(np.uint16) * 257,
        "12 of 16": stored.astype(np.uint16) * 16,
        "32": stored.astype(np.uint32),
        "float": (stored / 255).astype(np.float32),
        "double": stored / 255,
    }[kind]
    assert_close(decode_image(tiff(values, order, 0 if white_is_zero else 1)), RAMP, 2)


@pytest.mark.parametrize("order", "<>")
def test_one_bit_of_both_polarities_is_read(order):
    bits = np.array([[1, 0, 0, 1, 0, 1, 1, 0]], np.uint8)
    for photometric in (0, 1):
        data = tiff(np.packbits(bits ^ (photometric == 0), axis=1), order, photometric)
        for tag, before, after in ((256, (1, 0), (8, 0)), (258, (8, 8), (1, 1))):
            entry = struct.pack(order + "HHI", tag, 3, 1)
            assert entry + struct.pack(order + "HH", *before) in data
            data = data.replace(entry + struct.pack(order + "HH", *before), entry + struct.pack(order + "HH", *after))
        np.testing.assert_array_equal(decode_image(data), bits * 255)


@pytest.mark.parametrize("order", "<>")
def test_colour_tiffs_of_every_depth_are_read(order):
    colours = np.dstack([RAMP, RAMP[::-1], RAMP[:, ::-1]])
    for values in (
        colours,
        colours.astype(np.uint16) * 257,
        colours.astype(np.uint16) * 16,
        (colours / 255).astype(np.float32),
    ):
        assert_close(decode_image(tiff(values, order, 2)), colours, 4)
    ink = np.dstack([np.zeros_like(colours), 255 - RAMP])
    for values in (ink, ink.astype(np.uint16) * 257):
        assert_close(decode_image(tiff(values, order, 5), colour="grey"), RAMP, 2)  # CMYK, ink in black


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_that_pillow_does_not_know_is_turned_once(orientation):
    known, rare = (tiff(values, ">", 1, (274, orientation)) for values in (RAMP, RAMP / 255))
    np.testing.assert_array_equal(decode_image(rare), decode_image(known))


def test_a_tiff_that_no_decoder_knows_is_refused_and_one_too_large_is_not_decoded(monkeypatch):
    two = tiff(np.dstack([RAMP, RAMP]).astype(np.uint16) * 257, "<", 1)
    with pytest.raises(BrokenImage, match="2 channels and 16 bits") as caught:
        decode_image(two)
    assert caught.value.kind == "unsupported"
    monkeypatch.setattr("inkfold.images.decode.read_deep", None)
    with pytest.raises(BrokenImage, match="2 = 8 pixels, expected at most 7"):
        decode_image(tiff(RAMP / 255, "<", 1), pixel_limit=7)


def test_a_palette_of_one_colour_does_not_hide_the_drawing():
    picture = Image.fromarray((RAMP < 100).astype(np.uint8)).convert("P")
    for colour in (0, 255):
        picture.putpalette([colour] * 6)
        for name in ("PNG", "GIF"):
            np.testing.assert_array_equal(decode_image(encode(picture, name)), np.where(RAMP < 100, 0, 255))


def test_read_deep_gives_none_for_rubbish():
    assert read_deep(b"II*\0rubbish") is None
