import numpy as np
import pytest
from sklearn.semi_supervised import LabelSpreading

from inkfold.heads import propagation
from inkfold.heads.propagation import ALPHA, FLOOR, NEIGHBOURS, SHARPNESS, SHRINKAGE, Unlabelled, Whitening, propagate

CLASSES, D = 4, 6


def clusters(labelled=60, unlabelled=40, seed=0):
    """Features about one centre per class, the classes of both kinds of drawings, and a head that knows nothing."""
    rng = np.random.default_rng(seed)
    targets = np.arange(labelled + unlabelled) % CLASSES
    features = (np.eye(CLASSES, D)[targets] * 4 + rng.normal(size=(len(targets), D))).astype(np.float16)
    probs = np.full((unlabelled, CLASSES), 1 / CLASSES, np.float32)
    return features[:labelled], targets[:labelled], features[labelled:], targets[labelled:], probs


def dense_weights(nodes):
    """Each drawing's nearest ones by cosine, both ways, as a full matrix."""
    cosines = np.round(nodes @ nodes.T, propagation.DIGITS)
    np.fill_diagonal(cosines, 0)
    directed = np.zeros_like(cosines)
    for row, own in enumerate(cosines):
        nearest = np.argsort(-own)[:NEIGHBOURS]
        directed[row, nearest] = np.maximum(own[nearest], 0) ** SHARPNESS
    return directed + directed.T


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_labels_spread_as_in_scikit_learn():
    known, targets, new, _, probs = clusters()
    whitening = Whitening.fit(known)
    nodes = np.concatenate([whitening.apply(known), whitening.apply(new)])
    labels = np.concatenate([targets, np.full(len(new), -1)])
    spreading = LabelSpreading(kernel=lambda _, __: dense_weights(nodes), alpha=ALPHA, max_iter=200, tol=1e-9).fit(
        nodes, labels
    )
    expected = np.sqrt(spreading.label_distributions_[len(known) :] + FLOOR / CLASSES)
    predicted = propagate(whitening, known, targets, Unlabelled(new, probs))
    np.testing.assert_allclose(predicted, expected / expected.sum(1, keepdims=True), atol=1e-4)


def test_what_arrives_is_multiplied_with_the_heads_probabilities():
    known, targets, new, _, flat = clusters()
    whitening = Whitening.fit(known)
    head = np.random.default_rng(1).dirichlet(np.ones(CLASSES), len(new)).astype(np.float32)
    alone, both = (propagate(whitening, known, targets, Unlabelled(new, probs)) for probs in (flat, head))
    product = alone * head
    np.testing.assert_allclose(both, product / product.sum(1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(both.sum(1), 1, atol=1e-6)


def test_drawings_take_their_neighbours_class_where_their_head_knows_nothing():
    known, targets, new, true, probs = clusters()
    predicted = propagate(Whitening.fit(known), known, targets, Unlabelled(new, probs))
    assert (predicted.argmax(1) == true).mean() > 0.9


@pytest.mark.parametrize("n", [12, 200])  # fewer drawings than features, and more
def test_components_are_those_of_a_singular_value_decomposition_scaled_to_one_spread(n):
    features = np.random.default_rng(0).normal(size=(n, 30)) * np.geomspace(0.1, 10, 30)
    x = features - features.mean(0)
    _, singular, directions = np.linalg.svd(x, full_matrices=False)
    variances = singular**2 / n
    count = min(n // 2, 30)
    floor = SHRINKAGE * variances.sum() / 30
    expected = x @ directions[:count].T / np.sqrt(variances[:count] + floor)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    projected = Whitening.fit(features).apply(features)
    np.testing.assert_allclose(projected @ projected.T, expected @ expected.T, atol=1e-3)


def test_a_drawing_without_neighbours_keeps_its_heads_probabilities():
    known, targets, new, _, _ = clusters(unlabelled=1)
    probs = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    whitening = Whitening.fit(known)
    mean = whitening.mean[None]  # of which nothing is left: it is like no other drawing
    np.testing.assert_allclose(propagate(whitening, known, targets, Unlabelled(mean, probs)), probs, atol=1e-6)
    assert not np.allclose(propagate(whitening, known, targets, Unlabelled(new, probs)), probs, atol=0.01)


def test_features_that_are_all_equal_change_nothing():
    probs = np.array([[0.25, 0.75]], np.float32)
    same = np.ones((6, 3), np.float16)
    predicted = propagate(Whitening.fit(same), same, np.array([0, 0, 0, 1, 1, 1]), Unlabelled(same[:1], probs))
    np.testing.assert_allclose(predicted, probs, atol=1e-6)


def test_drawings_of_one_group_or_of_different_parts_are_not_joined():
    numbers, parts = np.array([0, 0, 1, 2]), np.array([0, 0, 0, 1])
    unlabelled = Unlabelled(np.zeros((4, 1)), np.ones((4, 1)), [numbers], parts)
    assert unlabelled.unjoined(slice(0, 4)).tolist() == [
        [True, True, False, True],
        [True, True, False, True],
        [False, False, True, True],
        [True, True, True, True],
    ]
    assert unlabelled.unjoined(slice(2, 3)).tolist() == [[False, False, True, True]]
    assert Unlabelled(np.zeros((2, 1)), np.ones((2, 1))).unjoined(slice(0, 2)).tolist() == [[True, False], [False, True]]


def test_blocks_of_rows_and_of_classes_change_nothing(monkeypatch):
    known, targets, new, _, probs = clusters()
    whole = propagate(Whitening.fit(known), known, targets, Unlabelled(new, probs, [np.arange(len(new)) // 2]))
    monkeypatch.setattr(propagation, "CELLS", 700)
    monkeypatch.setattr(propagation, "CLASSES_AT_ONCE", 3)
    blocks = propagate(Whitening.fit(known), known, targets, Unlabelled(new, probs, [np.arange(len(new)) // 2]))
    np.testing.assert_allclose(blocks, whole, atol=1e-6)


def test_the_order_of_drawings_changes_nothing():
    known, targets, new, _, probs = clusters()
    order = np.random.default_rng(0).permutation(len(new))
    whitening = Whitening.fit(known)
    predicted = propagate(whitening, known, targets, Unlabelled(new, probs))
    np.testing.assert_allclose(propagate(whitening, known, targets, Unlabelled(new[order], probs)), predicted[order], atol=1e-6)


def test_two_labelled_drawings_are_enough():
    features = np.array([[1, 0], [0, 1], [0.9, 0.1]], np.float16)
    predicted = propagate(
        Whitening.fit(features[:2]), features[:2], np.array([0, 1]), Unlabelled(features[2:], np.full((1, 2), 0.5))
    )
    assert predicted[0, 0] > 0.5
