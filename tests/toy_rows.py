"""The estimators on rows of numbers, each drawn as a picture: what scikit-learn's own checks need."""

import numpy as np

from inkfold.estimators.classifier import DrawingClassifier
from inkfold.estimators.features import FeatureExtractor
from inkfold.estimators.required import InvalidDataError

SPREAD = 12.0  # numbers beyond it begin anew at the other end: some checks draw theirs around 100, which must differ too
BAR_PX, MARGIN_PX, LENGTH_PX = 3, 4, 40


def drawn(x):
    """Draw each row as bars, one under the other and each as long as its number is large."""
    if hasattr(x, "toarray"):
        raise InvalidDataError("X: sparse data are not drawings. Convert it to a dense array.")
    rows = np.asarray(x)
    if rows.dtype.kind == "c":
        raise InvalidDataError("Complex data not supported.")
    rows = rows.astype(np.float64)
    if rows.ndim != 2:
        raise InvalidDataError(f"Reshape your data: expected a 2D array, got {rows.shape}.")
    if 0 in rows.shape:
        raise InvalidDataError(f"0 feature(s) (shape={rows.shape}) while a minimum of 1 is required.")
    if not np.isfinite(rows).all():
        raise InvalidDataError("X contains NaN or infinity.")
    ends = np.rint(LENGTH_PX * np.clip(np.mod(rows / (2 * SPREAD) + 0.5, 1), 0.05, 1))
    ink = np.repeat(np.arange(LENGTH_PX)[None, None] < ends[..., None], BAR_PX, 1)
    return np.pad(np.where(ink, 0, 255).astype(np.uint8), ((0, 0), (MARGIN_PX,) * 2, (MARGIN_PX,) * 2), constant_values=255)


class RowClassifier(DrawingClassifier):
    """The classifier as it is, but for the drawing of rows."""

    def fit(self, X, y, groups=None):  # noqa: N803 - scikit-learn's name
        return super().fit(drawn(X), y, groups)

    def _run_probs(self, x):
        if not hasattr(self, "run_"):
            return super()._run_probs(x)
        return super()._run_probs(drawn(x))

    def __sklearn_tags__(self):
        return _of_rows(super().__sklearn_tags__())


class RowExtractor(FeatureExtractor):
    """The transformer as it is, but for the drawing of rows."""

    def fit(self, X, y=None):  # noqa: N803 - likewise
        return super().fit(drawn(X), y)

    def transform(self, X):  # noqa: N803 - likewise
        return super().transform(drawn(X) if hasattr(self, "n_features_out_") else X)

    def __sklearn_tags__(self):
        return _of_rows(super().__sklearn_tags__())


def _of_rows(tags):
    tags.input_tags.two_d_array = True
    tags.input_tags.one_d_array = tags.input_tags.three_d_array = tags.input_tags.string = False
    return tags
