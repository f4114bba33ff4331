"""Recognises the formats that can be read, by content and never by name, and opens them with the decoder that they need."""

import contextlib
import ctypes
import functools
import importlib
import io
import re
import warnings
from pathlib import Path
from typing import Literal

from PIL import Image, features

Breakage = Literal["empty", "truncated", "too_large", "not_an_image", "unsupported", "unreadable", "changed"]

PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
READ_FORMATS = "JPEG, PNG, WebP, BMP, TIFF or GIF"
SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",  # BigTIFF
    b"MM\x00+": "TIFF",
    b"RIFF": "WebP",
}
# A file's brands, in its first box (ISO/IEC 23008-12 and the AVIF specification).
HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
AVIF_BRANDS = frozenset({b"avif", b"avis"})
HEIF_PACKAGES = ("pillow_heif", "pi_heif")


class BrokenImage(Exception):  # noqa: N818 - a finding about a file, which its caller turns into a Problem
    """A file whose bytes can't be decoded to a picture.

    Args:
        kind: A stable word by which programs tell the causes apart.
        message: What was got, what was expected and what to do; the caller prefixes the file's name.
    """

    def __init__(self, kind: Breakage, message: str) -> None:
        self.kind: Breakage = kind
        super().__init__(message)

    def __reduce__(self) -> tuple[type["BrokenImage"], tuple[Breakage, str]]:
        return type(self), (self.kind, str(self))


def empty() -> BrokenImage:
    """Build the refusal of a file without any bytes."""
    return BrokenImage("empty", "has 0 bytes, expected an image. Fetch it again or remove it.")


def format_of(data: bytes) -> str | None:
    """Return the format that a file's first bytes announce, or None if it is none of those that can be read."""
    name = next((name for signature, name in SIGNATURES.items() if data.startswith(signature)), None)
    if name == "WebP" and len(data) >= 12 and data[8:12] != b"WEBP":
        return None
    brands = brands_of(data) if name is None else frozenset()
    return "AVIF" if brands & AVIF_BRANDS else "HEIF" if brands & HEIF_BRANDS else name


def open_image(data: bytes) -> Image.Image:
    """Open a file with Pillow, which reads its header only.

    HEIC is read by the package pillow-heif or by pi-heif, which only decodes and whose wheels hold no GPL library; AVIF
    by Pillow from 11.3 on, or by the package pillow-avif-plugin.

    Args:
        data: The whole file; its first bytes tell the format.

    Returns:
        The image, not yet loaded.

    Raises:
        BrokenImage: If no decoder for a HEIC or AVIF is installed.
    """
    name = format_of(data)
    if name == "HEIF":
        _need_heif()
    if name == "AVIF":
        _need_avif()
    if name == "TIFF":
        _silence_libtiff()
    return Image.open(io.BytesIO(data), formats=(name,) if name in ("HEIF", "AVIF") else PILLOW_FORMATS)


def brands_of(data: bytes) -> frozenset[bytes]:
    """Return the main and the compatible brands of an ISO base media file; none for any other file."""
    if data[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(data[:4], "big"), 512)
    return frozenset([data[8:12], *(data[start : start + 4] for start in range(16, end, 4))])


def _need_heif() -> None:
    if "HEIF" in Image.OPEN:
        return
    for name in HEIF_PACKAGES:
        try:
            importlib.import_module(name).register_heif_opener()
        except ImportError:
            continue
        return
    remedy = "Install one (`pip install pi-heif`, or `pillow-heif`) or convert it to JPEG or PNG."
    raise BrokenImage("unsupported", f"is a HEIC picture, expected a decoder for it to be installed. {remedy}")


def _need_avif() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # older versions of Pillow warn that they don't know the feature
        if features.check("avif"):
            return
    try:
        importlib.import_module("pillow_avif")
    except ImportError:
        remedy = "Install Pillow 11.3 or newer (`pip install -U pillow`) or `pillow-avif-plugin`, or convert it to JPEG or PNG."
        raise BrokenImage("unsupported", f"is an AVIF picture, expected a decoder for it to be installed. {remedy}") from None


@functools.cache
def _silence_libtiff() -> None:
    """Take away the handlers by which Pillow's libtiff prints what is wrong with a file; Pillow raises it as well."""
    Image.preinit()
    for path in _loaded_libtiff():
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(str(path))  # the one that is loaded already
            for name in ("TIFFSetErrorHandler", "TIFFSetErrorHandlerExt", "TIFFSetWarningHandler", "TIFFSetWarningHandlerExt"):
                setter = getattr(library, name)
                setter.restype, setter.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
                setter(None)


def _loaded_libtiff() -> list[Path]:
    """Find the libraries: on Linux among those of this process, on macOS in Pillow's package; elsewhere there is no way to."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return sorted((Path(Image.__file__).parent / ".dylibs").glob("libtiff*"))
    return [Path(name) for name in sorted(set(re.findall(r"(/\S.*/libtiff[^/\n]*\.so[^/\n]*)$", maps, re.MULTILINE)))]
