"""Says what a file is that is no picture of pixels, and how the drawing is got from it."""

import re
import zlib

from inkfold.images.formats import READ_FORMATS, Breakage, BrokenImage, brands_of

NAMED_BYTES = 512
SVG_SEARCH_BYTES = 65536
SHORTEST_TEXT = 4

FETCH = "Fetch it again or remove it."
EXPORT = "Open it in the program that made it and export the drawing as PNG."
CONVERT_SVG = "Convert it to PNG, with Inkscape or with `rsvg-convert -o x.png x.svg`."
OTHER_PICTURES = {
    b"8BPS": "a Photoshop document (PSD)",
    b"gimp xcf ": "a GIMP document (XCF)",
    b"\xff\x0a": "a JPEG XL picture",
    b"\x00\x00\x00\x0cJXL \r\n\x87\n": "a JPEG XL picture",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": "a JPEG 2000 picture",
    b"\xff\x4f\xff\x51": "a JPEG 2000 picture",
    b"\x00\x00\x01\x00": "an icon (ICO)",
    b"%!PS": "a PostScript document",
    b"\xc5\xd0\xd3\xc6": "a PostScript document (EPS)",
    b"\xd7\xcd\xc6\x9a": "a Windows metafile (WMF)",
    b"\x01\x00\x00\x00\x58\x00\x00\x00": "a Windows metafile (EMF)",
    b"AT&TFORM": "a DjVu document",
    b"v/1\x01": "an OpenEXR picture",
    b"#?RADIANCE": "a Radiance HDR picture",
}
ZIPPED_PICTURES = {
    b"mimetypeapplication/x-krita": "a Krita document",
    b"mimetypeimage/openraster": "an OpenRaster document",
    b"mimetypeapplication/vnd.oasis": "an OpenDocument file",
}
UNPACK = "Unpack it and give the folder with its drawings."
SAVE_ARRAYS = "Save its drawings as PNG, for example with Pillow's `Image.fromarray`."
SAVE_FRAME = "Save the frame with the drawing as PNG."
CONTAINERS = {
    b"PK\x03\x04": ("a ZIP archive", UNPACK),
    b"PK\x05\x06": ("an empty ZIP archive", FETCH),
    b"\x1f\x8b": ("a gzip archive", UNPACK),
    b"BZh": ("a bzip2 archive", UNPACK),
    b"\xfd7zXZ\x00": ("an xz archive", UNPACK),
    b"(\xb5/\xfd": ("a Zstandard archive", UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", UNPACK),
    b"Rar!\x1a\x07": ("a RAR archive", UNPACK),
    b"%PDF": ("a PDF document", "Convert its page to PNG, for example with `pdftoppm -png`."),
    b"\x93NUMPY": ("a NumPy array", SAVE_ARRAYS),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file", SAVE_ARRAYS),
    b"\x80\x02": ("a Python pickle", SAVE_ARRAYS),
    b"\x80\x03": ("a Python pickle", SAVE_ARRAYS),
    b"\x80\x04\x95": ("a Python pickle", SAVE_ARRAYS),
    b"\x80\x05\x95": ("a Python pickle", SAVE_ARRAYS),
    b"PAR1": ("a Parquet table", SAVE_ARRAYS),
    b"SQLite format 3\x00": ("an SQLite database", SAVE_ARRAYS),
    b"\x1aE\xdf\xa3": ("a video (Matroska or WebM)", SAVE_FRAME),
    b"\x00\x05\x16\x07": ("a macOS AppleDouble file", "Remove it; the picture is the file of this name without `._`."),
    b"bplist00": ("a macOS property list", "Remove it."),
    b"L\x00\x00\x00\x01\x14\x02\x00": ("a Windows shortcut", "Copy the picture that it points to here."),
    b"\x7fELF": ("a program", "Remove it."),
    b"MZ\x90\x00": ("a program", "Remove it."),
}
LARGEST_POINTER_BYTES = 4096
LFS_POINTER = re.compile(rb"version https?://(?:git-lfs\.github\.com|hawser\.github\.com|git-media\.io)/")
ANNEX_POINTER = re.compile(rb"(?:\.\./|\.git/|/)*(?:\.git/)?annex/objects/")
WEB_PAGE = (b"<!doctype html", b"<html", b"<head", b"<body")
SVG_TAG = re.compile(rb"<(?:[\w.-]{1,40}:)?svg[\s/>]", re.IGNORECASE)
BASE64_PICTURE = re.compile(rb"(?:data:image/[\w.+-]{1,40}[;,]|iVBORw0KGgo|/9j/|R0lGOD|UklGR)")


def not_an_image(data: bytes) -> BrokenImage:
    """Say what a file is that no decoder here reads, and how the drawing is got from it.

    Args:
        data: The file's bytes, at least one.

    Returns:
        The finding, to raise.
    """
    return _pointer(data) or _other_picture(data) or _container(data) or _text(data)


def _pointer(data: bytes) -> BrokenImage | None:
    """Name the small files that stand for large ones until these are fetched."""
    if LFS_POINTER.match(data):
        name, command = "a Git LFS pointer", "git lfs pull"
    elif len(data) < LARGEST_POINTER_BYTES and ANNEX_POINTER.match(data):
        name, command = "a git-annex pointer", "git annex get ."
    else:
        return None
    return BrokenImage("not_an_image", f"is {name}, expected the picture itself. Fetch it with `{command}` in its repository.")


def _other_picture(data: bytes) -> BrokenImage | None:
    if _is_svg(data):
        got, remedy = (
            "is an SVG, which holds lines and no pixels",
            "Convert it to PNG with Inkscape or `rsvg-convert -o x.png x.svg`.",
        )
        return _finding("unsupported", got, remedy)
    name = next((name for signature, name in OTHER_PICTURES.items() if data.startswith(signature)), None)
    layers = next((name for mark, name in ZIPPED_PICTURES.items() if data.startswith(b"PK") and mark in data[:128]), None)
    return _finding("unsupported", f"is {name or layers}", EXPORT) if name or layers else None


def _container(data: bytes) -> BrokenImage | None:
    if brands_of(data):
        return _finding("not_an_image", "is a video (MP4 or MOV)", SAVE_FRAME)
    if data.startswith(b"PK") and b".npy" in data[:128]:
        return _finding("not_an_image", "holds NumPy arrays", SAVE_ARRAYS)
    if data.startswith(b"RIFF"):
        return _finding("not_an_image", f"is a RIFF file of the kind {data[8:12]!r}", FETCH)
    if not data.strip(b"\x00"):
        return _finding("not_an_image", f"holds {len(data)} zero bytes and nothing else", FETCH)
    for signature, (name, remedy) in CONTAINERS.items():
        if data.startswith(signature):
            return _finding("not_an_image", f"is {name} (it starts with the bytes {data[:8]!r})", remedy)
    return None


def _text(data: bytes) -> BrokenImage:
    """Name files of text, and show the first bytes of all others."""
    head = _as_utf_8(data[:NAMED_BYTES]).strip(b" \t\r\n")
    text = head.decode("utf-8", "ignore")
    if head.lower().startswith(WEB_PAGE):
        return _finding("not_an_image", "holds a web page (HTML)", FETCH)
    if BASE64_PICTURE.match(head):
        return _finding("not_an_image", "holds a picture as text (base64)", "Decode it to bytes, for example with `base64 -d`.")
    whole = len(text.encode()) >= len(head) - 3  # the last letter may be cut
    if len(text) < SHORTEST_TEXT or not whole or any(letter < " " and letter not in "\t\r\n" for letter in text):
        return _finding("not_an_image", f"starts with the bytes {data[:8]!r}", FETCH)
    name = "JSON" if text[0] in "{[" else "XML" if text.startswith(("<?xml", "<!--")) else "text"
    return _finding("not_an_image", f"holds {name} ({' '.join(text.split())[:30]!r})", FETCH)


def _finding(kind: Breakage, got: str, remedy: str) -> BrokenImage:
    return BrokenImage(kind, f"{got}, expected a {READ_FORMATS}. {remedy}")


def _is_svg(data: bytes) -> bool:
    """Look for the tag after byte order mark, declaration, comments and DOCTYPE, in compressed files too."""
    if data.startswith(b"\x1f\x8b"):
        try:
            data = zlib.decompressobj(31).decompress(data, SVG_SEARCH_BYTES)
        except zlib.error:
            return False
    head = _as_utf_8(data[:SVG_SEARCH_BYTES]).lstrip(b" \t\r\n")
    return head.startswith(b"<") and not head.lower().startswith(WEB_PAGE) and SVG_TAG.search(head) is not None


def _as_utf_8(data: bytes) -> bytes:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "ignore").encode()
    return data.removeprefix(b"\xef\xbb\xbf")
