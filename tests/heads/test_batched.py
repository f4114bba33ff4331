import numpy as np
import pytest
import torch

from inkfold.data.splits import Folds
from inkfold.heads.batched import BatchedHeads, HeadJob
from inkfold.heads.head import head_probs, init_heads
from inkfold.heads.losses import Mixture
from inkfold.heads.randomness import StepRandomness
from inkfold.heads.training_set import TrainingSet
from toy_heads import COSINE, LINEAR, MLPS, SCALINGS, head_spec, plain_model, replace, scaled_by_torch, settings_of

torch.set_num_threads(1)  # such small steps take a hundred times as long where threads wait for a busy core

N, D, CLASSES, FOLDS, BATCH, SEED = 40, 6, 4, 3, 10, 5
CPU = torch.device("cpu")
SPECS = [LINEAR, *MLPS, COSINE]
ADAM = [
    settings_of(lr=0.02),
    settings_of(lr=0.005, weight_decay=0.1, label_smoothing=0.1),
    settings_of(lr=0.01, focal_gamma=2.0, class_weights="balanced", mixup=0.4),
]


def toy():
    generator = np.random.default_rng(0)
    targets = generator.integers(0, CLASSES, N)
    features = (generator.normal(0, 1, (N, D)) + np.eye(CLASSES, D)[targets] * 2).astype(np.float16)
    fold = generator.permutation(np.arange(N) % FOLDS)
    return features, targets, np.stack([fold != i for i in range(FOLDS)])


def every_job(settings, starts=1, dropouts=(0.0, 0.0, 0.3)):
    """Those of a trial lie together."""
    return [
        HeadJob(trial, fold, start, one, dropouts[trial])
        for trial, one in enumerate(settings)
        for fold in range(FOLDS)
        for start in range(starts)
    ]


def build(spec, jobs):
    features, targets, folds = toy()
    return BatchedHeads(spec, jobs, TrainingSet(features, targets, Folds.of(folds), CLASSES, SEED), CPU)


def minibatch(step):
    return np.random.default_rng(step).permutation(N)[:BATCH]


def train(built, steps):
    """Train on some minibatches, each trial with its own rate."""
    features, targets, _ = toy()
    losses = []
    for step in steps:
        rows = torch.from_numpy(minibatch(step))
        rates = list({job.trial: job.settings.lr for job in built.jobs}.values())
        x, y = torch.from_numpy(features).float()[rows], torch.from_numpy(targets)[rows]
        losses.append(
            built.step(x, y, built.mask[:, rows], rates, StepRandomness(SEED, 0, step, batch_size=len(rows), device=CPU))
        )
    return losses


def close(one, other, atol=2e-5):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=atol)


def everything():
    return torch.from_numpy(toy()[0]).float()


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_scores_are_those_of_plain_pytorch_models(spec):
    for scaling in SCALINGS:
        spec, (features, _, folds) = replace(spec, scaling=scaling), toy()
        jobs = every_job([settings_of()], starts=2)
        built, drawn = build(spec, jobs), init_heads(spec, D, CLASSES, [(SEED, 1, job.fold, job.start) for job in jobs])
        with torch.no_grad():
            scores = built.scores(everything())
            some = built.scores(everything(), only=[4, 1])
            for i, job in enumerate(jobs):
                expected = plain_model(spec, drawn, i)(scaled_by_torch(spec, features, folds[job.fold]))
                np.testing.assert_allclose(scores[i], expected, atol=1e-5)
        np.testing.assert_allclose(some, scores[[4, 1]], atol=1e-5)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_fitted_heads_predict_in_numpy_as_they_score_in_pytorch(spec):
    for scaling in SCALINGS:
        spec = replace(spec, scaling=scaling)
        built = build(spec, every_job(ADAM))
        train(built, range(4))
        with torch.no_grad():
            expected = built.scores(everything()).softmax(-1).numpy()
        heads, some = built.fitted(), built.fitted([7, 2])
        for i in range(len(built.jobs)):
            np.testing.assert_allclose(head_probs(heads, spec, toy()[0], i), expected[i], atol=2e-6)
        close(some, {name: values[[7, 2]] for name, values in heads.items()}, atol=1e-7)


def test_fitted_heads_are_copies():
    built = build(LINEAR, every_job(ADAM[:1]))
    before = built.fitted()
    kept = {name: values.copy() for name, values in before.items()}
    train(built, range(2))
    assert all(np.array_equal(before[name], kept[name]) for name in kept)
    assert not np.array_equal(built.fitted()["layers.0.weight"], kept["layers.0.weight"])


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_every_head_is_trained_as_it_is_alone(spec):
    for scaling in SCALINGS:
        spec = replace(spec, scaling=scaling)
        jobs = every_job(ADAM, starts=2)
        together = build(spec, jobs)
        losses = train(together, range(6))
        for i, job in enumerate(jobs[1::4]):
            alone, place = build(spec, [job]), 1 + 4 * i
            for (sums, weights), (own_sums, own_weights) in zip(losses, train(alone, range(6)), strict=True):
                assert sums[place].item() == pytest.approx(own_sums.item(), rel=1e-4, abs=1e-5)
                assert weights[place].item() == pytest.approx(own_weights.item(), rel=1e-5)
            close(alone.fitted(), together.fitted([place]))


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
def test_heads_that_continue_without_others_keep_their_optimisers_state(optimiser):
    settings = [replace(one, optimiser=optimiser) for one in ADAM]
    jobs = every_job(settings)
    built, undisturbed = build(MLPS[2], jobs), build(MLPS[2], jobs)
    train(undisturbed, range(9))
    train(built, range(3))
    for kept, steps in (([0, 1, 2, 6, 7, 8], range(3, 6)), ([3, 4, 5], range(6, 9))):
        built.keep(kept)
        train(built, steps)
    assert [job.trial for job in built.jobs] == [2, 2, 2]
    close(built.fitted(), undisturbed.fitted([6, 7, 8]))


def test_each_trial_has_its_own_rate_and_a_rate_of_zero_is_none():
    built = build(LINEAR, every_job([replace(ADAM[0], lr=lr) for lr in (0.0, 0.01, 0.1)]))
    before = built.fitted()["layers.0.weight"]
    train(built, [0])
    moved = np.abs(built.fitted()["layers.0.weight"] - before).max((1, 2)).reshape(3, FOLDS)
    # Adam's first step is the rate, whatever the gradient
    np.testing.assert_allclose(moved, np.repeat([[0], [0.01], [0.1]], FOLDS, 1), rtol=1e-3)


def mixture(heads):
    generator = np.random.default_rng(0)
    shares = torch.from_numpy(generator.random((heads, N)).astype(np.float32))
    return Mixture(torch.from_numpy(generator.permutation(N)), shares)


@pytest.mark.parametrize("spec", [LINEAR, *MLPS], ids=str)
def test_mixing_what_leaves_the_first_layer_is_mixing_scaled_features(spec):
    for scaling in SCALINGS:
        spec, (features, _, folds) = replace(spec, scaling=scaling), toy()
        built = build(spec, every_job([settings_of()]))
        drawn, mixed = init_heads(spec, D, CLASSES, [(SEED, 1, fold, 0) for fold in range(FOLDS)]), mixture(FOLDS)
        with torch.no_grad():
            scores = built.scores(everything(), mixed)
            for fold in range(FOLDS):
                x, share = scaled_by_torch(spec, features, folds[fold]), mixed.shares[fold, :, None]
                expected = plain_model(spec, drawn, fold)(share * x + (1 - share) * x[mixed.partners])
                np.testing.assert_allclose(scores[fold], expected, atol=1e-5)


def test_dropout_follows_each_hidden_activation_by_hand():
    spec = MLPS[3]
    jobs = every_job([settings_of()] * 2, starts=2, dropouts=(0.5, 0.2))
    built, randomness = build(spec, jobs), StepRandomness(SEED, 1, 2, batch_size=N, device=CPU)
    drawn = init_heads(spec, D, CLASSES, [(SEED, 1, job.fold, job.start) for job in jobs])
    with torch.no_grad():
        scores = built.scores(everything(), randomness=randomness)
        for i, job in enumerate(jobs):
            *hidden, last = plain_model(spec, drawn, i)
            x, share = everything(), torch.tensor([[[job.dropout]]])
            for layer in (1, 2):
                for module in hidden[3 * layer - 3 : 3 * layer]:
                    x = module(x)
                x = x * randomness.dropped(torch.ones(1, *x.shape), layer, [job.start], share)[0]
            np.testing.assert_allclose(scores[i], last(x), atol=1e-5)


def test_nothing_is_dropped_in_predictions():
    built, plain = (build(MLPS[1], every_job([settings_of()], dropouts=[share])) for share in (0.5, 0.0))
    with torch.no_grad():
        assert torch.equal(built.scores(everything()), plain.scores(everything()))


def test_bfloat16_rounds_what_goes_into_products_and_nothing_else():
    for scaling in ["none", "standardise"]:
        spec, (features, _, folds) = head_spec("mlp", (7,), scaling=scaling), toy()
        built = build(spec, every_job([settings_of(precision="bfloat16")]))
        drawn = init_heads(spec, D, CLASSES, [(SEED, 1, fold, 0) for fold in range(FOLDS)])

        def rounded(values):
            return values.bfloat16().double()

        with torch.no_grad():
            scores = built.scores(everything())
            assert scores.dtype == torch.float32
            for fold in range(FOLDS):
                first, last = (plain_model(spec, drawn, fold)[i] for i in (0, 2))
                x = rounded(scaled_by_torch(spec, features, folds[fold]))
                hidden = (x @ rounded(first.weight.T)).bfloat16().float() + first.bias
                expected = (rounded(hidden.relu()) @ rounded(last.weight.T)).bfloat16().float() + last.bias
                # a sum may fall to the other side of a rounding
                assert np.isclose(scores[fold], expected, atol=1e-6).mean() > 0.9


def test_heads_of_equal_fold_and_start_begin_alike_whatever_their_trial():
    heads = build(LINEAR, every_job(ADAM, starts=2)).fitted()["layers.0.weight"]
    for trial in (1, 2):
        assert np.array_equal(heads[:6], heads[6 * trial : 6 * trial + 6])
    assert len({one.tobytes() for one in heads}) == 6
