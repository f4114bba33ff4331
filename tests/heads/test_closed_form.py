import itertools

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import StandardScaler

from inkfold.heads.closed_form import SCALED_COLUMNS, TEMPERATURES, block_scaling, compute_heads, fold_scaling
from inkfold.heads.head import head_probs
from toy_heads import head_spec, replace

CLASS_MEAN, KNN = head_spec("class_mean"), head_spec("knn", neighbours=4)
SCALINGS = ["none", "standardise", "blocks", "normalise"]
N, D, CLASSES, FOLDS = 48, 5, 4, 3


def toy():
    generator = np.random.default_rng(0)
    targets = generator.permutation(np.arange(N) % CLASSES)
    features = (generator.normal(0, 1, (N, D)) + np.eye(CLASSES, D)[targets] * 2).astype(np.float16)
    fold = generator.permutation(np.arange(N) % FOLDS)
    return features, targets, np.stack([fold != i for i in range(FOLDS)])


def everybody(features):
    return np.ones((1, len(features)), bool)


@pytest.mark.parametrize("spec", [CLASS_MEAN, KNN], ids=str)
def test_held_out_drawings_have_no_influence(spec):
    for scaling in SCALINGS:
        spec, (features, targets, folds) = replace(spec, scaling=scaling), toy()
        before = compute_heads(spec, features, targets, folds, CLASSES)
        for head, own in enumerate(folds):
            other, others = features.copy(), targets.copy()
            other[~own] = 77.0
            others[~own] = (targets[~own] + 1) % CLASSES
            after = compute_heads(spec, other, others, folds, CLASSES)
            assert np.array_equal(head_probs(before, spec, features, head), head_probs(after, spec, features, head))


@pytest.mark.parametrize("spec", [CLASS_MEAN, KNN], ids=str)
def test_the_head_of_a_fold_is_the_one_of_its_own_drawings_alone(spec):
    for scaling in SCALINGS:
        spec, (features, targets, folds) = replace(spec, scaling=scaling), toy()
        together = compute_heads(spec, features, targets, folds, CLASSES)
        for head, own in enumerate(folds):
            alone = compute_heads(spec, features[own], targets[own], everybody(features[own]), CLASSES)
            expected = head_probs(alone, spec, features, 0)
            np.testing.assert_allclose(head_probs(together, spec, features, head), expected, atol=1e-6)


def test_scaling_is_sklearns_of_the_folds_own_drawings():
    features, _, folds = toy()
    scaling = fold_scaling(features, folds)
    for fold, own in enumerate(folds):
        scaler = StandardScaler().fit(features[own].astype(np.float64))
        np.testing.assert_allclose(scaling["mean"][fold, 0], scaler.mean_, atol=1e-6)
        np.testing.assert_allclose(scaling["scale"][fold, 0], 1 / scaler.scale_, rtol=1e-5)
    assert {values.dtype for values in scaling.values()} == {np.dtype(np.float32)}
    assert {values.shape for values in scaling.values()} == {(FOLDS, 1, D)}


MANY = 30_000


def test_a_constant_feature_has_no_influence():
    for n, value in itertools.product([2, 50, MANY], [0.1, 100.3, -1000.7]):
        features = np.random.default_rng(0).normal(0, 1, (n, 2)).astype(np.float16)
        features[:, 1] = value
        scaling = fold_scaling(features, everybody(features))
        assert scaling["scale"][0, 0, 1] == 0
        assert scaling["scale"][0, 0, 0] > 0
        assert scaling["mean"][0, 0, 1] == np.float16(value)


def test_scaling_is_exact_far_from_zero():
    for n in [50, MANY]:
        features = np.random.default_rng(0).normal(100, 1, (n, 2)).astype(np.float16)
        scaling, exact = fold_scaling(features, everybody(features)), features.astype(np.float64)
        np.testing.assert_allclose(scaling["mean"][0, 0], exact.mean(0), atol=1e-4)
        np.testing.assert_allclose(scaling["scale"][0, 0], 1 / exact.std(0), rtol=1e-4)


def test_a_neighbours_head_holds_every_drawing_once_and_says_on_which_each_fold_is_trained():
    features, targets, folds = toy()
    tensors = compute_heads(KNN, features, targets, folds, CLASSES + 1)
    assert {name: (values.shape, values.dtype.name) for name, values in tensors.items()} == {
        "neighbours": ((1, N, D), "float16"),
        "targets": ((1, 1, N), "int32"),
        "seen": ((FOLDS, 1, N), "uint8"),
        "classes": ((1, 1, 1), "int32"),
    }
    assert np.array_equal(tensors["seen"][:, 0], folds)
    assert head_probs(tensors, KNN, features, 0).shape == (N, CLASSES + 1)
    standardised = compute_heads(replace(KNN, scaling="standardise"), features, targets, folds, CLASSES)
    assert standardised.keys() - tensors.keys() == {"mean", "scale"}


def test_a_drawing_is_its_own_nearest_neighbour():
    features, targets, folds = toy()
    spec = replace(KNN, neighbours=1)
    tensors = compute_heads(spec, features, targets, folds, CLASSES)
    for head, own in enumerate(folds):
        probs = head_probs(tensors, spec, features[own], head)
        assert np.array_equal(probs.argmax(1), targets[own])
        np.testing.assert_allclose(probs.max(1), 1, atol=1e-5)


def sharpness_of(tensors, means):
    """A class's scores are 2 s m.x - s m.m, less what is the same for all; this is s."""
    weight = tensors["layers.0.weight"][0]
    return np.median((weight[:, 1:] - weight[:, :1]) / (2 * (means[1:] - means[:1]).T))


def left_out_loss(log_sharpness, x, targets):
    """The mean loss of drawings against class means that they are left out of, by loops."""
    losses = []
    for row in range(len(x)):
        others = np.arange(len(x)) != row
        if (targets[others] == targets[row]).any():
            means = np.array([x[others & (targets == one)].mean(0) for one in range(CLASSES)])
            scores = -np.exp(log_sharpness) * ((x[row] - means) ** 2).sum(1)
            losses.append(np.log(np.exp(scores - scores[targets[row]]).sum()))
    return np.mean(losses)


def test_the_nearest_means_sharpness_is_the_likeliest_for_drawings_that_are_left_out():
    for lone, spread in itertools.product([False, True], [0.3, 1.0]):
        generator = np.random.default_rng(3)
        targets = np.arange(N) % CLASSES
        if lone:
            targets[targets == 3] = 2
            targets[7] = 3  # a class of one drawing, which can't be left out
        x = generator.normal(0, 1, (N, D)) * spread + np.eye(CLASSES, D)[targets]
        means = np.array([x[targets == one].mean(0) for one in range(CLASSES)])
        tensors = compute_heads(CLASS_MEAN, x.astype(np.float32), targets, everybody(x), CLASSES)
        best = minimize_scalar(left_out_loss, bounds=(-5, 6), args=(x, targets), method="bounded").x
        # the grid of factors is so fine
        step = np.log(TEMPERATURES[1] / TEMPERATURES[0])
        assert abs(np.log(sharpness_of(tensors, means)) - best) <= step


def test_the_nearest_mean_by_hand():
    # means 0 and 4 of single drawings, of which none can be left out: scores are minus squared distances
    tensors = compute_heads(CLASS_MEAN, np.float32([[0], [4]]), np.array([0, 1]), np.ones((1, 2), bool), 2)
    probs = head_probs(tensors, CLASS_MEAN, np.float32([[0], [2], [1.5]]), 0)
    expected = [1 / (1 + np.exp(-16.0)), 0.5, 1 / (1 + np.exp(2.25 - 6.25))]
    np.testing.assert_allclose(probs[:, 0], expected, rtol=1e-6)


def test_a_class_that_a_fold_is_not_trained_on_is_never_predicted_by_it():
    features, targets, folds = toy()
    folds[1, targets == 2] = False
    tensors = compute_heads(CLASS_MEAN, features, targets, folds, CLASSES + 1)
    probs = head_probs(tensors, CLASS_MEAN, features, 1)
    assert (probs[:, [2, CLASSES]] == 0).all()
    assert (probs[:, [0, 1, 3]].max(0) > 0.1).all()
    assert head_probs(tensors, CLASS_MEAN, features, 0)[:, 2].max() > 0.1


@pytest.mark.parametrize("spec", [CLASS_MEAN, KNN], ids=str)
def test_drawings_that_are_all_the_same_have_the_same_probability_for_each_class(spec):
    for scaling in SCALINGS:
        spec, features, targets = replace(spec, scaling=scaling), np.full((4, D), 2, np.float16), np.array([0, 1, 0, 1])
        tensors = compute_heads(spec, features, targets, everybody(features), 2)
        np.testing.assert_allclose(head_probs(tensors, spec, features, 0), 0.5, atol=1e-5)


@pytest.mark.parametrize("spec", [CLASS_MEAN, KNN], ids=str)
def test_a_single_class_is_the_only_prediction(spec):
    features = toy()[0]
    tensors = compute_heads(spec, features, np.ones(N, np.int64), everybody(features), 3)
    np.testing.assert_allclose(head_probs(tensors, spec, features, 0), np.tile([0, 1, 0], (N, 1)), atol=1e-5)


FAR = 50.0


def test_means_far_from_zero_decide_as_sklearns_nearest_centroid():
    for distance in [0.0, 2.0, FAR]:
        generator = np.random.default_rng(0)
        targets = np.arange(400) % CLASSES
        features = (distance + generator.normal(0, 0.5, (400, 64)) + 0.5 * np.eye(CLASSES, 64)[targets]).astype(np.float32)
        tensors = compute_heads(CLASS_MEAN, features, targets, everybody(features), CLASSES)
        exact = features.astype(np.float64)
        expected = NearestCentroid().fit(exact, targets).predict(exact)
        assert (head_probs(tensors, CLASS_MEAN, features, 0).argmax(1) == expected).mean() > 0.995


def test_a_block_gets_one_scale_within_which_deviations_keep_their_proportions():
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(40, 5)) * [1, 2, 300, 100, 0] + 7).astype(np.float32)
    folds = np.array([[True] * 30 + [False] * 10])
    scaling = block_scaling(features, folds, (2, 2, 1))
    scaled = (features[:30].astype(np.float64) - scaling["mean"][0]) * scaling["scale"][0]
    for block in (slice(0, 2), slice(2, 4)):
        np.testing.assert_allclose(np.mean(scaled[:, block] ** 2), 1, rtol=1e-5)
        np.testing.assert_allclose(np.ptp(scaling["scale"][0, 0, block]), 0)
    assert scaling["scale"][0, 0, 4] == 0, "a constant block says nothing"
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-5)
    one = block_scaling(features, folds, ())["scale"][0, 0]
    np.testing.assert_allclose(one, 1 / np.sqrt(features[:30].astype(np.float64).var(0).mean()), rtol=1e-5)


@pytest.mark.parametrize("spec", [replace(KNN, scaling="blocks"), replace(CLASS_MEAN, scaling="blocks")])
def test_heads_on_scaled_blocks_predict_alike_whatever_a_block_s_unit(spec):
    features, targets, folds = toy()
    units = np.repeat([1.0, 64.0], [3, features.shape[1] - 3]).astype(np.float32)
    blocks = (3, features.shape[1] - 3)
    probs = []
    for x in (features, features * units):
        tensors = compute_heads(spec, x, targets, folds, CLASSES, blocks)
        probs.append(head_probs(tensors, spec, x, 0))
    np.testing.assert_allclose(probs[0], probs[1], atol=1e-4)


def test_scaling_of_many_features_is_that_of_each_alone():
    features = np.random.default_rng(0).normal(3, 2, (40, 2 * SCALED_COLUMNS + 7)).astype(np.float16)
    folds = np.stack([np.arange(40) % 3 != fold for fold in range(3)])
    together = fold_scaling(features, folds)
    for column in (0, SCALED_COLUMNS - 1, SCALED_COLUMNS, 2 * SCALED_COLUMNS + 6):
        alone = fold_scaling(features[:, column : column + 1], folds)
        for name in ("mean", "scale"):
            np.testing.assert_allclose(together[name][:, :, column], alone[name][:, :, 0], rtol=1e-6)
