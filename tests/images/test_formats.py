import io
import sys
import types

import numpy as np
import pytest
from PIL import Image, ImageFile, features

from inkfold.images import formats
from inkfold.images.decode import BrokenImage, decode_image
from inkfold.images.formats import format_of

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
SIZE = (6, 4)


class StubHeif(ImageFile.ImageFile):
    """Stands for pillow-heif's plugin: decodes to a ramp that is upright already, and still shows an orientation in Exif."""

    format = "HEIF"

    def _open(self):
        self._mode, self._size = "L", SIZE
        exif = Image.Exif()
        exif[274] = 6
        self.info["exif"] = exif.tobytes()
        self.fp = io.BytesIO(bytes(range(24)))
        self.tile = [ImageFile._Tile("raw", (0, 0, *SIZE), 0, ("L", 0, 1))]


@pytest.fixture
def no_heif(monkeypatch):
    for name in formats.HEIF_PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (HEIC, "HEIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf", "HEIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x1cftypavis\0\0\0\0avismsf1miaf", "AVIF"),
        (b"\0\0\0\x14ftypisom\0\0\0\0mp42", None),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "WebP"),
        (b"RIFF\x10\0\0\0WAVEfmt ", None),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"plain", None),
        (b"", None),
    ],
)
def test_a_format_is_known_by_its_first_bytes(head, name):
    assert format_of(head) == name


def test_a_heic_without_a_decoder_says_what_to_install(no_heif):
    with pytest.raises(BrokenImage, match="`pip install pi-heif`, or `pillow-heif`") as caught:
        decode_image(HEIC)
    assert caught.value.kind == "unsupported"


@pytest.mark.parametrize("package", formats.HEIF_PACKAGES)
def test_a_heic_is_read_by_either_package_and_not_turned_twice(package, no_heif, monkeypatch):
    def register() -> None:
        Image.register_open("HEIF", StubHeif, lambda prefix: prefix[4:8] == b"ftyp")

    monkeypatch.setitem(sys.modules, package, types.SimpleNamespace(register_heif_opener=register))
    np.testing.assert_array_equal(decode_image(HEIC), np.arange(24).reshape(4, 6))
    monkeypatch.delitem(Image.OPEN, "HEIF")


def test_a_heic_counts_its_pixels(no_heif, monkeypatch):
    monkeypatch.setitem(Image.OPEN, "HEIF", (StubHeif, None))
    with pytest.raises(BrokenImage, match="6 x 4 = 24 pixels, expected at most 23"):
        decode_image(HEIC, pixel_limit=23)


def avif() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (200, 30, 30)).save(buffer, "AVIF", quality=95)
    return buffer.getvalue()


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_an_avif_is_read():
    pixels = decode_image(avif())
    assert pixels.shape == (10, 20, 3)
    assert np.abs(pixels.astype(int) - (200, 30, 30)).max() < 12


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_an_avif_that_breaks_off_is_refused():
    data = avif()
    for length in (20, 100, len(data) - 20):
        with pytest.raises(BrokenImage, match="expected"):
            decode_image(data[:length])


def test_an_avif_without_a_decoder_says_what_to_install(monkeypatch):
    monkeypatch.setattr(features, "check", lambda _name: None)
    monkeypatch.setitem(sys.modules, "pillow_avif", None)
    with pytest.raises(BrokenImage, match=r"Pillow 11\.3 or newer") as caught:
        decode_image(b"\0\0\0\x18ftypavif\0\0\0\0mif1avif")
    assert caught.value.kind == "unsupported"


def test_a_broken_image_survives_a_process_boundary():
    import pickle

    error = pickle.loads(pickle.dumps(BrokenImage("empty", "has 0 bytes")))  # as a decoding pool's pipe does
    assert (error.kind, str(error)) == ("empty", "has 0 bytes")
