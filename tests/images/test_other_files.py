import gzip
import io
import pickle
import zipfile

import numpy as np
import pytest

from inkfold.images.decode import BrokenImage, decode_image

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9"><path d="M0 0"/></svg>'
DOCTYPE = b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">'
SVGS = {
    "bare": SVG,
    "blanks first": b"\n\n  " + SVG,
    "declaration": b'<?xml version="1.0" encoding="UTF-8"?>\n' + SVG,
    "byte order mark": b"\xef\xbb\xbf" + SVG,
    "long comment": b"<!-- " + b"x" * 5000 + b" -->\n" + SVG,
    "DOCTYPE": b'<?xml version="1.0"?>' + DOCTYPE + SVG,
    "prefix": SVG.replace(b"<svg", b"<svg:svg"),
    "UTF-16": SVG.decode().encode("utf-16"),
    "compressed": gzip.compress(SVG),
}


def zipped(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, "application/x-krita" if name == "mimetype" else "x")
    return buffer.getvalue()


def numpy_file() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


def refusal(data: bytes) -> BrokenImage:
    with pytest.raises(BrokenImage) as caught:
        decode_image(data)
    assert ", expected " in str(caught.value)
    assert str(caught.value).endswith(".")
    return caught.value


@pytest.mark.parametrize("kind", SVGS)
def test_an_svg_is_refused_with_how_to_convert_it(kind):
    error = refusal(SVGS[kind])
    assert error.kind == "unsupported"
    assert "is an SVG" in str(error)
    assert "Convert it to PNG" in str(error)


def test_a_web_page_with_an_svg_in_it_is_a_web_page():
    assert "web page" in str(refusal(b"<!DOCTYPE html><html><body>" + SVG))


def test_a_compressed_bomb_is_unpacked_to_a_limit_only():
    assert "gzip archive" in str(refusal(gzip.compress(bytes(50_000_000))))


@pytest.mark.parametrize("address", [b"https://git-lfs.github.com/spec/v1", b"https://hawser.github.com/spec/v1"])
def test_a_git_lfs_pointer_is_named_with_the_command_that_fetches_it(address):
    error = refusal(b"version " + address + b"\noid sha256:4d7a2146\nsize 12345\n")
    assert error.kind == "not_an_image"
    assert "is a Git LFS pointer" in str(error)
    assert "`git lfs pull`" in str(error)


@pytest.mark.parametrize(
    "target", [b"/annex/objects/SHA256E-s12--ab.png\n", b"../../.git/annex/objects/aa/bb/MD5E-s1--x/MD5E-s1--x.png"]
)
def test_a_git_annex_pointer_is_named_with_the_command_that_fetches_it(target):
    assert "is a git-annex pointer" in str(refusal(target))
    assert "`git annex get .`" in str(refusal(target))


@pytest.mark.parametrize(
    ("data", "words", "kind"),
    [
        (b"%PDF-1.7 and so on", "a PDF document", "not_an_image"),
        (b"8BPS\0\1" + bytes(30), "a Photoshop document", "unsupported"),
        (b"\xff\x0a\xfa\x1f\x41", "a JPEG XL picture", "unsupported"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(9), "a JPEG 2000 picture", "unsupported"),
        (zipped("a.txt"), "a ZIP archive", "not_an_image"),
        (zipped("arr_0.npy"), "NumPy arrays", "not_an_image"),
        (zipped("mimetype"), "a Krita document", "unsupported"),
        (numpy_file(), "a NumPy array", "not_an_image"),
        (pickle.dumps([1, 2, 3, 4]), "a Python pickle", "not_an_image"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomavc1", "a video", "not_an_image"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "RIFF file of the kind b'WAVE'", "not_an_image"),
        (bytes(1000), "1000 zero bytes", "not_an_image"),
        (b"see the readme\n", "holds text ('see the readme')", "not_an_image"),
        ("hello there".encode("utf-16"), "holds text ('hello there')", "not_an_image"),
        ("图片在这里".encode(), "holds text ('图片在这里')", "not_an_image"),
        (b'{"a": [1,2]}', "holds JSON", "not_an_image"),
        (b"<?xml version='1.0'?><ink></ink>", "holds XML", "not_an_image"),
        (b"data:image/png;base64,iVBORw0KGgo=", "as text (base64)", "not_an_image"),
        (b"iVBORw0KGgoAAAANSUhEUg", "as text (base64)", "not_an_image"),
        (b"\xe4\x01y\xf3\xbd\x06\x83\x07\x11", "starts with the bytes", "not_an_image"),
        (b"ab", "starts with the bytes b'ab'", "not_an_image"),
    ],
)
def test_other_files_are_called_what_they_are(data, words, kind):
    error = refusal(data)
    assert words in str(error)
    assert error.kind == kind
