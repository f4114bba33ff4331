import itertools

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import cross_entropy, one_hot

from inkfold.heads.losses import Losses, Mixture, mean_losses
from toy_heads import settings_of

N, BATCH, CLASSES = 40, 12, 5
CPU = torch.device("cpu")
# Every number of a loss, in all combinations.
SETTINGS = [
    settings_of(label_smoothing=smoothing, focal_gamma=gamma, class_weights=weights)
    for smoothing, gamma, weights in itertools.product((0.0, 0.1, 0.7), (0.0, 1.0, 2.5), ("none", "balanced"))
]

HEADS = len(SETTINGS)


def toy(heads=HEADS):
    """Targets of all drawings, which head is trained on which, a minibatch of drawings, and scores of each head."""
    generator = np.random.default_rng(0)
    targets = generator.choice(CLASSES, N, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    masks = generator.random((heads, N)) < 0.7
    rows = generator.permutation(N)[:BATCH]
    scores = torch.from_numpy(generator.normal(0, 2, (heads, BATCH, CLASSES)).astype(np.float32))
    return targets, masks, rows, scores.requires_grad_()


def class_weights(one, targets):
    """scikit-learn's; those of classes without a drawing never count."""
    weights = np.ones(CLASSES)
    if one.class_weights == "balanced":
        present = np.unique(targets)
        weights[present] = compute_class_weight("balanced", classes=present, y=targets)
    return torch.from_numpy(weights)


def by_formula(one, scores, targets, weights):
    """Each drawing's loss: smoothing as PyTorch's cross-entropy has it, around a focal loss (arXiv 1708.02002)."""
    p = scores.softmax(1)
    true = p[torch.arange(len(p)), targets]
    focal = -weights[targets] * (1 - true) ** one.focal_gamma * true.log()
    return (1 - one.label_smoothing) * focal - one.label_smoothing * (weights * p.log()).mean(1)


def found(settings, targets, masks, rows, scores, mixture=None):
    """Mean losses, and the scores' gradient."""
    losses = Losses(settings, masks, targets, CLASSES, CPU)
    sums, weights = losses.of(scores, torch.from_numpy(targets[rows]), torch.from_numpy(masks[:, rows]).float(), mixture)
    means = mean_losses(sums, weights)
    return means.detach().numpy(), torch.autograd.grad(means.sum(), scores)[0].numpy()


def check(mean, gradient, expected, scores):
    """Compare one head's loss and gradient with a loss that was computed in float64."""
    [expected_gradient] = torch.autograd.grad(expected, scores)
    assert mean == pytest.approx(expected.item(), rel=2e-6)
    np.testing.assert_allclose(gradient, expected_gradient.numpy(), rtol=2e-5, atol=1e-7)


def own_double(scores, head):
    return scores.detach()[head].double().requires_grad_()


def test_heads_that_differ_in_every_number_have_their_own_losses_and_gradients():
    targets, masks, rows, scores = toy()
    means, gradients = found(SETTINGS, targets, masks, rows, scores)
    for head, one in enumerate(SETTINGS):
        own, exact = masks[head, rows], own_double(scores, head)
        y, weights = torch.from_numpy(targets[rows]), class_weights(one, targets[masks[head]])
        expected = by_formula(one, exact, y, weights)[own].sum() / weights[y[own]].sum()
        check(means[head], gradients[head], expected, exact)


def test_without_a_focal_factor_the_loss_is_pytorchs_cross_entropy():
    settings = [one for one in SETTINGS if not one.focal_gamma]
    targets, masks, rows, scores = toy(len(settings))
    means, gradients = found(settings, targets, masks, rows, scores)
    for head, one in enumerate(settings):
        own, exact = masks[head, rows], own_double(scores, head)
        expected = cross_entropy(
            exact[own],
            torch.from_numpy(targets[rows])[own],
            weight=class_weights(one, targets[masks[head]]),
            label_smoothing=one.label_smoothing,
        )
        check(means[head], gradients[head], expected, exact)


def test_every_head_has_the_same_loss_alone():
    targets, masks, rows, scores = toy()
    means, gradients = found(SETTINGS, targets, masks, rows, scores)
    for head, one in enumerate(SETTINGS):
        alone = scores.detach()[[head]].requires_grad_()
        mean, gradient = found([one], targets, masks[[head]], rows, alone)
        np.testing.assert_allclose(mean, means[[head]], rtol=1e-6)
        np.testing.assert_allclose(gradient, gradients[[head]], rtol=1e-6, atol=1e-8)


def test_the_focal_loss_by_hand():
    # p of the true class is 3/4 and 1/4; the second drawing's loss counts (3/4)^2 and the first's (1/4)^2
    scores = torch.tensor([[[3.0, 1.0], [3.0, 1.0]]]).log()
    losses = Losses([settings_of(focal_gamma=2)], np.ones((1, 2), bool), np.array([0, 1]), 2, CPU)
    sums, weights = losses.of(scores, torch.tensor([0, 1]), torch.ones(1, 2))
    assert sums.item() == pytest.approx(np.log(4 / 3) / 16 + np.log(4) * 9 / 16)
    assert weights.item() == 2


def test_balanced_weights_by_hand():
    # three of class 0 and one of class 2: 4 / (2 x 3) and 4 / (2 x 1)
    targets = np.array([0, 0, 0, 2, 1])
    masks = np.array([[True, True, True, True, False]])
    losses = Losses([settings_of(class_weights="balanced")], masks, targets, 3, CPU)
    sums, weights = losses.of(torch.zeros(1, 2, 3), torch.tensor([0, 2]), torch.ones(1, 2))
    assert weights.item() == pytest.approx(2 / 3 + 2)
    assert sums.item() == pytest.approx(np.log(3) * (2 / 3 + 2))


def test_a_head_without_an_own_drawing_in_the_minibatch_has_neither_loss_nor_gradient():
    targets, masks, rows, scores = toy()
    masks[::3][:, rows] = False
    means, gradients = found(SETTINGS, targets, masks, rows, scores)
    assert (means[::3] == 0).all()
    assert (gradients[::3] == 0).all()
    assert (np.abs(gradients).sum((1, 2)) > 0).tolist() == [head % 3 > 0 for head in range(HEADS)]


def test_drawings_of_others_have_no_influence():
    targets, masks, rows, scores = toy()
    means, gradients = found(SETTINGS, targets, masks, rows, scores)
    for head in range(HEADS):
        foreign = ~masks[head]
        others = np.where(foreign, (targets + 1) % CLASSES, targets)
        moved = scores.detach().clone()
        moved[head, torch.from_numpy(foreign[rows])] += 3
        after, after_gradients = found(SETTINGS, others, masks, rows, moved.requires_grad_())
        assert after[head] == means[head]
        own = masks[head, rows]
        assert np.array_equal(after_gradients[head, own], gradients[head, own])
        assert (after_gradients[head, ~own] == 0).all()


def mixture_of(heads, masks):
    """Every drawing keeps a head's own share of itself, all of it where either isn't the head's."""
    partners = torch.from_numpy(np.random.default_rng(1).permutation(BATCH))
    shares = torch.linspace(0, 1, heads)[:, None].expand(-1, BATCH)
    both = torch.from_numpy(masks) & torch.from_numpy(masks)[:, partners]
    return Mixture(partners, torch.where(both, shares, 1.0))


def test_mixed_drawings_have_the_mixture_of_both_losses_and_of_both_weights():
    targets, masks, rows, scores = toy()
    mixture = mixture_of(HEADS, masks[:, rows])
    means, gradients = found(SETTINGS, targets, masks, rows, scores, mixture)
    y = torch.from_numpy(targets[rows])
    for head, one in enumerate(SETTINGS):
        own, exact = masks[head, rows], own_double(scores, head)
        weights = class_weights(one, targets[masks[head]])
        share = mixture.shares[head].double()
        losses, divisor = 0, 0
        for kept, labels in ((share, y), (1 - share, y[mixture.partners])):
            losses = losses + (kept * by_formula(one, exact, labels, weights))[own].sum()
            divisor = divisor + (kept * weights[labels])[own].sum()
        check(means[head], gradients[head], losses / divisor, exact)


def test_mixed_cross_entropy_is_pytorchs_with_mixed_labels():
    settings = [settings_of(label_smoothing=smoothing) for smoothing in (0.0, 0.1, 0.5)]
    targets, masks, rows, scores = toy(len(settings))
    mixture = mixture_of(len(settings), masks[:, rows])
    means, gradients = found(settings, targets, masks, rows, scores, mixture)
    labels = one_hot(torch.from_numpy(targets[rows]), CLASSES).double()
    for head, one in enumerate(settings):
        own, exact = masks[head, rows], own_double(scores, head)
        share = mixture.shares[head, :, None].double()
        mixed = share * labels + (1 - share) * labels[mixture.partners]
        expected = cross_entropy(exact[own], mixed[own], label_smoothing=one.label_smoothing)
        check(means[head], gradients[head], expected, exact)


def test_a_mixture_that_keeps_everything_is_none():
    targets, masks, rows, scores = toy()
    everything = Mixture(torch.arange(BATCH).flip(0), torch.ones(HEADS, BATCH))
    plain, mixed = found(SETTINGS, targets, masks, rows, scores), found(SETTINGS, targets, masks, rows, scores, everything)
    for one, other in zip(plain, mixed, strict=True):
        np.testing.assert_array_equal(one, other)


def test_features_are_mixed_with_their_partners_by_hand():
    values = torch.tensor([[[1.0, 10.0], [3.0, 30.0]]]).expand(2, -1, -1)
    mixed = Mixture(torch.tensor([1, 0]), torch.tensor([[0.75, 1.0], [0.0, 0.5]])).of(values)
    assert mixed.tolist() == [[[1.5, 15.0], [3.0, 30.0]], [[3.0, 30.0], [2.0, 20.0]]]


def test_going_on_with_some_heads_leaves_them_as_they_are():
    targets, masks, rows, scores = toy()
    kept = [1, 4, 5, 11, 16]
    losses = Losses(SETTINGS, masks, targets, CLASSES, CPU)
    y, mask = torch.from_numpy(targets[rows]), torch.from_numpy(masks[:, rows]).float()
    whole, some = losses.of(scores, y, mask), losses.keep(kept).of(scores[kept], y, mask[kept])
    again = losses.of(scores, y, mask)
    for one, other, third in zip(whole, some, again, strict=True):
        assert torch.equal(one[kept], other)
        assert torch.equal(one, third)


def test_certainty_right_or_wrong_leaves_every_gradient_finite():
    for gamma, smoothing in itertools.product([0.0, 0.5, 1.0, 2.0, 5.0], [0.0, 0.1]):
        settings = [settings_of(focal_gamma=gamma, label_smoothing=smoothing), settings_of(focal_gamma=3.0)]
        scores = torch.tensor([[[200.0, 0.0], [200.0, 0.0]]]).repeat(2, 1, 1).requires_grad_()
        losses = Losses(settings, np.ones((2, 2), bool), np.array([0, 1]), 2, CPU)
        sums, weights = losses.of(scores, torch.tensor([0, 1]), torch.ones(2, 2))
        mean_losses(sums, weights).sum().backward()
        assert torch.isfinite(sums).all()
        assert torch.isfinite(scores.grad).all()
        np.testing.assert_allclose(
            scores.grad[:, 1], [[(1 - smoothing / 2) / 2, (smoothing / 2 - 1) / 2], [0.5, -0.5]], atol=1e-6
        )
