from dataclasses import replace

import numpy as np
import pytest

from inkfold.data.class_prior import ClassPrior
from inkfold.ensemble.methods import METHODS, FittedMethod, VotingMethod
from inkfold.ensemble.voting import vote_of_folds
from inkfold.export.graph import Graph
from inkfold.export.head_graph import add_fold_means, add_fold_vote, add_heads, add_pool, add_prior
from inkfold.heads.head import head_probs
from toy_heads import CLASSES, EVERY_KIND, FOLDS, SCALINGS, head_spec, heads_of, unseen
from toy_onnx import run_graph


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("spec", EVERY_KIND, ids=str)
def test_every_head_answers_as_it_does_in_numpy(spec, scaling):
    spec, g = replace(spec, scaling=scaling), Graph()
    heads, features = heads_of(spec), unseen().astype(np.float32)
    given = run_graph(g, {"features": features}, add_heads(g, "features", heads, spec))
    expected = [head_probs(heads, spec, features, member) for member in range(FOLDS)]
    np.testing.assert_allclose(given, expected, atol=2e-5)


@pytest.mark.parametrize("neighbours", [1, 1000])
def test_more_neighbours_than_there_are_leave_the_unseen_out(neighbours):
    spec, g = head_spec("knn", neighbours=neighbours), Graph()
    heads, features = heads_of(spec), unseen().astype(np.float32)
    heads["seen"][0, 0, 5:] = 0  # a member that has seen five drawings beside others that have seen many
    given = run_graph(g, {"features": features}, add_heads(g, "features", heads, spec))
    np.testing.assert_allclose(given, [head_probs(heads, spec, features, i) for i in range(FOLDS)], atol=2e-5)


def test_a_drawing_without_features_has_an_answer():
    spec, g = head_spec("cosine"), Graph()
    given = run_graph(g, {"features": np.zeros((1, 5), np.float32)}, add_heads(g, "features", heads_of(spec), spec))
    np.testing.assert_allclose(given, np.full((FOLDS, 1, CLASSES), 1 / CLASSES), atol=1e-6)


def answers(members=3, n=400, classes=5, seed=0):
    """Class probabilities of many drawings, some of them tied."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(classes, 0.4), (members, n)).astype(np.float32)
    probs[:, :20] = 1 / classes
    probs[1, 20:40] = probs[0, 20:40]
    return probs


def test_each_folds_members_are_averaged():
    probs, g = answers(5), Graph()
    given = run_graph(g, {"probs": probs}, add_fold_means(g, "probs", [[0, 1], [2], [3, 4]]))
    np.testing.assert_allclose(given, [probs[:2].mean(0), probs[2], probs[3:].mean(0)], atol=1e-6)


@pytest.mark.parametrize("ties", ["lowest_id", "mean_probability"])
@pytest.mark.parametrize("within", ["soft", "hard"])
def test_folds_vote_as_they_do_in_numpy(within, ties):
    probs, g = answers(), Graph()
    given = run_graph(g, {"probs": probs}, add_fold_vote(g, "probs", within, ties))[0]
    expected = vote_of_folds(probs, within, ties)
    np.testing.assert_allclose(given, expected, atol=1e-6)
    np.testing.assert_array_equal(given.argmax(1), expected.argmax(1))


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_models_vote_as_they_do_in_numpy(method, calibrated):
    probs, g = answers(), Graph()
    weights = np.array([0.5, 2.0, 0.0]) if method in ("weighted", "greedy", "stack") else None
    way = FittedMethod(
        VotingMethod(method, calibrated, "lowest_id"),
        temperatures=np.array([0.7, 1.0, 3.0]) if calibrated else None,
        weights=weights,
        bias=np.arange(5) / 10 if method == "stack" else None,
    )
    given, expected = run_graph(g, {"probs": probs}, add_pool(g, "probs", way)), way.pool(probs)
    np.testing.assert_allclose(given[40:], expected[40:], atol=1e-5)
    assert (given.argmax(1) == expected.argmax(1))[40:].mean() > 0.995


def test_tied_hard_votes_go_to_the_more_probable_class():
    probs, g = np.float32([[[0.6, 0.4, 0.0]], [[0.1, 0.9, 0.0]]]), Graph()
    way = FittedMethod(VotingMethod("hard", ties="mean_probability"))
    assert run_graph(g, {"probs": probs}, add_pool(g, "probs", way)).argmax(1) == [1]


def test_a_prior_corrects_as_it_does_in_numpy():
    prior, probs, g = ClassPrior("uniform", (0.5, 0.5, 0.0, 0.0, 0.0), (0.1, 0.2, 0.3, 0.2, 0.2)), answers(), Graph()
    probs[0, 0] = [0, 0, 1, 0, 0]  # a class that doesn't occur
    given = run_graph(g, {"probs": probs}, add_prior(g, "probs", prior))
    np.testing.assert_allclose(given, prior.correct(probs), atol=1e-6)
