import numpy as np
import pytest
import torch

from inkfold.finetune.distillation import relation_loss


def by_hand(features, teacher_features, temperature):
    def shares(values):
        lengths = np.sqrt((values**2).sum(1, keepdims=True))
        directions = values / lengths
        rows = []
        for i, one in enumerate(directions):
            powers = np.exp([one @ other / temperature for j, other in enumerate(directions) if j != i])
            rows.append(powers / powers.sum())
        return np.array(rows)

    own, teacher = shares(features), shares(teacher_features)
    return float((teacher * np.log(teacher / own)).sum())


def test_the_loss_is_the_divergence_of_each_drawings_relations():
    for temperature in [0.1, 1.0]:
        generator = np.random.default_rng(0)
        features, teacher_features = generator.normal(size=(7, 5)), generator.normal(size=(7, 11))
        loss = relation_loss(torch.from_numpy(features), torch.from_numpy(teacher_features), temperature)
        assert float(loss) == pytest.approx(by_hand(features, teacher_features, temperature), rel=1e-9)


def test_a_turned_and_scaled_copy_of_the_teachers_features_has_no_loss():
    teacher_features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))[0]
    assert float(relation_loss(3 * teacher_features @ turn, teacher_features)) == pytest.approx(0, abs=1e-5)


def test_a_single_drawing_has_no_relations():
    features = torch.ones(1, 3, requires_grad=True)
    loss = relation_loss(features, torch.ones(1, 4))
    loss.backward()
    assert loss.item() == 0
    assert not features.grad.any()


def test_following_the_gradient_brings_the_relations_nearer():
    generator = torch.Generator().manual_seed(0)
    teacher_features = torch.randn(16, 8, generator=generator)
    features = torch.randn(16, 4, generator=generator, requires_grad=True)
    optimiser = torch.optim.SGD([features], 0.1)
    first = relation_loss(features, teacher_features)
    for _ in range(50):
        optimiser.zero_grad()
        relation_loss(features, teacher_features).backward()
        optimiser.step()
    assert relation_loss(features, teacher_features).item() < 0.5 * first.item()
