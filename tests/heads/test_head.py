import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from inkfold.heads import head as head_module
from inkfold.heads.closed_form import compute_heads
from inkfold.heads.head import CHUNK_ROWS, KNN_PRIOR, KNN_TEMPERATURE, head_probs, init_heads, mean_probs
from toy_heads import (
    CLASS_MEAN,
    CLASSES,
    COSINE,
    EVERY_KIND,
    FOLDS,
    KNN,
    LINEAR,
    MLPS,
    SCALINGS,
    STEPPED,
    D,
    N,
    head_spec,
    heads_of,
    plain_model,
    replace,
    scaled_by_torch,
    toy,
    unseen,
)


@pytest.mark.parametrize("spec", STEPPED, ids=str)
def test_probabilities_are_those_of_a_plain_pytorch_model(spec):
    for scaling in SCALINGS:
        spec = replace(spec, scaling=scaling)
        tensors, drawn, features = heads_of(spec), init_heads(spec, D, CLASSES, [(1, i) for i in range(FOLDS)]), unseen()
        for head, own in enumerate(toy()[2]):
            # the heads' own drawings decide the scaling of unseen ones
            every = np.concatenate([toy()[0], features])
            x = scaled_by_torch(spec, every, np.concatenate([own, np.zeros(len(features), bool)]))[N:]
            with torch.no_grad():
                expected = plain_model(spec, drawn, head)(x).softmax(1).numpy()
            np.testing.assert_allclose(head_probs(tensors, spec, features, head), expected, atol=2e-6)


def test_trained_norms_scale_and_shift():
    spec = MLPS[3]
    tensors, generator = init_heads(spec, D, CLASSES, [(0,), (1,)]), np.random.default_rng(0)
    tensors |= {name: generator.normal(0, 1, values.shape).astype(np.float32) for name, values in tensors.items()}
    model = plain_model(spec, tensors, 1)
    for i, norm in enumerate(layer for layer in model if isinstance(layer, torch.nn.LayerNorm)):
        norm.weight.data, norm.bias.data = (torch.from_numpy(tensors[f"norms.{i}.{name}"][1, 0]) for name in ("scale", "shift"))
    with torch.no_grad():
        expected = model(torch.from_numpy(unseen()).float()).softmax(1).numpy()
    np.testing.assert_allclose(head_probs(tensors, spec, unseen(), 1), expected, atol=2e-6)


def test_neighbours_vote_as_in_sklearns_classifier():
    for neighbours in [1, 5, 1000]:
        for scaling in SCALINGS:
            spec, (features, targets, folds) = head_spec("knn", scaling=scaling, neighbours=neighbours), toy()
            tensors = compute_heads(spec, features, targets, folds, CLASSES)
            every = np.concatenate([features, unseen()])
            for head, own in enumerate(folds):
                x = scaled_by_torch(spec, every, np.concatenate([own, np.zeros(20, bool)])).double().numpy()
                # scikit-learn's distance is 1 - cosine
                classifier = KNeighborsClassifier(
                    min(neighbours, own.sum()), metric="cosine", weights=lambda distance: np.exp(-distance / KNN_TEMPERATURE)
                ).fit(x[:N][own], targets[own])
                expected = (classifier.predict_proba(x[N:]) + KNN_PRIOR) / (1 + CLASSES * KNN_PRIOR)
                np.testing.assert_allclose(head_probs(tensors, spec, unseen(), head), expected, atol=2e-5)


def test_neighbours_by_hand():
    # cosines of 1, 0.8 and 0 with the first axis; the two nearest vote
    features, targets = np.float16([[2, 0], [4, 3], [0, 1], [1, 0]]), np.array([0, 1, 1, 0])
    spec, seen = head_spec("knn", neighbours=2), np.array([[True, True, True, False]])
    tensors = compute_heads(spec, features, targets, seen, 3)
    vote = math.exp(-0.2 / 0.07)
    expected = np.array([1 / (1 + vote) + 1e-6, vote / (1 + vote) + 1e-6, 1e-6]) / (1 + 3e-6)
    np.testing.assert_allclose(head_probs(tensors, spec, np.float16([[7, 0]]), 0), [expected], rtol=1e-5)


def test_the_nearest_mean_is_sklearns_nearest_centroid():
    for separation in [0.3, 1.0, 3.0]:
        for scaling in SCALINGS:
            spec, (features, targets, folds) = replace(CLASS_MEAN, scaling=scaling), toy(separation)
            tensors = compute_heads(spec, features, targets, folds, CLASSES)
            every = np.concatenate([features, unseen(200)])
            for head, own in enumerate(folds):
                x = scaled_by_torch(spec, every, np.concatenate([own, np.zeros(200, bool)])).double().numpy()
                expected = NearestCentroid().fit(x[:N][own], targets[own]).predict(x)
                assert np.array_equal(head_probs(tensors, spec, every, head).argmax(1), expected)


def test_the_nearest_means_probabilities_sharpen_with_separable_classes():
    certainties = []
    for separation in (0.0, 1.0, 3.0, 9.0):
        features, targets, folds = toy(separation)
        tensors = compute_heads(CLASS_MEAN, features, targets, folds, CLASSES)
        held_out = head_probs(tensors, CLASS_MEAN, features[~folds[0]], 0)
        certainties.append(held_out.max(1).mean())
    assert certainties == sorted(certainties)
    assert certainties[0] < 0.45, "classes that are no classes are guessed"
    assert certainties[-1] > 0.999


@pytest.mark.parametrize("spec", EVERY_KIND, ids=str)
@pytest.mark.parametrize("n", [0, 1, 33])
def test_every_kind_gives_a_distribution_a_drawing_however_the_drawings_are_cut(spec, n, monkeypatch):
    for scaling in SCALINGS:
        spec = replace(spec, scaling=scaling)
        tensors, features = heads_of(spec), unseen(33)[:n]
        whole = head_probs(tensors, spec, features, 1)
        assert whole.shape == (n, CLASSES)
        assert whole.dtype == np.float32
        assert np.isfinite(whole).all()
        assert (whole >= 0).all()
        np.testing.assert_allclose(whole.sum(1), 1, atol=1e-6)
        for rows in (1, 8, 33):
            monkeypatch.setattr(head_module, "CHUNK_ROWS", rows)
            np.testing.assert_allclose(head_probs(tensors, spec, features, 1), whole, atol=1e-6)


@pytest.mark.parametrize("spec", EVERY_KIND, ids=str)
def test_every_kind_predicts_alike_whatever_the_order_of_its_heads(spec):
    for scaling in SCALINGS:
        spec = replace(spec, scaling=scaling)
        tensors, features, order = heads_of(spec), unseen(), [2, 0, 1]
        turned = {name: values[order] if len(values) == FOLDS else values for name, values in tensors.items()}
        probs = [head_probs(tensors, spec, features, head) for head in range(FOLDS)]
        assert len({one.tobytes() for one in probs}) == FOLDS
        for place, head in enumerate(order):
            np.testing.assert_array_equal(head_probs(turned, spec, features, place), probs[head])
        for heads in ([0, 1, 2], [2, 1, 0], [1], [0, 2]):
            mean = mean_probs(tensors, spec, features, heads)
            assert mean.dtype == np.float32
            np.testing.assert_allclose(mean, np.mean([probs[head] for head in heads], axis=0), atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(EVERY_KIND), st.sampled_from(SCALINGS), st.integers(0, 99), st.sampled_from([0, 1e-7, 1e-3, 1, 100, 3e4])
)
def test_features_of_any_size_give_distributions(spec, scaling, seed, size):
    spec = replace(spec, scaling=scaling)
    features = np.clip(unseen(9, seed).astype(np.float64) * size, -65504, 65504).astype(np.float16)
    probs = head_probs(heads_of(spec), spec, features, seed % FOLDS)
    assert np.isfinite(probs).all()
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("spec", [LINEAR, COSINE, CLASS_MEAN, KNN], ids=str)
def test_the_length_of_features_says_nothing_where_they_are_normalised(spec):
    normalised, features = replace(spec, scaling="normalise"), unseen().astype(np.float32)
    tensors = heads_of(normalised)
    longer = features * np.linspace(0.5, 200, 20, dtype=np.float32)[:, None]
    np.testing.assert_allclose(
        head_probs(tensors, normalised, longer, 0), head_probs(tensors, normalised, features, 0), atol=1e-5
    )


def test_features_are_standardised_first():
    tensors = init_heads(head_spec(), 4, 3, [(0,), (1,)])
    features = np.random.default_rng(0).normal(3, 2, (9, 4)).astype(np.float32)
    mean, scale = np.float32([[[1, 2, 3, 4]], [[5, 6, 7, 8]]]), np.float32([[[1, 2, 3, 4]], [[0.5, 0, 1, 2]]])
    by_hand = (features - mean[1, 0]) * scale[1, 0]
    probs = head_probs({**tensors, "mean": mean, "scale": scale}, head_spec(scaling="standardise"), features, 1)
    np.testing.assert_allclose(probs, head_probs(tensors, head_spec(), by_hand, 1), atol=1e-6)


@pytest.mark.parametrize("spec", EVERY_KIND, ids=str)
def test_float16_features_are_counted_in_float32(spec):
    tensors, features = heads_of(spec), unseen()
    exact = features.astype(np.float32)
    assert np.array_equal(head_probs(tensors, spec, features, 0), head_probs(tensors, spec, exact, 0))
    assert features.tobytes() == unseen().tobytes(), "the input is not changed"
    assert exact.tobytes() == unseen().astype(np.float32).tobytes()


def test_large_scores_do_not_overflow():
    tensors = {"layers.0.weight": np.eye(3, dtype=np.float32)[None] * 1e4, "layers.0.bias": np.zeros((1, 1, 3), np.float32)}
    probs = head_probs(tensors, head_spec(), np.float32([[1, 0, 0], [-1, -1, 0]]), 0)
    assert probs.tolist() == [[1, 0, 0], [0, 0, 1]]


def test_any_number_of_drawings_can_be_predicted():
    for n in [0, 1, CHUNK_ROWS, CHUNK_ROWS + 1]:
        tensors = init_heads(head_spec(), 2, 3, [(0,)])
        features = np.random.default_rng(0).normal(0, 1, (n, 2)).astype(np.float32)
        probs = head_probs(tensors, head_spec(), features, 0)
        assert probs.shape == (n, 3)
        np.testing.assert_allclose(probs.sum(1), 1, atol=1e-6)
        if n:
            np.testing.assert_allclose(probs[-1:], head_probs(tensors, head_spec(), features[-1:], 0), atol=1e-6)


def test_starting_weights_are_uniform_within_one_by_the_root_of_the_inputs():
    tensors = init_heads(head_spec("mlp", (400,)), 100, 50, [(0,), (1,)])
    assert tensors["layers.0.weight"].shape == (2, 100, 400)
    assert tensors["layers.1.bias"].shape == (2, 1, 50)
    for i, bound in ((0, 1 / 10), (1, 1 / 20)):
        weight = tensors[f"layers.{i}.weight"]
        assert np.abs(weight).max() <= bound
        assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)  # of a uniform distribution


def test_norms_start_as_pytorchs_and_cosines_at_a_factor_of_20_without_a_bias():
    tensors = init_heads(head_spec("mlp", (7, 4), norm="layer"), 5, 3, [(0,), (1,)])
    for i, width in enumerate((7, 4)):
        assert np.array_equal(tensors[f"norms.{i}.scale"], np.ones((2, 1, width)))
        assert np.array_equal(tensors[f"norms.{i}.shift"], np.zeros((2, 1, width)))
    assert "norms.2.scale" not in tensors, "scores aren't normalised"
    cosine = init_heads(COSINE, 5, 3, [(0,), (1,)])
    assert cosine.keys() == {"layers.0.weight", "temperature"}
    np.testing.assert_allclose(np.exp(cosine["temperature"]), np.full((2, 1, 1), 20), rtol=1e-6)
    assert np.array_equal(cosine["layers.0.weight"], init_heads(LINEAR, 5, 3, [(0,), (1,)])["layers.0.weight"])


@pytest.mark.parametrize("spec", STEPPED, ids=str)
def test_a_heads_starting_weights_are_its_seeds_alone(spec):
    three = init_heads(spec, 3, 2, [(7, 1, 0), (7, 1, 1), (7, 1, 2)])
    alone = init_heads(spec, 3, 2, [(7, 1, 1)])
    assert all(np.array_equal(three[name][1], alone[name][0]) for name in three)
    assert not np.array_equal(three["layers.0.weight"][0], three["layers.0.weight"][1])


def test_which_kinds_are_fitted_by_steps():
    assert [spec.is_fitted_by_steps for spec in (LINEAR, MLPS[0], COSINE, CLASS_MEAN, KNN)] == [True, True, True, False, False]


def test_heads_without_gelu_need_no_pytorch():
    import subprocess
    import sys

    program = (
        "import sys, numpy as np; from inkfold.heads.head import HeadSpec, head_probs, init_heads;"
        "from inkfold.config.sections import MlpHeadSettings;"
        "spec = HeadSpec(MlpHeadSettings(kind='mlp', hidden=(3,), norm='layer'));"
        "head_probs(init_heads(spec, 4, 2, [(0,)]), spec, np.ones((5, 4)), 0); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
