import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import inkfold
from inkfold.estimators.features import FeatureExtractor
from inkfold.features.executors import InlineExecutor

pytestmark = pytest.mark.usefixtures("warm_home")


def extractor(**changes):
    settings = {"weights": "untrained", "image_size": 32, "resize": "pad", "paper": "keep", "device": "cpu"}
    return FeatureExtractor("test_resnet", **{**settings, **changes})


def test_drawings_become_rows_of_single_precision(stack):
    images, _ = stack
    features = extractor().fit_transform(images)
    assert features.dtype == np.float32
    assert features.shape == (18, features.shape[1])
    assert np.isfinite(features).all()
    fitted = extractor().fit(images[:1])
    assert np.array_equal(fitted.transform(images[4:7]), features[4:7])
    assert fitted.transform([]).shape == (0, features.shape[1])
    assert inkfold.FeatureExtractor is FeatureExtractor


def test_files_and_arrays_of_one_drawing_have_the_same_features(drawings):
    pages, _, files = drawings
    fitted = extractor().fit(files)
    np.testing.assert_allclose(
        fitted.transform(files[:4]), fitted.transform([np.asarray(page) for page in pages[:4]]), atol=1e-2
    )


def test_features_are_computed_once(stack, monkeypatch):
    images, _ = stack
    first = extractor().fit_transform(images)
    monkeypatch.setattr(InlineExecutor, "run", lambda self, chunks, tracker: pytest.fail("computed again") if chunks else None)
    assert np.array_equal(extractor().fit_transform(images), first)


def test_columns_have_names_and_a_frame_has_them(stack):
    pandas = pytest.importorskip("pandas")
    images, _ = stack
    fitted = extractor().set_output(transform="pandas").fit(images)
    frame = fitted.transform(images)
    assert isinstance(frame, pandas.DataFrame)
    assert [*frame.columns] == [*fitted.get_feature_names_out()]
    assert frame.columns[0] == "test_resnet.r160_in1k_0"
    assert len(frame.columns) == fitted.n_features_out_


def test_layers_have_more_features_than_the_last_one(stack):
    images, _ = stack
    last, layers = (extractor(features=kind).fit(images[:2]).n_features_out_ for kind in ("last", "layers"))
    assert layers > last


def test_it_stands_in_a_pipeline_and_is_cloned(stack):
    images, labels = stack
    made = make_pipeline(extractor(), LogisticRegression(max_iter=200))
    assert made.fit(images, labels).score(images, labels) > 0.5
    assert clone(made).get_params()["featureextractor__image_size"] == 32


@pytest.mark.parametrize(
    ("change", "given", "words"),
    [
        ({"features": "all"}, None, "features"),
        ({"image_size": -1}, None, "size"),
        ({}, np.zeros((4, 64)), "Reshape your data"),
        ({}, ["nowhere.png"], "nowhere.png"),
    ],
)
def test_wrong_settings_and_drawings_are_value_errors(change, given, words, stack):
    with pytest.raises(ValueError, match=words):
        extractor(**change).fit(stack[0] if given is None else given)
