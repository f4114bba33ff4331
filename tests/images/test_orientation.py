import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from inkfold.images.decode import decode_image
from inkfold.images.orientation import exif_orientation, jpeg_orientation, xmp_orientation

XMP_MARK = b"http://ns.adobe.com/xap/1.0/\0"
FORMS = {1: "B", 3: "H", 4: "I", 8: "h", 9: "i"}


def encode(picture: Image.Image, name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, name, **options)
    return buffer.getvalue()


def upright() -> Image.Image:
    picture = Image.new("L", (64, 40), 255)
    ImageDraw.Draw(picture).polygon([(4, 4), (40, 4), (4, 30)], fill=0)
    return picture


def lying() -> Image.Image:
    return upright().transpose(Image.Transpose.ROTATE_90)  # orientation 6 turns it back


def stands_upright(data: bytes) -> bool:
    pixels = decode_image(data)
    return pixels.shape == (40, 64) and np.abs(pixels.astype(int) - np.asarray(upright())).mean() < 5


def exif(value: int = 6, order: str = "<", kind: int = 3, others: int = 0) -> bytes:
    entries = [struct.pack(order + "HHII", tag, 4, 1, 9) for tag in range(others)]
    entries.append(struct.pack(order + "HHI", 274, kind, 1) + struct.pack(order + FORMS[kind], value).ljust(4, b"\0"))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    return head + b"".join(entries) + bytes(4)


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def exif_segment(*arguments: object, **named: object) -> bytes:
    return segment(0xE1, b"Exif\0\0" + exif(*arguments, **named))


def jpeg_with(*segments: bytes) -> bytes:
    data = encode(lying(), "JPEG", quality=95)
    return data[:2] + b"".join(segments) + data[2:]


def png_with(before: bytes = b"", after: bytes = b"", picture: Image.Image | None = None) -> bytes:
    data = encode(picture or lying(), "PNG")
    start, end = data.index(b"IDAT") - 4, data.index(b"IEND") - 4
    return data[:start] + before + data[start:end] + after + data[end:]


def chunk(tag: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))


def raw_profile(name: bytes, body: bytes) -> bytes:
    """Keep a profile as ImageMagick does."""
    lines = b"\n%s\n%8d\n%s\n" % (name, len(body), body.hex().encode())
    return chunk(b"zTXt", b"Raw profile type " + name + b"\0\0" + zlib.compress(lines))


ATTRIBUTE = b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
PACKETS = {
    "attribute": ATTRIBUTE,
    "element": b'<r xmlns:tiff="http://ns.adobe.com/tiff/1.0/"><tiff:Orientation>6</tiff:Orientation></r>',
    "element with blanks": b"<tiff:Orientation xml:lang='en'>\n  6\n</tiff:Orientation>",
    "single quotes": b"<r tiff:Orientation = '6'/>",
    "other prefix": b'<r xmlns:t="http://ns.adobe.com/tiff/1.0/" t:Orientation="6"/>',
    "UTF-16": ATTRIBUTE.decode().encode("utf-16-le"),
}
# Each is longer than one segment can be.
OTHER_SEGMENTS = {
    "a colour profile": b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes([i, 2]) + bytes(60_000)) for i in (1, 2)),
    "comments": segment(0xFE, b"Exif\0\0" + bytes(60_000)) * 2,
    "extended XMP": segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(60_000)) * 3,
    "another program's": segment(0xEB, b"\xff\xe1\xff\xd9" * 10_000) * 2,
}


@pytest.mark.parametrize("others", OTHER_SEGMENTS)
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_found_behind_any_other_segments(others, order):
    assert stands_upright(jpeg_with(OTHER_SEGMENTS[others], exif_segment(order=order)))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", FORMS)
def test_the_value_may_have_any_integer_type(order, kind):
    for value in range(1, 9):
        assert exif_orientation(exif(value, order, kind)) == value


def test_the_tag_may_stand_behind_many_others():
    assert exif_orientation(exif(others=200)) == 6
    assert exif_orientation(exif(others=200)[:-20]) is None  # the directory breaks off before the tag


@pytest.mark.parametrize("value", [0, 9, 600])
def test_a_value_out_of_range_counts_as_none(value):
    assert exif_orientation(exif(value)) is None
    assert jpeg_orientation(jpeg_with(exif_segment(value))) == 1


@pytest.mark.parametrize("packet", PACKETS)
def test_xmp_is_read_in_every_way_it_is_written(packet):
    assert xmp_orientation(PACKETS[packet]) == 6
    assert stands_upright(jpeg_with(segment(0xE1, XMP_MARK + PACKETS[packet])))


def test_xmp_of_another_namespace_is_no_orientation():
    assert xmp_orientation(b'<r exif:Orientation="6"/>') is None
    assert xmp_orientation(b'<r tiff:Orientation="9"/>') is None
    assert xmp_orientation(b"") is None


@pytest.mark.parametrize("exif_first", [True, False])
def test_exif_overrides_xmp(exif_first):
    segments = [exif_segment(6), segment(0xE1, XMP_MARK + ATTRIBUTE.replace(b'"6"', b'"3"'))]
    assert jpeg_orientation(jpeg_with(*segments[:: 1 if exif_first else -1])) == 6


def test_xmp_counts_where_exif_has_no_valid_value():
    assert jpeg_orientation(jpeg_with(exif_segment(0), segment(0xE1, XMP_MARK + ATTRIBUTE))) == 6


@pytest.mark.parametrize("damage", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0rubbish"])
def test_a_damaged_exif_segment_does_not_hide_a_whole_one(damage):
    assert jpeg_orientation(jpeg_with(segment(0xE1, damage), exif_segment())) == 6


def test_fill_bytes_and_bytes_between_segments_are_skipped():
    comment = segment(0xFE, b"made by hand")
    assert jpeg_orientation(jpeg_with(b"\xff\xff\xff", exif_segment())) == 6
    assert jpeg_orientation(jpeg_with(comment, b"\0\1\2", exif_segment())) == 6


def test_exif_in_a_comment_or_behind_the_picture_does_not_count():
    assert jpeg_orientation(jpeg_with(segment(0xFE, b"Exif\0\0" + exif()))) == 1
    assert jpeg_orientation(encode(lying(), "JPEG") + exif_segment()) == 1


def test_a_jpeg_of_endless_segments_is_walked_to_a_limit_only():
    assert jpeg_orientation(jpeg_with(segment(0xFE, b"") * 10_000, exif_segment())) == 1


CHUNKS = {
    "eXIf": chunk(b"eXIf", exif()),
    "eXIf with a mark": chunk(b"eXIf", b"Exif\0\0" + exif(order=">", kind=4)),
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + ATTRIBUTE),
    "compressed XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(PACKETS["element"])),
    "raw exif": raw_profile(b"exif", b"Exif\0\0" + exif()),
    "raw APP1": raw_profile(b"APP1", b"Exif\0\0" + exif()),
    "raw APP1 with XMP": raw_profile(b"APP1", XMP_MARK + ATTRIBUTE),
    "raw xmp": raw_profile(b"xmp", ATTRIBUTE),
}


@pytest.mark.parametrize("kind", CHUNKS)
def test_a_png_is_turned_by_chunks_before_and_behind_its_pixels(kind):
    assert stands_upright(png_with(before=CHUNKS[kind]))
    assert stands_upright(png_with(after=CHUNKS[kind]))


def test_a_damaged_raw_profile_leaves_a_png_as_it_is():
    text = chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 12\nnot hexadecimal\n")
    assert stands_upright(png_with(before=text, picture=upright()))


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_xmp_turns_every_format_as_pillow_does(name, value):
    packet = ATTRIBUTE.replace(b'"6"', b'"%d"' % value)
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}, "TIFF": {"tiffinfo": {700: packet}}}
    if name == "PNG":
        data = png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet), picture=upright())
    else:
        data = encode(upright(), name, **({} if name == "TIFF" else {"xmp": packet}), **options[name])
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("L"))
    pixels = decode_image(data, colour="grey")
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() < 3


@pytest.mark.parametrize("value", range(1, 9))
def test_an_avif_that_its_container_turns_is_turned_once(value):
    tags = Image.Exif()
    tags[274] = value
    turned = upright()
    turned.getexif()[274] = {6: 8, 8: 6}.get(value, value)  # a quarter turn is undone by the other, all else by itself
    assert stands_upright(encode(ImageOps.exif_transpose(turned), "AVIF", exif=tags, quality=95))


@pytest.mark.parametrize("kind", [1, 3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_is_turned_by_its_own_tag(order, kind):
    pixels = np.asarray(lying())
    height, width = pixels.shape
    numbers = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: pixels.size}
    entries = [struct.pack(order + "HHII", tag, 4, 1, number) for tag, number in numbers.items()]
    entries.append(struct.pack(order + "HHI", 274, kind, 1) + struct.pack(order + FORMS[kind], 6).ljust(4, b"\0"))
    entries.sort(key=lambda entry: struct.unpack_from(order + "H", entry))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + pixels.size)
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    assert stands_upright(head + pixels.tobytes() + directory)
