import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from inkfold.images.decode import BrokenImage, decode_image

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


def saved(name: str, **options: object) -> bytes:
    data = io.BytesIO()
    Image.fromarray(PIXELS).save(data, name, **options)
    return data.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(rows: int, *, kind: int = 0, interlaced: int = 0, level: int = 0) -> bytes:
    """Write a PNG that announces 10 x 9 pixels and holds so many rows of one level in a whole zlib stream."""
    width = 10 * {0: 1, 2: 3, 6: 4}[kind]
    coded = zlib.compress((b"\x00" + bytes([level]) * width) * rows)
    parts = (coded[:7], coded[7:])  # a stream may go on in the next chunk
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 10, 9, 8, kind, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(b"IDAT", part) for part in parts) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
        ("AVIF", {}),
    ],
)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_file_that_ends_early_is_cut_short_in_every_format(name, options, share):
    data = saved(name, **options)
    data = data[: int(share * len(data))]
    with pytest.raises(BrokenImage, match=f"is cut short after {len(data)} bytes") as caught:
        decode_image(data)
    assert caught.value.kind == "truncated"


@pytest.mark.parametrize("kind", [0, 2, 6])
def test_a_png_whose_whole_stream_lacks_rows_is_cut_short(kind):
    with pytest.raises(BrokenImage, match="bytes of pixels") as caught:
        decode_image(png(8, kind=kind, level=200))
    assert caught.value.kind == "truncated"


def test_a_whole_png_with_a_black_last_row_is_read():
    assert not decode_image(png(9)).any()
    assert decode_image(png(9, level=7)).shape == (9, 10)


def test_the_passes_of_an_interlaced_png_are_counted():
    # By hand, of 10 x 9: 2 x 2, 1 x 2, 3 x 1, 2 x 3, 5 x 2, 5 x 5 and 10 x 4 pixels in the seven passes, and 19 filters.
    whole = zlib.compress(bytes(4 + 2 + 3 + 6 + 10 + 25 + 40 + 2 + 2 + 1 + 3 + 2 + 5 + 4))
    short = zlib.compress(bytes(4 + 2 + 3 + 6 + 10 + 25 + 40 + 2 + 2 + 1 + 3 + 2 + 5 + 4 - 1))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 10, 9, 8, 0, 0, 0, 1))
    whole, short = (b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", coded) + chunk(b"IEND", b"") for coded in (whole, short))
    assert decode_image(whole).shape == (9, 10)
    with pytest.raises(BrokenImage, match="is cut short"):
        decode_image(short)


def test_broken_tiffs_write_nothing_to_the_terminal(tmp_path):
    data = [saved("TIFF", compression=kind) for kind in ("jpeg", "tiff_lzw", "tiff_adobe_deflate", "packbits")]
    for i, whole in enumerate(data):
        for j, share in enumerate((0.2, 0.6, 0.95)):
            cut = int(share * len(whole))
            (tmp_path / f"{i}-{j}").write_bytes(whole[:cut] + bytes(50) + whole[cut + 50 :])
    code = """
import pathlib, sys
from inkfold.images.decode import BrokenImage, decode_image
for path in pathlib.Path(sys.argv[1]).iterdir():
    try:
        decode_image(path.read_bytes())
    except BrokenImage:
        pass
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
