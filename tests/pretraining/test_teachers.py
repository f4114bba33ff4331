"""Teachers' targets: principal components of standardised features, and only of the pictures that are wanted."""

import numpy as np
from pictures import Pictures
from teachers import components, features, taught_rows

from inkfold.models.weights import BackboneSpec

PICTURES = Pictures(
    pixels=np.random.default_rng(0).integers(0, 256, (4, 128, 128), np.uint8),
    source=np.array([0, 1, 1, 2]),
    label=np.array([0, 0, -1, -1]),
    instance=np.arange(4),
    names=["cat"],
)


def test_pictures_are_chosen_by_their_source_and_class() -> None:
    assert taught_rows(PICTURES, ["quickdraw", "icons"], named=False).tolist() == [0, 1, 2]
    assert taught_rows(PICTURES, ["quickdraw", "icons"], named=True).tolist() == [0, 1]
    assert taught_rows(PICTURES, ["omniglot"], named=False).tolist() == [3]


def test_components_are_uncorrelated_and_the_largest_are_damped_by_the_root_of_their_deviation() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(500, 3)).astype(np.float32) @ np.array([[5, 4, 0], [0, 1, 0], [0, 0, 2]], np.float32)
    found = components(values)
    standard = (values - values.mean(0)) / values.std(0)
    deviations = np.sqrt(np.sort(np.linalg.eigvalsh(np.cov(standard.T, bias=True)))[::-1])
    assert np.allclose(np.cov(found.T, bias=True), np.diag(deviations), atol=2e-3)


def test_the_mirror_image_counts_where_a_picture_may_be_mirrored() -> None:
    spec = BackboneSpec(name="ink-small", features="last")
    plain, mean = (features(PICTURES, np.arange(4), spec, mirror=mirror) for mirror in (False, True))
    assert plain.shape == (4, 512)
    assert np.array_equal(plain[3], mean[3]), "a character isn't mirrored"
    assert np.abs(plain[:3] - mean[:3]).max() > 1e-3
