from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from copies import drawing, scaled, with_margins
from inkfold.augment.photographs import photograph
from inkfold.augment.rng import Draws
from inkfold.data.fingerprints import SIDE, SignatureStore, moments, sign, sign_ink
from inkfold.data.ink_matching import compare
from inkfold.images.decode import decode_image
from inkfold.images.page import Page
from inkfold.storage.pixels import digest_files
from toy import break_image


def page(size_px=100):
    return np.full((size_px, size_px), 255, np.uint8)


def test_ink_is_centred_and_spreads_over_a_fifth_of_the_side():
    signature = sign(drawing())
    ys, xs = np.nonzero(signature)
    y, x, spread, _ = moments(ys, xs, signature[ys, xs])
    assert abs(y - (SIDE - 1) / 2) < 0.1
    assert abs(x - (SIDE - 1) / 2) < 0.1
    assert spread == pytest.approx(SIDE / 5, rel=0.03)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("flip", [False, True])
def test_a_turned_drawings_signature_is_the_turned_signature(turns, flip):
    def change(pixels):
        return np.ascontiguousarray(np.rot90(pixels[:, ::-1] if flip else pixels, turns))

    wanted = change(sign(drawing())).astype(int)
    assert np.abs(sign(change(drawing())).astype(int) - wanted).max() <= 2


def test_margins_and_inversion_change_nothing():
    pixels = drawing()
    assert np.array_equal(sign(with_margins(pixels)), sign(pixels))
    assert np.array_equal(sign(255 - pixels), sign(pixels))


@settings(max_examples=10, deadline=None)
@given(factor=st.floats(0.5, 3), index=st.integers(0, 50))
def test_size_hardly_matters(factor, index):
    pixels = drawing(index=index)
    one, other = (sign(image).astype(float).ravel() for image in (pixels, scaled(pixels, factor)))
    assert one @ other / np.sqrt((one @ one) * (other @ other)) > 0.97


def blot():
    pixels = page()
    pixels[50:52, 50:52] = 0
    return pixels


def line():
    pixels = page()
    pixels[50:53, 5:95] = 0
    return pixels


@pytest.mark.parametrize("pixels", [page(), blot(), line(), page(1), np.zeros((40, 40), np.uint8)])
def test_next_to_no_ink_gives_no_signature(pixels):
    assert not sign(pixels).any()


def test_a_small_drawing_on_a_large_page_is_signed_like_a_large_one():
    small, large = drawing(size_px=64), drawing(size_px=256)
    floating = np.full((700, 900), 255, np.uint8)
    floating[600:664, 30:94] = small
    one, other = sign(floating).astype(float).ravel(), sign(large).astype(float).ravel()
    assert one @ other / np.sqrt((one @ one) * (other @ other)) > 0.9


def test_moments_of_two_dots_by_hand():
    y, x, spread, roundness = moments(np.array([0, 0]), np.array([0, 4]), np.array([1.0, 3.0]))
    assert (y, x) == (0, 3)
    assert spread == pytest.approx(np.sqrt(3))  # 1/4 * 9 + 3/4 * 1
    assert roundness == 0


@pytest.fixture
def files(tmp_path):
    names = []
    for index in range(3):
        names.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(drawing(index=index)).save(names[-1])
    return names


def test_signatures_are_kept_by_content_and_files_are_read_once(tmp_path, files):
    digests, _ = digest_files(files)
    assert SignatureStore(tmp_path / "kept").build(files, digests) == []
    again = SignatureStore(tmp_path / "kept")
    assert again.build(["gone"] * 3, digests) == []
    expected = [sign(decode_image(Path(file).read_bytes())) for file in files]
    assert np.array_equal(again.read(digests[::-1]), expected[::-1])


def test_a_broken_drawing_is_told_of_every_copy_and_the_rest_is_signed(tmp_path, files):
    break_image(tmp_path / "1.png")
    listed = [*files, files[1]]
    digests, _ = digest_files(listed)
    store = SignatureStore(tmp_path / "kept")
    broken = store.build(listed, digests)
    assert [(one.index, one.kind) for one in broken] == [(1, "truncated"), (3, "truncated")]
    assert store.read(digests[[0, 2]]).shape == (2, SIDE, SIDE)


def test_a_file_that_changed_since_it_was_read_is_told(tmp_path, files):
    digests, _ = digest_files(files)
    Image.fromarray(drawing(index=9)).save(files[2])
    [broken] = SignatureStore(tmp_path / "kept").build(files, digests)
    assert (broken.index, broken.kind) == (2, "changed")


def test_drawings_with_too_little_ink_are_counted(tmp_path, files):
    Image.fromarray(page()).save(files[1])
    digests, _ = digest_files(files)
    store = SignatureStore(tmp_path / "kept")
    store.build(files, digests)
    assert store.count_unusable(digests) == 1


def test_photographs_of_two_drawings_on_one_table_are_no_copies(tmp_path):
    first, second = (sign_ink(photographed(drawing(name), tmp_path).ink()) for name in ("fish", "house"))
    assert compare(np.stack([first]), np.stack([second])) == [None]
    ys, xs = np.nonzero(first)
    assert moments(ys, xs, first[ys, xs])[2] == pytest.approx(SIDE / 5, rel=0.03)


def photographed(pixels, tmp_path):
    picture = photograph(pixels, "page_on_table", Draws(b"the same table"))
    Image.fromarray(picture).save(tmp_path / "picture.png")
    return Page((tmp_path / "picture.png").read_bytes())
