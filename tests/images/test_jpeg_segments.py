import io
import struct

import numpy as np
from PIL import Image

from inkfold.images.decode import decode_image
from inkfold.images.jpeg_segments import count_scans, header_segments


def jpeg(**options: object) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def test_the_segments_before_the_first_scan_are_listed():
    data = b"\xff\xd8" + segment(0xE0, b"JFIF") + b"\xff\xff" + segment(0xFE, b"words") + b"??" + segment(0xDA, b"scan")
    assert [(marker, data[start:end]) for marker, start, end in header_segments(data)] == [(0xE0, b"JFIF"), (0xFE, b"words")]


def test_a_segment_that_breaks_off_ends_the_list():
    assert list(header_segments(b"\xff\xd8\xff\xe0")) == [(0xE0, 6, 6)]
    assert list(header_segments(b"\xff\xd8")) == []


def test_scans_are_counted_with_and_without_restart_markers():
    assert count_scans(jpeg(), 100) == 1
    assert count_scans(jpeg(restart_marker_blocks=1), 100) == 1
    assert count_scans(jpeg(progressive=True), 100) == jpeg(progressive=True).count(b"\xff\xda") > 5
    assert count_scans(jpeg(progressive=True), 3) == 4


def test_what_looks_like_scans_in_a_profile_or_behind_the_picture_is_none():
    data = jpeg()
    profile = segment(0xE2, b"\xff\xda" * 1000)
    film = b"\xff\xda" * 1000  # phones append a few seconds of film
    assert count_scans(data[:2] + profile + data[2:] + film, 100) == 1
    np.testing.assert_array_equal(decode_image(data[:2] + profile + data[2:] + film), decode_image(data))


def test_scans_behind_a_false_end_in_a_table_are_counted():
    scan = segment(0xDA, b"x") + b"\x00"
    data = b"\xff\xd8" + scan + segment(0xC4, b"\xff\xd9") + scan * 300 + b"\xff\xd9"
    assert count_scans(data, 1000) == 301
