"""scikit-learn's own checks. They know rows of numbers only, so subclasses draw each row as a picture and change nothing else."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import check_estimator

from inkfold.estimators import classifier, features
from inkfold.estimators.required import InvalidData
from toy_settings import SETTINGS

SIDE = 8
ROWS = "it takes pictures: the rows of numbers that this check needs lose what it looks for when they are drawn"

# What can't hold for drawings, and why; docs/sklearn.md says the same.
OF_BOTH = {
    "check_complex_data": "drawings have no imaginary part: the rows are drawn before the classifier sees them",
    "check_n_features_in": "a drawing has no fixed number of columns, so there is no n_features_in_",
    "check_n_features_in_after_fitting": "a drawing has no fixed number of columns, so there is no n_features_in_",
    "check_dont_overwrite_attributes": "n_features_in_ again",
    "check_estimators_dtypes": ROWS,
    "check_dtype_object": ROWS,
    "check_estimators_nan_inf": "a drawing's values are checked when it is drawn, and NaN has no picture",
    "check_fit2d_1feature": "a picture of one pixel is refused as too small",
    "check_estimator_sparse_array": "drawings aren't sparse",
    "check_estimator_sparse_matrix": "drawings aren't sparse",
    "check_estimator_sparse_tag": "drawings aren't sparse",
    "check_readonly_memmap_input": "content decides: pictures are copied",
}
"""Checks of both estimators that don't apply."""


def drawn(x):
    """Draw rows of numbers as pictures: each number is a bar as long as the number, between the smallest and the largest."""
    rows = np.asarray(x, np.float64)
    if rows.ndim == 1:
        raise InvalidData("Reshape your data: expected a 2D array.")
    if not rows.size:
        raise InvalidData(f"0 feature(s) or 0 sample(s) (shape={rows.shape}) while a minimum of 1 is required.")
    if not np.isfinite(rows).all():
        raise InvalidData("X contains NaN or infinity.")
    scaled = np.clip(rows / 8 + 0.5, 0, 1)
    bars = np.repeat(np.repeat(np.rint(255 * scaled).astype(np.uint8)[:, :, None], SIDE, 2), SIDE, 1)
    return np.pad(bars, ((0, 0), (4, 4), (4, 4)), constant_values=255)


@pytest.fixture
def quick(monkeypatch, warm_home):
    monkeypatch.setitem(SETTINGS, "train_head", {**SETTINGS["train_head"], "epochs": 3})


def outcomes(estimator, expected):
    found = check_estimator(estimator, expected_failed_checks=expected, on_fail=None, on_skip=None)
    return {one["check_name"]: one for one in found}


def test_parameters_keep_scikit_learns_contract_without_fitting_anything():
    from sklearn.utils import estimator_checks as checks

    for made in (classifier.DrawingClassifier(SETTINGS), features.FeatureExtractor()):
        name = type(made).__name__
        for check in (
            checks.check_estimator_cloneable,
            checks.check_estimator_repr,
            checks.check_estimator_tags_renamed,
            checks.check_valid_tag_types,
            checks.check_no_attributes_set_in_init,
            checks.check_get_params_invariance,
            checks.check_set_params,
            checks.check_estimator_get_tags_default_keys,
            checks.check_mixin_order,
        ):
            if check is not checks.check_no_attributes_set_in_init or not isinstance(made, classifier.DrawingClassifier):
                check(name, made)
        assert isinstance(made, BaseEstimator)
