import logging
import math
import threading
from contextlib import contextmanager
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from sklearn.utils.class_weight import compute_class_weight

from inkfold.data.splits import Folds
from inkfold.heads import fit as training
from inkfold.heads.closed_form import compute_heads
from inkfold.heads.fit import Trial, TrialFitting, fit_trials, state_bytes
from inkfold.heads.fit_group import epoch_order
from inkfold.heads.head import head_probs, init_heads, mean_probs
from inkfold.heads.randomness import StepRandomness
from inkfold.heads.training_set import AugmentedFeatures, TrainingSet
from toy_heads import (
    CLASS_MEAN,
    COSINE,
    KNN,
    LINEAR,
    Cosine,
    head_spec,
    plain_model,
    replace,
    scaled_by_torch,
    schedule_of,
    settings_of,
)

torch.set_num_threads(1)  # such small steps take a hundred times as long where threads wait for a busy core

N, D, CLASSES, FOLDS, SEED = 50, 6, 4, 3, 5
PLAIN = settings_of(epochs=4, batch_size=8, lr=0.02)
MLP, STANDARDISED = head_spec("mlp", (9,)), head_spec("mlp", (9,), scaling="standardise")
DEEP, NORMED = head_spec("mlp", (9, 5), "gelu", scaling="standardise"), head_spec("mlp", (9, 5), "gelu", "layer", "normalise")
ADAMW, SGD = replace(PLAIN, optimiser="adamw", weight_decay=0.05), replace(PLAIN, optimiser="sgd", weight_decay=0.01)

# All of them are fitted in one program. Those of one shape stand side by side and differ in their numbers.
TRIALS = {
    **{
        f"{optimiser}, {schedule}": Trial(
            LINEAR,
            replace(PLAIN, optimiser=optimiser, weight_decay=0.05, schedule=schedule_of(schedule, every=2, gamma=0.3)),
        )
        for optimiser in ("adam", "adamw", "sgd")
        for schedule in ("step", "cosine", "one_cycle", "constant")
    },
    "another rate": Trial(LINEAR, replace(PLAIN, lr=0.001)),
    "without decay": Trial(LINEAR, PLAIN),
    "steps of other epochs": Trial(LINEAR, replace(PLAIN, schedule=schedule_of("step", every=1, gamma=0.7))),
    "warmed up": Trial(LINEAR, replace(PLAIN, warmup_epochs=2)),
    "warmed up to a constant": Trial(LINEAR, replace(SGD, schedule=schedule_of("constant"), warmup_epochs=1)),
    "smoothed": Trial(LINEAR, replace(PLAIN, label_smoothing=0.2)),
    "balanced": Trial(LINEAR, replace(PLAIN, class_weights="balanced")),
    "smoothed and balanced": Trial(LINEAR, replace(ADAMW, label_smoothing=0.1, class_weights="balanced")),
    "focal": Trial(LINEAR, replace(PLAIN, focal_gamma=2.0)),
    "focal and balanced": Trial(LINEAR, replace(PLAIN, focal_gamma=0.7, class_weights="balanced")),
    "several starts": Trial(LINEAR, replace(PLAIN, starts=3)),
    "mixed": Trial(LINEAR, replace(PLAIN, mixup=0.4)),
    "mixed otherwise": Trial(LINEAR, replace(PLAIN, mixup=2.0, class_weights="balanced", label_smoothing=0.1, starts=2)),
    "standardised": Trial(replace(LINEAR, scaling="standardise"), PLAIN),
    "normalised": Trial(replace(LINEAR, scaling="normalise"), SGD),
    "other epochs and batches": Trial(LINEAR, replace(PLAIN, epochs=3, batch_size=20)),
    "a hidden layer": Trial(MLP, replace(PLAIN, starts=2)),
    "a hidden layer on standardised features": Trial(STANDARDISED, PLAIN),
    "dropout": Trial(replace(STANDARDISED, dropout=0.3), replace(PLAIN, starts=2)),
    "more dropout, and mixed": Trial(replace(STANDARDISED, dropout=0.6), replace(PLAIN, mixup=0.4, label_smoothing=0.1)),
    "two hidden layers": Trial(DEEP, replace(ADAMW, label_smoothing=0.2)),
    "layer norms": Trial(NORMED, SGD),
    "layer norms, dropout and mixing": Trial(
        replace(NORMED, dropout=0.2), replace(SGD, lr=0.05, mixup=1.0, class_weights="balanced")
    ),
    "cosine": Trial(COSINE, replace(PLAIN, starts=2)),
    "cosine, smoothed": Trial(COSINE, replace(PLAIN, lr=0.005, label_smoothing=0.1, schedule=schedule_of("one_cycle"))),
    "cosine on standardised features": Trial(replace(COSINE, scaling="standardise"), ADAMW),
}
ROUGH = {
    "the best epoch": Trial(LINEAR, replace(PLAIN, keep="best", starts=2)),
    "the best epoch of another": Trial(LINEAR, replace(PLAIN, lr=0.1, keep="best")),
    "cosine, mixed": Trial(COSINE, replace(PLAIN, mixup=0.4)),
    "rounded": Trial(MLP, replace(PLAIN, precision="bfloat16")),
    "rounded, mixed": Trial(replace(MLP, dropout=0.1), replace(PLAIN, precision="bfloat16", lr=0.005, mixup=1.0)),
    "class means": Trial(CLASS_MEAN, PLAIN),
    "neighbours": Trial(KNN, PLAIN),
}
EVERY_TRIAL = {**TRIALS, **ROUGH}


def toy():
    generator = np.random.default_rng(0)
    targets = generator.integers(0, CLASSES, N)
    features = (generator.normal(0, 1, (N, D)) + np.eye(CLASSES, D)[targets] * 2).astype(np.float16)
    folds = generator.integers(0, FOLDS, N)
    return features, targets, np.stack([folds != fold for fold in range(FOLDS)])


def training_set(**changes):
    features, targets, folds = toy()
    given = {"features": features, "targets": targets, "folds": folds, "num_classes": CLASSES, "seed": SEED}
    settings = {**given, **changes}
    return TrainingSet(**{**settings, "folds": Folds.of(settings["folds"])})


def fit(settings=PLAIN, spec=LINEAR, starts=1, **changes):
    """Fit one trial."""
    [fitted] = fit_trials(training_set(**changes), [Trial(spec, replace(settings, starts=starts))])
    return fitted


def fit_heads(settings=PLAIN, spec=LINEAR, **changes):
    return fit(settings, spec, **changes).heads


def views(epoch):
    """Other features in every epoch."""
    return (toy()[0] + np.random.default_rng(epoch).normal(0, 0.5, (N, D))).astype(np.float16)


FACTORS = (1.0, 0.5, 0.5, 2.0, 0.1)
AUGMENTED = AugmentedFeatures(views, FACTORS)


def same(one, other):
    return one.keys() == other.keys() and all(one[name].tobytes() == other[name].tobytes() for name in one)


def check_close(one, other):
    """The same heads but for rounding."""
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=2e-5, rtol=2e-4, err_msg=name)


def check_alike(one, other):
    """The same in everything but for rounding."""
    assert (one.spec, one.folds, one.diverged) == (other.spec, other.folds, other.diverged)
    check_close(one.heads, other.heads)
    assert len(one.curve) == len(other.curve)
    for point, expected in zip(one.curve, other.curve, strict=True):
        assert point.lr == expected.lr
        assert point.loss == pytest.approx(expected.loss, rel=1e-3)
        assert point.held_out_loss == pytest.approx(expected.held_out_loss, rel=1e-3)
        assert point.held_out_accuracy == expected.held_out_accuracy
    assert one.selection == other.selection
    assert one.held_out_accuracy == other.held_out_accuracy


@contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def plain_schedules(optimiser, one):
    """PyTorch's schedules, all of them stepped after every step."""
    steps, schedulers = -(-N // one.batch_size), torch.optim.lr_scheduler
    total = steps * one.epochs
    if one.schedule.kind == "one_cycle":
        return [schedulers.OneCycleLR(optimiser, one.lr, total_steps=total, cycle_momentum=False)]
    built = {
        "step": lambda: [schedulers.StepLR(optimiser, one.schedule.every * steps, one.schedule.gamma)],
        "cosine": lambda: [schedulers.CosineAnnealingLR(optimiser, total)],
        "constant": list,
    }[one.schedule.kind]()
    warm = int(one.warmup_epochs * steps)
    return [*built, schedulers.LinearLR(optimiser, 1 / warm, total_iters=warm - 1)] if warm else built


def plain_loss(one, scores, y, weight):
    """PyTorch's loss of each drawing, times the focal factor."""
    losses = torch.nn.CrossEntropyLoss(weight, reduction="none", label_smoothing=one.label_smoothing)(scores, y)
    return losses * (1 - scores.softmax(1)[torch.arange(len(y)), y]) ** one.focal_gamma


def plain_step(one, scores_of, lesson, batch, randomness):
    """The mean loss of a head's own drawings of a minibatch."""
    x, y, own, weight = lesson
    mine, rows = own[batch], batch[own[batch]]
    mixture = randomness.mixture([one.mixup], mine[None].float())
    if not len(rows):
        return scores_of(x[rows]).sum()  # a step without a gradient
    if mixture is None and not one.focal_gamma:
        return torch.nn.CrossEntropyLoss(weight, label_smoothing=one.label_smoothing)(scores_of(x[rows]), y[rows])
    share, partners = torch.ones(len(rows)), rows
    if mixture is not None:
        share, partners = mixture.shares[0, mine], batch[mixture.partners][mine]
    scores = scores_of(share[:, None] * x[rows] + (1 - share[:, None]) * x[partners])
    losses = share * plain_loss(one, scores, y[rows], weight) + (1 - share) * plain_loss(one, scores, y[partners], weight)
    return losses.sum() / (share * weight[y[rows]] + (1 - share) * weight[y[partners]]).sum()


def plain_scores(model, x, kept):
    """Go through the layers of a plain model; what is kept follows each activation."""
    if not kept:
        return model(x)
    left = iter(kept)
    for module in model:
        x = module(x)
        x = x * next(left) if isinstance(module, torch.nn.ReLU | torch.nn.GELU) else x
    return x


def kept_of(trial, start, mine, randomness):
    """What dropout leaves of a head's drawings after each activation: it is drawn for the whole minibatch."""
    share = torch.tensor([[[trial.spec.dropout]]])
    widths = enumerate(trial.spec.hidden if trial.spec.dropout else (), 1)
    return [randomness.dropped(torch.ones(1, len(mine), width), layer, [start], share)[0, mine] for layer, width in widths]


def plain_fit(trial, fold, start, augmented=None):
    """The textbook loop for one head, with PyTorch's own layers, loss, optimisers and schedules."""
    (features, targets, folds), spec, one = toy(), trial.spec, trial.settings
    y, own = torch.from_numpy(targets), torch.from_numpy(folds[fold])
    model = plain_model(spec, init_heads(spec, D, CLASSES, [(SEED, 1, fold, start)]), 0)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    momentum = {"momentum": 0.9} if one.optimiser == "sgd" else {}
    optimiser = kinds[one.optimiser](model.parameters(), one.lr, weight_decay=one.weight_decay, **momentum)
    schedules, weight = plain_schedules(optimiser, one), torch.ones(CLASSES)
    if one.class_weights == "balanced":
        every = compute_class_weight("balanced", classes=np.arange(CLASSES), y=targets[folds[fold]])
        weight = torch.from_numpy(every).float()
    for epoch in range(one.epochs):
        shown = features if augmented is None else augmented.features(epoch)
        # features as they are decide the scaling
        x = scaled_by_torch(spec, np.concatenate([shown, features]), np.concatenate([np.zeros(N, bool), folds[fold]]))[:N]
        for step, batch in enumerate(torch.from_numpy(epoch_order(N, SEED, epoch)).split(one.batch_size)):
            randomness = StepRandomness(SEED, epoch, step, batch_size=len(batch), device=torch.device("cpu"))
            kept = kept_of(trial, start, own[batch], randomness)
            optimiser.zero_grad()
            plain_step(one, partial(plain_scores, model, kept=kept), (x, y, own, weight), batch, randomness).backward()
            scheduled = optimiser.param_groups[0]["lr"]
            optimiser.param_groups[0]["lr"] = scheduled * (1 if augmented is None else augmented.lr_factors[epoch])
            optimiser.step()
            optimiser.param_groups[0]["lr"] = scheduled
            for schedule in schedules:
                schedule.step()
    return model


def as_heads(model):
    """A plain model's weights in the form of fitted heads."""
    if isinstance(model, Cosine):
        return {"layers.0.weight": (torch.nn.functional.normalize(model.weight) * model.log_factor.exp()).detach().numpy().T}
    linear = [layer for layer in model if isinstance(layer, torch.nn.Linear)]
    norms = [layer for layer in model if isinstance(layer, torch.nn.LayerNorm)]
    return {
        **{f"layers.{i}.weight": layer.weight.detach().numpy().T for i, layer in enumerate(linear)},
        **{f"layers.{i}.bias": layer.bias.detach().numpy()[None] for i, layer in enumerate(linear)},
        **{f"norms.{i}.scale": layer.weight.detach().numpy()[None] for i, layer in enumerate(norms)},
        **{f"norms.{i}.shift": layer.bias.detach().numpy()[None] for i, layer in enumerate(norms)},
    }


def check_against_plain(fitted, trial, augmented=None):
    heads = list(product(range(FOLDS), range(trial.settings.starts)))
    assert fitted.folds == tuple(fold for fold, _ in heads)
    for i, (fold, start) in enumerate(heads):
        found = {name: values[i] for name, values in fitted.heads.items() if name not in ("mean", "scale")}
        check_close(found, as_heads(plain_fit(trial, fold, start, augmented)))


@pytest.fixture(scope="module")
def together():
    """All trials, fitted in one program."""
    return dict(zip(EVERY_TRIAL, fit_trials(training_set(), list(EVERY_TRIAL.values())), strict=True))


@pytest.mark.parametrize("name", TRIALS)
def test_every_head_of_every_trial_ends_as_a_plain_pytorch_loop_does(together, name):
    check_against_plain(together[name], TRIALS[name])


@pytest.mark.parametrize("name", EVERY_TRIAL)
def test_every_trial_ends_among_others_as_it_does_alone(together, name):
    [alone] = fit_trials(training_set(), [EVERY_TRIAL[name]])
    check_alike(together[name], alone)


@pytest.mark.parametrize(("cache_bytes", "count"), [(1_000, 2), (1 << 30, 3)])
def test_trials_end_alike_whatever_the_size_of_groups_and_the_number_of_threads(together, monkeypatch, cache_bytes, count):
    monkeypatch.setattr(training, "CACHE_BYTES", cache_bytes)
    order = list(EVERY_TRIAL)[::-1]
    with threads(count):
        fitted = fit_trials(training_set(), [EVERY_TRIAL[name] for name in order])
    for name, one in zip(order, fitted, strict=True):
        check_alike(one, together[name])


@pytest.mark.parametrize("trials", [[], [Trial(KNN, PLAIN)]])
def test_programs_without_anything_to_fit_by_steps(trials):
    assert len(fit_trials(training_set(), trials)) == len(trials)


def test_batches_of_two_in_which_a_head_may_have_no_row_agree_with_a_plain_loop_too():
    folds = toy()[2]
    batches = epoch_order(N, SEED, 0).reshape(-1, 2)
    assert not folds[:, batches].any(2).all(), "the case is there"
    for one in (replace(SGD, lr=0.01), PLAIN, replace(PLAIN, mixup=1.0)):
        trial = Trial(LINEAR, replace(one, epochs=1, batch_size=2))
        check_against_plain(fit(trial.settings), trial)


@pytest.mark.parametrize("settings", [ADAMW, replace(SGD, schedule=schedule_of("step", every=2))], ids=["adamw", "sgd"])
@pytest.mark.parametrize("spec", [LINEAR, STANDARDISED, NORMED, COSINE], ids=str)
def test_a_curriculums_features_and_rates_agree_with_a_plain_loop_too(settings, spec):
    trial = Trial(spec, replace(settings, epochs=5))
    check_against_plain(fit(trial.settings, spec, augmented=AUGMENTED), trial, AUGMENTED)


@pytest.mark.parametrize("spec", [LINEAR, replace(LINEAR, scaling="standardise"), MLP, STANDARDISED, NORMED, COSINE], ids=str)
def test_a_fold_among_others_ends_as_it_does_alone(spec):
    folds, several = fit_heads(spec=spec), fit_heads(spec=spec, folds=toy()[2][:1])
    for name in folds:
        np.testing.assert_allclose(folds[name][0], several[name][0], atol=1e-5)


def test_fitting_twice_gives_the_same_bytes(monkeypatch):
    assert same(fit_heads(), fit_heads())
    monkeypatch.setattr(training, "CACHE_BYTES", 2_000)
    trials = [
        EVERY_TRIAL[name] for name in ("dropout", "more dropout, and mixed", "the best epoch", "cosine", "several starts")
    ]
    with threads(2):
        once, again = fit_trials(training_set(), trials), fit_trials(training_set(), trials)
    for one, other in zip(once, again, strict=True):
        assert same(one.heads, other.heads)
        assert (one.curve, one.selection) == (other.curve, other.selection)


def threads_elsewhere():
    """How many threads PyTorch uses in a new one."""
    counts = []
    thread = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return counts[0]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fitting_does_not_touch_pytorchs_random_state_or_settings(count):
    trials = [EVERY_TRIAL[name] for name in ("rounded, mixed", "layer norms, dropout and mixing", "several starts")]
    state, precision, numpys = torch.get_rng_state(), torch.get_float32_matmul_precision(), np.random.get_state()[1].copy()  # noqa: NPY002 - the legacy state is what is looked at

    def fail(*_):
        raise ValueError("mine")

    with threads(count):
        fit_trials(training_set(), trials)
        assert (torch.get_num_threads(), threads_elsewhere()) == (count, count)
        with pytest.raises(ValueError, match="mine"):
            fit_trials(training_set(), trials, progress=fail)
        assert (torch.get_num_threads(), threads_elsewhere()) == (count, count)
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(numpys, np.random.get_state()[1])  # noqa: NPY002
    assert torch.get_float32_matmul_precision() == precision
    assert torch.is_grad_enabled()


def test_the_seed_changes_the_weights():
    assert not same(fit_heads(), fit_heads(seed=SEED + 1))


HELD_OUT_CASES = {
    "linear": (LINEAR, PLAIN),
    "standardised": (STANDARDISED, PLAIN),
    "mixed, dropped and balanced": (
        replace(NORMED, dropout=0.2),
        replace(SGD, mixup=1.0, class_weights="balanced", label_smoothing=0.1),
    ),
    "cosine": (replace(COSINE, scaling="standardise"), replace(PLAIN, mixup=1.0, focal_gamma=1.0)),
}


@pytest.mark.parametrize("name", HELD_OUT_CASES)
def test_held_out_drawings_have_no_influence(name):
    spec, settings = HELD_OUT_CASES[name]
    features, targets, folds = toy()
    before = fit_heads(settings, spec)
    for head in range(FOLDS):
        held_out = ~folds[head]
        other, others = features.copy(), targets.copy()
        other[held_out] = 77.0
        others[held_out] = (targets[held_out] + 1) % CLASSES
        after = fit_heads(settings, spec, features=other, targets=others)
        assert all(before[name][head].tobytes() == after[name][head].tobytes() for name in before)
        assert not same(before, after)


def test_standardising_uses_the_heads_own_drawings():
    features, _, folds = toy()
    heads = fit_heads(replace(PLAIN, epochs=1), replace(LINEAR, scaling="standardise"), starts=2)
    for head, own in enumerate(folds.repeat(2, 0)):
        expected = features[own].astype(np.float64)
        np.testing.assert_allclose(heads["mean"][head, 0], expected.mean(0), atol=1e-5)
        np.testing.assert_allclose(heads["scale"][head, 0], 1 / expected.std(0), rtol=1e-4)


def test_a_constant_feature_has_no_influence():
    features, spec = toy()[0].copy(), replace(LINEAR, scaling="standardise")
    features[:, 2] = 3.0
    heads = fit_heads(replace(PLAIN, epochs=2), spec, features=features)
    assert (heads["scale"][:, 0, 2] == 0).all()
    assert all(np.isfinite(values).all() for values in heads.values())
    moved = features[:5].copy()
    moved[:, 2] = -9
    assert np.array_equal(head_probs(heads, spec, moved, 0), head_probs(heads, spec, features[:5], 0))


SEPARATING = {"linear": LINEAR, "mlp": NORMED, "cosine": COSINE, "class_mean": CLASS_MEAN, "knn": KNN}
LONGER = settings_of(epochs=30, batch_size=8, lr=0.05)


@pytest.mark.parametrize("kind", SEPARATING)
def test_classes_without_drawings_get_little_probability(kind):
    (features, _, folds), spec = toy(), SEPARATING[kind]
    probs = head_probs(fit_heads(LONGER, spec, num_classes=CLASSES + 2), spec, features, 0)
    assert probs.shape == (N, CLASSES + 2)
    assert probs[folds[0], CLASSES:].mean() < 0.02
    assert kind == "cosine" or probs[:, CLASSES:].max() < 0.1


@pytest.mark.parametrize(("kind", "share"), [("linear", 0.8), ("mlp", 0.8), ("cosine", 0.7), ("class_mean", 0.6), ("knn", 0.6)])
def test_heads_fit_what_is_separable(kind, share):
    (features, targets, folds), spec = toy(), SEPARATING[kind]
    own = folds[0]
    assert (head_probs(fit_heads(LONGER, spec), spec, features[own], 0).argmax(1) == targets[own]).mean() > share


def test_bfloat16_products_stay_close_to_float32():
    exact, rough = fit_heads(replace(PLAIN, lr=0.01)), fit_heads(replace(PLAIN, lr=0.01, precision="bfloat16"))
    assert rough["layers.0.weight"].dtype == np.float32
    np.testing.assert_allclose(rough["layers.0.weight"], exact["layers.0.weight"], atol=0.03)
    assert not same(exact, rough)


def test_computed_heads_are_the_closed_forms_one_per_fold_without_a_curve(together):
    for name in ("class means", "neighbours"):
        fitted = together[name]
        assert same(fitted.heads, compute_heads(fitted.spec, *toy(), CLASSES))
        assert fitted.folds == (0, 1, 2)
        assert (fitted.curve, fitted.selection, fitted.diverged) == ((), None, None)
        preds = held_out_probs(fitted.heads, fitted.spec, toy()[0]).argmax(1)
        assert fitted.held_out_accuracy == accuracy_score(toy()[1], preds)


def test_starts_are_different_heads_of_which_the_first_is_there_without_the_others(together):
    several, one = together["several starts"], together["without decay"]
    assert several.folds == (0, 0, 0, 1, 1, 1, 2, 2, 2)
    assert len({weight.tobytes() for weight in several.heads["layers.0.weight"]}) == 9
    check_close({name: values[::3] for name, values in several.heads.items()}, one.heads)


def test_the_mean_over_starts_is_their_folds_answer(together):
    heads = together["several starts"].heads
    expected = np.mean([head_probs(heads, LINEAR, toy()[0], head) for head in (3, 4, 5)], axis=0)
    np.testing.assert_allclose(mean_probs(heads, LINEAR, toy()[0], [3, 4, 5]), expected, atol=1e-6)


@pytest.mark.parametrize(("name", "without"), [("dropout", {"dropout": 0.0}), ("mixed", {"mixup": 0.0})])
def test_dropout_and_mixing_make_a_difference_and_none_of_them_is_none(name, without):
    trial = TRIALS[name]
    part = "spec" if name == "dropout" else "settings"
    nothing = replace(trial, **{part: replace(getattr(trial, part), **without)})
    with_it, without_it = fit_trials(training_set(), [trial, nothing])
    [alone] = fit_trials(training_set(), [nothing])
    check_alike(without_it, alone)
    assert np.abs(with_it.heads["layers.0.weight"] - alone.heads["layers.0.weight"]).max() > 0.01


def test_equal_trials_end_equal_and_dropout_differs_between_starts_alone():
    first, second = fit_trials(training_set(), [TRIALS["dropout"]] * 2)
    check_alike(first, second)
    assert not np.allclose(first.heads["layers.0.weight"][0], first.heads["layers.0.weight"][1], atol=1e-2)


def test_augmented_features_that_are_the_plain_ones_change_nothing():
    plain, augmented_fit = fit(), fit(augmented=AugmentedFeatures(lambda _: toy()[0], [1.0] * 4))
    assert same(plain.heads, augmented_fit.heads)
    assert plain.curve == augmented_fit.curve


def test_every_fold_reads_each_epochs_features_once():
    epochs_read = []

    def features(epoch):
        epochs_read.append(epoch)
        return views(epoch)

    fit(augmented=AugmentedFeatures(features, FACTORS))
    assert sorted(epochs_read) == sorted([0, 1, 2, 3] * FOLDS)


def test_every_group_reads_its_own_epochs_features_from_any_thread(monkeypatch):
    monkeypatch.setattr(training, "CACHE_BYTES", 1)
    epochs_read, readers, meeting = [], set(), threading.Barrier(2)

    def features(epoch):
        epochs_read.append(epoch)
        readers.add(threading.get_ident())
        if len(epochs_read) <= 2:
            meeting.wait(120)  # two read at once
        return views(epoch)

    with threads(2):
        fitted = fit(augmented=AugmentedFeatures(features, FACTORS), starts=2)
    assert sorted(epochs_read) == sorted([0, 1, 2, 3] * FOLDS * 2)
    assert len(readers) == 2
    check_alike(fitted, replace(fit(augmented=AUGMENTED, starts=2)))


def held_out_probs(heads, spec, features):
    """What each drawing's own head, which was not trained on it, predicts."""
    probs = np.zeros((N, CLASSES))
    for head, own in enumerate(toy()[2]):
        probs[~own] = head_probs(heads, spec, features[~own], head)
    return probs


@pytest.mark.parametrize("augmented", [None, AUGMENTED], ids=["plain", "augmented"])
@pytest.mark.parametrize("spec", [LINEAR, STANDARDISED, NORMED, COSINE], ids=str)
def test_the_curve_ends_with_the_figures_of_the_held_out_drawings_as_they_are(spec, augmented):
    settings = settings_of(epochs=5, batch_size=8, mixup=0.5, label_smoothing=0.1, focal_gamma=1.0)
    spec = replace(spec, dropout=0.3) if spec.kind == "mlp" else spec
    fitted = fit(settings, spec, augmented=augmented)
    features, targets, _ = toy()
    probs = held_out_probs(fitted.heads, spec, features)
    # scikit-learn's figures
    assert len(fitted.curve) == 5
    assert fitted.curve[-1].held_out_loss == pytest.approx(log_loss(targets, probs / probs.sum(1, keepdims=True)), rel=1e-5)
    assert fitted.curve[-1].held_out_accuracy == fitted.held_out_accuracy == accuracy_score(targets, probs.argmax(1))


def test_each_point_of_the_curve_is_where_a_shorter_fit_ends():
    settings = replace(PLAIN, schedule=schedule_of("constant"), mixup=0.4)
    curve = fit(settings, augmented=AUGMENTED).curve
    for epochs in (1, 2, 3):
        assert fit(replace(settings, epochs=epochs), augmented=AUGMENTED).curve == curve[:epochs]


def test_the_curves_figures_by_hand():
    # Two drawings, a head for each; features of 0 leave the biases, and a rate of next to nothing leaves those as drawn.
    targets, folds = np.array([0, 1]), np.array([[True, False], [False, True]])
    settings = settings_of(epochs=2, batch_size=2, lr=1e-12)
    [fitted] = fit_trials(
        TrainingSet(np.zeros((2, 3), np.float32), targets, Folds.of(folds), 2, SEED), [Trial(LINEAR, settings)]
    )
    bias = fitted.heads["layers.0.bias"][:, 0].astype(float)
    own = [math.log(1 + math.exp(bias[head, 1 - target] - bias[head, target])) for head, target in ((0, 0), (1, 1))]
    others = [math.log(1 + math.exp(bias[head, 1 - target] - bias[head, target])) for head, target in ((0, 1), (1, 0))]
    right = [bias[0, 1] > bias[0, 0], bias[1, 0] >= bias[1, 1]]
    for point in fitted.curve:
        assert point.loss == pytest.approx(sum(own) / 2, rel=1e-5)
        assert point.held_out_loss == pytest.approx(sum(others) / 2, rel=1e-5)
        assert point.held_out_accuracy == sum(right) / 2


def test_the_curves_loss_is_the_mean_of_the_heads_losses_while_they_are_trained():
    (_, targets, folds), settings = toy(), settings_of(epochs=2, batch_size=N, lr=0.01, label_smoothing=0.1)
    curve = fit(settings, augmented=AUGMENTED, starts=2).curve
    losses = []
    for fold, start in product(range(FOLDS), range(2)):
        model, own = plain_model(LINEAR, init_heads(LINEAR, D, CLASSES, [(SEED, 1, fold, start)]), 0), folds[fold]
        x, y = torch.from_numpy(views(0)[own]).float(), torch.from_numpy(targets[own])
        losses.append(torch.nn.functional.cross_entropy(model(x), y, label_smoothing=0.1).item())
    assert curve[0].loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_curves_rate_is_the_schedules_at_the_epochs_start_times_the_epochs_factor():
    step = settings_of(epochs=5, batch_size=8, lr=0.1, schedule="step", every=2, gamma=0.5)
    assert [point.lr for point in fit(step).curve] == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025])
    augmented_fit = [point.lr for point in fit(step, augmented=AUGMENTED).curve]
    assert augmented_fit == pytest.approx([0.1, 0.05, 0.025, 0.1, 0.0025])
    cosine = [point.lr for point in fit(settings_of(epochs=4, lr=0.1)).curve]
    assert cosine == pytest.approx([0.1, 0.05 + 0.1 * 0.5**1.5, 0.05, 0.05 - 0.1 * 0.5**1.5])


def test_without_held_out_drawings_the_curve_has_no_held_out_figures():
    fitted = fit(replace(PLAIN, epochs=1), folds=np.ones((2, N), bool))
    [point] = fitted.curve
    assert math.isnan(fitted.held_out_accuracy)
    assert math.isnan(fit(PLAIN, KNN, folds=np.ones((2, N), bool)).held_out_accuracy)
    assert math.isnan(point.held_out_loss)
    assert math.isnan(point.held_out_accuracy)
    assert point.loss > 0


def test_a_head_that_holds_nothing_out_leaves_the_others_figures_alone():
    folds = toy()[2]
    plain, more = (fit(folds=given).curve for given in (folds, np.vstack([folds, np.ones((1, N), bool)])))
    for one, other in zip(plain, more, strict=True):
        assert other.held_out_loss == pytest.approx(one.held_out_loss, rel=1e-5)
        assert other.held_out_accuracy == one.held_out_accuracy


REPORTED = [TRIALS[name] for name in ("without decay", "mixed", "several starts", "smoothed", "cosine")]


def stopped_after(stops, trials, **kwargs):
    """Trials that pause after each epoch, and are stopped after those that are named for them, with what was reported."""
    reported, fitting = {}, TrialFitting(training_set(), trials, **kwargs)
    for epoch in range(4):
        fitting.run(lambda _, epoch=epoch: epoch + 1)
        for trial, accuracy in fitting.scores().items():
            reported.setdefault(trial, []).append((epoch, accuracy))
        fitting.stop({trial for trial, last in stops.items() if last == epoch})
    fitting.run()
    return reported, fitting.fitted()


@pytest.mark.parametrize(("cache_bytes", "count"), [(1, 1), (1, 2), (1 << 24, 1)])
def test_a_trial_that_is_stopped_stops_alone(monkeypatch, cache_bytes, count):
    monkeypatch.setattr(training, "CACHE_BYTES", cache_bytes)
    with threads(count):
        undisturbed, (reported, fitted) = fit_trials(training_set(), REPORTED), stopped_after({1: 1, 2: 0}, REPORTED)
    for trial, (one, expected) in enumerate(zip(fitted, undisturbed, strict=True)):
        epochs = {1: 2, 2: 1}.get(trial, 4)
        decided = min(epochs, 3)  # after the last epoch there is nothing to decide
        assert reported[trial] == [(epoch, one.curve[epoch].held_out_accuracy) for epoch in range(decided)]
        if trial not in (1, 2):
            check_alike(one, expected)
            continue
        assert (one.heads, one.selection, one.diverged) == (None, None, None)
        assert math.isnan(one.held_out_accuracy)
        assert one.folds == expected.folds
        assert len(one.curve) == epochs
        for point, known in zip(one.curve, expected.curve, strict=False):
            assert point.held_out_loss == pytest.approx(known.held_out_loss, rel=1e-3)
            assert point.loss == pytest.approx(known.loss, rel=1e-3)


def test_a_trial_that_keeps_its_best_epoch_has_no_head_when_it_is_stopped():
    best = replace(PLAIN, keep="best")
    _, (one, other) = stopped_after({1: 2}, [Trial(LINEAR, best)] * 2)
    assert (other.heads, other.selection, len(other.curve)) == (None, None, 3)
    check_alike(one, fit(best))


def test_a_trial_of_which_a_head_diverges_is_stopped_in_all_folds_at_the_next_pause():
    wild = Trial(LINEAR, settings_of(epochs=4, batch_size=8, lr=1e38, optimiser="sgd", schedule="constant"))
    reported, (_, other) = stopped_after({}, [Trial(LINEAR, PLAIN), wild])
    assert set(reported) == {0}
    assert (other.heads, other.diverged) == (None, 0)


def test_a_trial_that_is_stopped_before_it_begins_is_not_fitted():
    fitting = TrialFitting(training_set(), [Trial(LINEAR, PLAIN)] * 2)
    fitting.stop({0})
    fitting.run()
    one, other = fitting.fitted()
    assert (one.heads, one.curve) == (None, ())
    check_alike(other, fit(PLAIN))


@pytest.mark.parametrize("pause", [None, lambda epochs: epochs // 2])
def test_with_one_thread_a_group_heads_are_the_same_to_the_bit_for_any_number_of_threads(pause):
    n, d, classes = 256, 1280, 58  # so large that two threads share a product, which changes weights in their last bits
    features = np.random.default_rng(0).normal(0, 1, (n, d)).astype(np.float16)
    own_set = TrainingSet(features, np.arange(n) % classes, Folds.of((np.arange(n) % 4 > 0)[None]), classes)
    hashed = set()
    for count in (1, 2):
        with threads(count):
            fitting = TrialFitting(own_set, [Trial(LINEAR, replace(PLAIN, batch_size=64, epochs=2))], threads_per_group=1)
            if pause is not None:
                fitting.run(pause)
            fitting.run()
            [fitted] = fitting.fitted()
        hashed.add(fitted.heads["layers.0.weight"].tobytes())
    assert len(hashed) == 1


@pytest.mark.parametrize(("cache_bytes", "groups"), [(1 << 24, 1), (1, FOLDS)])
def test_small_heads_of_all_folds_may_share_a_group_and_end_alike(monkeypatch, caplog, cache_bytes, groups):
    caplog.set_level(logging.INFO, "inkfold.heads")
    monkeypatch.setattr(training, "CACHE_BYTES", cache_bytes)
    fitting = TrialFitting(training_set(), [Trial(LINEAR, PLAIN)], folds_together=True)
    assert f"in each of {groups} groups" in caplog.text
    fitting.run()
    check_alike(fitting.fitted()[0], fit(PLAIN))


def test_the_memory_of_a_trials_heads_counts_folds_starts_and_layers():
    trial = Trial(head_spec("mlp", hidden=(7,)), replace(PLAIN, starts=2))
    own_set = training_set()
    d, classes = own_set.features.shape[1], own_set.num_classes
    assert state_bytes(own_set, trial) == FOLDS * 2 * 16 * (d * 7 + 7 * classes)
    assert state_bytes(own_set, Trial(KNN, PLAIN)) == 0


TAME = settings_of(epochs=6, batch_size=8, lr=0.05, optimiser="sgd", schedule="constant", weight_decay=0.01)


@pytest.mark.parametrize("cache_bytes", [1, 1 << 24])
@pytest.mark.parametrize(("spec", "decay"), [(LINEAR, 100.0), (NORMED, 10.0)], ids=["linear", "mlp"])
def test_a_trial_that_diverges_is_reported_and_leaves_the_others_alone(monkeypatch, cache_bytes, spec, decay):
    monkeypatch.setattr(training, "CACHE_BYTES", cache_bytes)
    high = replace(TAME, lr=0.5, weight_decay=decay)
    trials = [Trial(spec, TAME), Trial(spec, replace(high, starts=2)), Trial(spec, replace(TAME, lr=0.01))]
    before, wild, after = fit_trials(training_set(), trials)
    for one, trial in ((before, trials[0]), (after, trials[2])):
        check_alike(one, fit(trial.settings, spec))
    assert 0 < wild.diverged < 5, "the case is there"
    assert (wild.heads, wild.selection) == (None, None)
    assert math.isnan(wild.held_out_accuracy)
    assert len(wild.curve) == wild.diverged + 1
    finite = [math.isfinite(point.loss) and math.isfinite(point.held_out_loss) for point in wild.curve]
    assert finite == [True] * wild.diverged + [False]
    assert fit(replace(high, epochs=wild.diverged), spec, starts=2).diverged is None
    assert fit(replace(high, epochs=wild.diverged + 1), spec, starts=2).diverged == wild.diverged


@pytest.mark.parametrize(
    "cache_bytes",
    [1 << 24, 1],
)
def test_the_first_epoch_in_which_a_head_diverges_is_reported_whatever_the_size_of_groups(monkeypatch, cache_bytes):
    monkeypatch.setattr(training, "CACHE_BYTES", cache_bytes)
    features = toy()[0].astype(np.float32)
    features[:20] *= 1e12  # one of two folds doesn't see these, and takes longer to diverge
    folds = np.stack([np.arange(N) >= 20, np.arange(N) < 40])
    high = replace(TAME, epochs=20, lr=0.5, weight_decay=10.0)
    for order in (folds, folds[::-1]):
        fitted = fit(high, features=features, folds=order)
        assert 0 < fitted.diverged == len(fitted.curve) - 1


BEST = settings_of(epochs=8, batch_size=8, lr=0.1, schedule="constant", keep="best")


@pytest.mark.parametrize("spec", [LINEAR, STANDARDISED, COSINE], ids=str)
def test_the_best_epochs_head_is_that_of_a_fit_that_was_stopped_there(spec):
    features, targets, folds = toy()
    fitted = fit(BEST, spec, starts=2)
    stopped = [fit(replace(BEST, epochs=epochs + 1, keep="last"), spec, starts=2).heads for epochs in range(8)]
    hits, nested = 0, 0
    for head, own in enumerate(folds.repeat(2, 0)):
        held_out = np.flatnonzero(~own)
        right = [head_probs(heads, spec, features[held_out], head).argmax(1) == targets[held_out] for heads in stopped]
        counts = [one.sum() for one in right]
        best = counts.index(max(counts))
        assert fitted.selection.epochs[head] == best
        probs = head_probs(fitted.heads, spec, features, head)
        np.testing.assert_allclose(probs, head_probs(stopped[best], spec, features, head), atol=1e-6)
        hits += max(counts)
        # each half of the held-out drawings is scored in the epoch that is best on the other half
        for half in (0, 1):
            on_half, on_other = ([one[start::2].sum() for one in right] for start in (half, 1 - half))
            nested += on_half[on_other.index(max(on_other))]
    count = 2 * (~folds).sum()
    assert fitted.selection.accuracy == hits / count
    assert fitted.held_out_accuracy == fitted.selection.nested_accuracy == nested / count
    assert fitted.selection.optimism == pytest.approx((hits - nested) / count)
    assert len(set(fitted.selection.epochs)) > 1, "the case is there: heads have their own epochs"


def test_the_last_epochs_head_needs_no_selection(together):
    assert together["without decay"].selection is None
    last, best = fit(replace(BEST, keep="last")), fit(BEST)
    assert last.curve == best.curve
    assert not same(last.heads, best.heads)


def test_a_head_that_holds_nothing_out_keeps_its_last_epoch():
    folds = np.vstack([toy()[2], np.ones((1, N), bool)])
    best, last = (fit_heads(replace(BEST, keep=keep), folds=folds) for keep in ("best", "last"))
    assert all(np.array_equal(best[name][FOLDS], last[name][FOLDS]) for name in best)


def test_on_labels_that_are_noise_the_best_epochs_accuracy_is_optimistic_and_the_nested_one_is_not():
    selections = []
    for seed in range(8):
        generator = np.random.default_rng(seed)
        fold = generator.permutation(np.arange(90) % FOLDS)
        noise = TrainingSet(
            generator.normal(0, 1, (90, D)).astype(np.float16),
            generator.integers(0, CLASSES, 90),
            Folds.of(np.stack([fold != one for one in range(FOLDS)])),
            CLASSES,
            seed,
        )
        settings = settings_of(epochs=12, batch_size=30, lr=0.3, schedule="constant", keep="best")
        selections.append(fit_trials(noise, [Trial(LINEAR, settings)])[0].selection)
    # 720 scored drawings: the deviation is 0.016
    assert np.mean([one.nested_accuracy for one in selections]) == pytest.approx(1 / CLASSES, abs=0.065)
    assert np.mean([one.optimism for one in selections]) > 0.02
    assert np.mean([one.accuracy for one in selections]) > 1 / CLASSES + 0.02


def test_progress_is_reported_after_each_epoch():
    reported = []
    fit_trials(training_set(), [Trial(LINEAR, replace(PLAIN, epochs=3))], progress=lambda *report: reported.append(report))
    total = 3 * FOLDS  # on a CPU each fold is fitted by itself
    assert reported == [("fitting heads", done, total) for done in range(1, total + 1)]


@pytest.mark.parametrize("count", [1, 2])
def test_progress_rises_over_all_groups_to_their_end_even_where_trials_stop(monkeypatch, count):
    monkeypatch.setattr(training, "CACHE_BYTES", 1)
    reported, trials = [], [*REPORTED, Trial(LINEAR, replace(PLAIN, epochs=2)), Trial(KNN, PLAIN)]
    with threads(count):
        stopped_after({0: 0}, trials, progress=lambda *report: reported.append(report))
    total = FOLDS * sum(trial.settings.epochs * trial.settings.starts for trial in trials[:-1])  # each head is a group
    assert reported == [("fitting heads", done, total) for done in range(1, total + 1)]


PRECISIONS = ("bfloat16", "float32")


def test_the_log_says_how_heads_are_grouped_what_diverged_and_which_epochs_are_kept(caplog):
    caplog.set_level(logging.INFO, "inkfold.heads")
    wild = Trial(LINEAR, settings_of(epochs=8, batch_size=8, lr=1e38, optimiser="sgd", schedule="constant", keep="best"))
    best, _ = fit_trials(training_set(), [Trial(LINEAR, replace(BEST, precision="bfloat16")), wild])
    kept = ", ".join(str(epoch + 1) for epoch in best.selection.epochs)
    reason = "the weights and optimiser states of a group fit 16 MiB of cache, and its heads hold out the same fold"
    expected = [
        f"fitting 3 linear heads on cpu in {name}, at most 1 at once in each of 3 groups: {reason}" for name in PRECISIONS
    ]
    assert caplog.messages[:2] == expected
    assert "trial 1 diverged in epoch 1 of fold 0, at the rate 1e+38" in caplog.messages
    assert caplog.messages[-1] == f"best epochs kept: {kept} of 8"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_processors_heads(together):
    # dropout's draws are a device's own
    names = [name for name, trial in TRIALS.items() if not trial.spec.dropout]
    fitted = fit_trials(training_set(), [TRIALS[name] for name in names], device=torch.device("cuda"))
    for name, one in zip(names, fitted, strict=True):
        for part in one.heads:
            np.testing.assert_allclose(one.heads[part], together[name].heads[part], atol=1e-3, rtol=1e-2)


def test_a_device_without_doubles_leaves_heads_to_the_processor():
    trial = Trial(LINEAR, replace(PLAIN, epochs=1))
    assert same(*(fit_trials(training_set(), [trial], device=device)[0].heads for device in (torch.device("mps"), None)))


def test_purged_drawings_are_neither_trained_on_nor_measured():
    features, targets, held_in = toy()
    trained_on = held_in.copy()
    trained_on[:, :10] = False
    held_out = ~held_in
    purged = ~trained_on & ~held_out
    assert purged.any()
    results = []
    for noise in (0, 1e3):
        changed = features.copy()
        rows = purged.all(0) | purged[0]
        changed[rows] += np.float16(noise)
        data = TrainingSet(changed, targets, Folds(trained_on[:1], held_out[:1]), CLASSES, SEED)
        results.append(fit_trials(data, [Trial(LINEAR, PLAIN)])[0])
    assert results[0].held_out_accuracy == results[1].held_out_accuracy
    for name, values in results[0].heads.items():
        np.testing.assert_array_equal(values, results[1].heads[name])


def test_a_group_has_as_many_threads_as_if_all_parts_were_held_out(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    held_out = np.arange(10) % 5 == np.arange(5)[:, None]
    folds = Folds(~held_out, held_out)
    assert (
        training._threads_of_each(5, folds)
        == training._threads_of_each(2, folds.first(2))
        == training._threads_of_each(1, folds.first(1))
        == 3
    )
    assert training._threads_of_each(10, folds) == training._threads_of_each(4, folds.first(2)) == 1, "two groups a fold"
    single = Folds(~held_out[:1], held_out[:1])
    assert training._threads_of_each(1, single) == 16, "a holdout has the machine for itself"
