import numpy as np

from inkfold.evaluation.projection import principal_components, tsne


def _clouds() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    of = np.arange(60) % 3
    return np.eye(8)[of] * 4 + rng.normal(size=(60, 8)) * 0.2, of


def test_tsne_keeps_clouds_apart_and_is_the_same_again() -> None:
    rows, of = _clouds()
    places = tsne(rows, perplexity=8)
    distances = ((places[:, None] - places) ** 2).sum(2)
    np.fill_diagonal(distances, np.inf)
    assert (of[distances.argmin(1)] == of).all()
    assert np.array_equal(places, tsne(rows, perplexity=8))


def test_principal_components_are_uncorrelated_and_the_first_varies_most() -> None:
    components = principal_components(_clouds()[0])
    covariance = np.cov(components.T)
    assert covariance[0, 0] >= covariance[1, 1]
    assert abs(covariance[0, 1]) < 1e-9


def test_equal_rows_get_finite_places() -> None:
    assert np.isfinite(tsne(np.ones((6, 3)))).all()
