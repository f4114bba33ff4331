import math

import numpy as np
import pytest
import torch

from inkfold.heads import CHUNK_ROWS, HeadSpec, head_probs, init_members

SPECS = [HeadSpec(), HeadSpec((7,)), HeadSpec((7, 4), "gelu")]


def plain_model(spec, tensors, member, num_features, num_classes):
    """The same head as a plain PyTorch model."""
    widths, layers = [num_features, *spec.hidden, num_classes], []
    for i in range(len(widths) - 1):
        layer = torch.nn.Linear(widths[i], widths[i + 1])
        layer.weight.data = torch.from_numpy(tensors[f"layers.{i}.weight"][member].T.copy())
        layer.bias.data = torch.from_numpy(tensors[f"layers.{i}.bias"][member, 0].copy())
        layers += [layer, torch.nn.ReLU() if spec.activation == "relu" else torch.nn.GELU()]
    return torch.nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("member", [0, 2])
def test_probabilities_are_those_of_a_plain_pytorch_model(spec, member):
    tensors = init_members(spec, 5, 3, [(1, i) for i in range(3)])
    features = np.random.default_rng(0).normal(0, 2, (20, 5)).astype(np.float32)
    with torch.no_grad():
        expected = plain_model(spec, tensors, member, 5, 3)(torch.from_numpy(features)).softmax(1).numpy()
    found = head_probs(tensors, spec, features, member)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_features_are_standardised_first():
    tensors = init_members(HeadSpec(), 4, 3, [(0,), (1,)])
    features = np.random.default_rng(0).normal(3, 2, (9, 4)).astype(np.float32)
    mean, scale = np.float32([[[1, 2, 3, 4]], [[5, 6, 7, 8]]]), np.float32([[[1, 2, 3, 4]], [[0.5, 0, 1, 2]]])
    by_hand = (features - mean[1, 0]) * scale[1, 0]
    found = head_probs({**tensors, "mean": mean, "scale": scale}, HeadSpec(), features, 1)
    np.testing.assert_allclose(found, head_probs(tensors, HeadSpec(), by_hand, 1), atol=1e-6)


def test_float16_features_are_counted_in_float32():
    tensors = init_members(HeadSpec(), 64, 3, [(0,)])
    features = np.random.default_rng(0).normal(0, 1, (9, 64)).astype(np.float16)
    found = head_probs(tensors, HeadSpec(), features, 0)
    assert np.array_equal(found, head_probs(tensors, HeadSpec(), features.astype(np.float32), 0))


def test_large_scores_do_not_overflow():
    tensors = {"layers.0.weight": np.eye(3, dtype=np.float32)[None] * 1e4, "layers.0.bias": np.zeros((1, 1, 3), np.float32)}
    found = head_probs(tensors, HeadSpec(), np.float32([[1, 0, 0], [-1, -1, 0]]), 0)
    assert found.tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("n", [0, 1, CHUNK_ROWS, CHUNK_ROWS + 1])
def test_any_number_of_drawings_is_answered(n):
    tensors = init_members(HeadSpec(), 2, 3, [(0,)])
    features = np.random.default_rng(0).normal(0, 1, (n, 2)).astype(np.float32)
    found = head_probs(tensors, HeadSpec(), features, 0)
    assert found.shape == (n, 3)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    if n:
        np.testing.assert_allclose(found[-1:], head_probs(tensors, HeadSpec(), features[-1:], 0), atol=1e-6)


def test_starting_weights_are_uniform_within_one_by_the_root_of_the_inputs():
    tensors = init_members(HeadSpec((400,)), 100, 50, [(0,), (1,)])
    assert tensors["layers.0.weight"].shape == (2, 100, 400)
    assert tensors["layers.1.bias"].shape == (2, 1, 50)
    for i, bound in ((0, 1 / 10), (1, 1 / 20)):
        weight = tensors[f"layers.{i}.weight"]
        assert np.abs(weight).max() <= bound
        assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)  # of a uniform distribution


def test_a_members_starting_weights_are_its_seeds_alone():
    three = init_members(HeadSpec((4,)), 3, 2, [(7, 1, 0), (7, 1, 1), (7, 1, 2)])
    alone = init_members(HeadSpec((4,)), 3, 2, [(7, 1, 1)])
    assert all(np.array_equal(three[name][1], alone[name][0]) for name in three)
    assert not np.array_equal(three["layers.0.weight"][0], three["layers.0.weight"][1])
