import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

from inkfold.heads import HeadSpec, head_probs, init_members
from inkfold.training import FitSettings, Schooling, epoch_order, fit_heads, lr_factor
from test_heads import plain_model

torch.set_num_threads(1)  # such small steps take a hundred times as long where threads wait for a busy core

N, D, CLASSES, FOLDS, SEED = 50, 6, 4, 3, 5


def toy():
    generator = np.random.default_rng(0)
    targets = generator.integers(0, CLASSES, N)
    features = (generator.normal(0, 1, (N, D)) + np.eye(CLASSES, D)[targets] * 2).astype(np.float16)
    folds = generator.integers(0, FOLDS, N)
    return features, targets, np.stack([folds != fold for fold in range(FOLDS)])


def fit_with_curve(settings=None, spec=None, **changes):
    given = dict(zip(("features", "targets", "members"), toy(), strict=True))
    given = {"num_classes": CLASSES, "seed": SEED, **given, **changes}
    settings = settings or FitSettings(epochs=4, batch_size=8, lr=0.01)
    return fit_heads(spec=spec or HeadSpec(), settings=settings, **given)


def fit(settings=None, spec=None, **changes):
    return fit_with_curve(settings, spec, **changes)[0]


def views(epoch):
    """Other features in every epoch."""
    return (toy()[0] + np.random.default_rng(epoch).normal(0, 0.5, (N, D))).astype(np.float16)


FACTORS = (1.0, 0.5, 0.5, 2.0, 0.1)
SCHOOLING = Schooling(views, FACTORS)


def same(one, other):
    return one.keys() == other.keys() and all(one[name].tobytes() == other[name].tobytes() for name in one)


def plain_fit(settings, spec, member, schooling=None):
    """The textbook loop for one member, with PyTorch's own layers, loss, optimisers and schedules."""
    features, targets, members = toy()
    plain, y, own = torch.from_numpy(features).float(), torch.from_numpy(targets), torch.from_numpy(members[member])
    mean, deviation = (plain[own].mean(0), plain[own].std(0, correction=0)) if settings.standardise else (0, 1)
    start = init_members(spec, D, CLASSES, [(SEED, 1, member)])
    model = plain_model(spec, start, 0, D, CLASSES)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    momentum = {"momentum": 0.9} if settings.optimiser == "sgd" else {}
    optimiser = kinds[settings.optimiser](model.parameters(), settings.lr, weight_decay=settings.weight_decay, **momentum)
    steps = -(-N // settings.batch_size) * settings.epochs
    by_epoch = torch.optim.lr_scheduler.StepLR(optimiser, settings.step_every, settings.step_gamma)
    by_step = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    for epoch in range(settings.epochs):
        shown = plain if schooling is None else torch.from_numpy(schooling.features(epoch)).float()
        x = (shown - mean) / deviation
        for batch in torch.from_numpy(epoch_order(N, SEED, epoch)).split(settings.batch_size):
            rows = batch[own[batch]]
            optimiser.zero_grad()
            # a batch without own rows is a step without a gradient
            (loss_of(model(x[rows]), y[rows]) if len(rows) else model(x[:1]).sum() * 0).backward()
            scheduled = optimiser.param_groups[0]["lr"]
            optimiser.param_groups[0]["lr"] = scheduled * (1 if schooling is None else schooling.lr_factors[epoch])
            optimiser.step()
            optimiser.param_groups[0]["lr"] = scheduled
            if settings.schedule == "cosine":
                by_step.step()
        if settings.schedule == "step":
            by_epoch.step()
    return model


def check_against_plain(settings, spec, schooling=None):
    fitted = fit(settings, spec, schooling=schooling)
    for member in range(FOLDS):
        model = plain_fit(settings, spec, member, schooling)
        layers = [layer for layer in model if isinstance(layer, torch.nn.Linear)]
        for i, layer in enumerate(layers):
            weight, bias = layer.weight.detach().numpy().T, layer.bias.detach().numpy()
            np.testing.assert_allclose(fitted[f"layers.{i}.weight"][member], weight, atol=2e-5)
            np.testing.assert_allclose(fitted[f"layers.{i}.bias"][member, 0], bias, atol=2e-5)


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["step", "cosine", "constant"])
def test_every_member_ends_as_a_plain_pytorch_loop_does(optimiser, schedule):
    settings = FitSettings(
        epochs=5, batch_size=8, optimiser=optimiser, lr=0.02, weight_decay=0.05, schedule=schedule, step_every=2, step_gamma=0.3
    )
    check_against_plain(settings, HeadSpec())


@pytest.mark.parametrize("spec", [HeadSpec((9,)), HeadSpec((9, 5), "gelu")], ids=str)
def test_hidden_layers_smoothing_and_standardising_agree_with_a_plain_loop_too(spec):
    check_against_plain(FitSettings(epochs=3, batch_size=8, lr=0.01, label_smoothing=0.2, standardise=True), spec)


def test_batches_of_two_in_which_a_member_may_have_no_row_agree_with_a_plain_loop_too():
    members = toy()[2]
    batches = epoch_order(N, SEED, 0).reshape(-1, 2)
    assert not members[:, batches].any(2).all(), "the case is there"
    check_against_plain(FitSettings(epochs=1, batch_size=2, optimiser="sgd", lr=0.01), HeadSpec())


@pytest.mark.parametrize(
    "settings", [{"optimiser": "adamw"}, {"optimiser": "sgd", "schedule": "step", "step_every": 2}], ids=str
)
@pytest.mark.parametrize(("spec", "standardise"), [(HeadSpec(), False), (HeadSpec((9,)), True)], ids=str)
def test_a_curriculums_features_and_rates_agree_with_a_plain_loop_too(settings, spec, standardise):
    given = FitSettings(epochs=5, batch_size=8, lr=0.02, weight_decay=0.05, standardise=standardise, **settings)
    check_against_plain(given, spec, SCHOOLING)


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("spec", [HeadSpec(), HeadSpec((9,))], ids=str)
def test_a_member_among_others_ends_as_it_does_alone(spec, standardise):
    settings = FitSettings(epochs=4, batch_size=8, lr=0.01, standardise=standardise)
    together, alone = fit(settings, spec), fit(settings, spec, members=toy()[2][:1])
    for name in together:
        np.testing.assert_allclose(together[name][0], alone[name][0], atol=1e-5)


def test_fitting_twice_gives_the_same_bytes():
    assert same(fit(), fit())


def test_fitting_does_not_touch_pytorchs_random_state_or_settings():
    state, precision = torch.get_rng_state(), torch.get_float32_matmul_precision()
    fit(FitSettings(epochs=1, precision="bfloat16"))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_float32_matmul_precision() == precision


def test_the_seed_changes_the_weights():
    assert not same(fit(), fit(seed=SEED + 1))


@pytest.mark.parametrize("standardise", [False, True])
def test_held_out_drawings_have_no_influence(standardise):
    settings = FitSettings(epochs=3, batch_size=8, lr=0.01, standardise=standardise)
    features, targets, members = toy()
    before = fit(settings)
    for member in range(FOLDS):
        held_out = ~members[member]
        other, others = features.copy(), targets.copy()
        other[held_out] = 77.0
        others[held_out] = (targets[held_out] + 1) % CLASSES
        after = fit(settings, features=other, targets=others)
        assert all(before[name][member].tobytes() == after[name][member].tobytes() for name in before)
        assert not same(before, after)


def test_standardising_uses_the_members_own_drawings():
    features, _, members = toy()
    fitted = fit(FitSettings(epochs=1, standardise=True))
    for member, own in enumerate(members):
        expected = features[own].astype(np.float64)
        np.testing.assert_allclose(fitted["mean"][member, 0], expected.mean(0), atol=1e-5)
        np.testing.assert_allclose(fitted["scale"][member, 0], 1 / expected.std(0), rtol=1e-4)


def test_a_constant_feature_says_nothing():
    features = toy()[0].copy()
    features[:, 2] = 3.0
    settings = FitSettings(epochs=2, standardise=True)
    fitted = fit(settings, features=features)
    assert (fitted["scale"][:, 0, 2] == 0).all()
    assert all(np.isfinite(values).all() for values in fitted.values())
    moved = features[:5].copy()
    moved[:, 2] = -9
    assert np.array_equal(head_probs(fitted, HeadSpec(), moved, 0), head_probs(fitted, HeadSpec(), features[:5], 0))


def test_classes_without_drawings_get_little_probability():
    fitted = fit(FitSettings(epochs=30, batch_size=8, lr=0.05), num_classes=CLASSES + 2)
    probs = head_probs(fitted, HeadSpec(), toy()[0], 0)
    assert probs.shape == (N, CLASSES + 2)
    assert probs[:, CLASSES:].max() < 0.1


def test_heads_learn_what_can_be_learnt():
    features, targets, members = toy()
    fitted = fit(FitSettings(epochs=30, batch_size=8, lr=0.05))
    own = members[0]
    assert (head_probs(fitted, HeadSpec(), features[own], 0).argmax(1) == targets[own]).mean() > 0.8


def test_bfloat16_products_stay_close_to_float32():
    settings = {"epochs": 4, "batch_size": 8, "lr": 0.01}
    exact, rough = fit(FitSettings(**settings)), fit(FitSettings(**settings, precision="bfloat16"))
    assert rough["layers.0.weight"].dtype == np.float32
    np.testing.assert_allclose(rough["layers.0.weight"], exact["layers.0.weight"], atol=0.03)


def test_schooling_in_the_drawings_as_they_are_changes_nothing():
    plain, schooled = fit_with_curve(), fit_with_curve(schooling=Schooling(lambda _: toy()[0], [1.0] * 4))
    assert same(plain[0], schooled[0])
    assert plain[1] == schooled[1]


def test_every_epoch_asks_once_for_its_own_features():
    asked = []

    def features(epoch):
        asked.append(epoch)
        return views(epoch)

    fit(schooling=Schooling(features, FACTORS))
    assert asked == [0, 1, 2, 3]


def held_out_probs(heads, spec, features):
    """What each drawing's own member, which has not seen it, says."""
    probs = np.zeros((N, CLASSES))
    for member, seen in enumerate(toy()[2]):
        probs[~seen] = head_probs(heads, spec, features[~seen], member)
    return probs


@pytest.mark.parametrize("schooling", [None, SCHOOLING])
@pytest.mark.parametrize("spec", [HeadSpec(), HeadSpec((9,))], ids=str)
def test_the_curve_ends_with_the_figures_of_the_held_out_drawings_as_they_are(spec, schooling):
    heads, curve = fit_with_curve(FitSettings(epochs=5, batch_size=8, standardise=True), spec, schooling=schooling)
    features, targets, _ = toy()
    probs = held_out_probs(heads, spec, features)
    # scikit-learn's figures
    assert len(curve) == 5
    assert curve[-1].held_out_loss == pytest.approx(log_loss(targets, probs / probs.sum(1, keepdims=True)), rel=1e-5)
    assert curve[-1].held_out_accuracy == accuracy_score(targets, probs.argmax(1))


def test_each_point_of_the_curve_is_where_a_shorter_fit_ends():
    settings = {"batch_size": 8, "lr": 0.02, "schedule": "constant"}
    curve = fit_with_curve(FitSettings(epochs=4, **settings), schooling=SCHOOLING)[1]
    for epochs in (1, 2, 3):
        assert fit_with_curve(FitSettings(epochs=epochs, **settings), schooling=SCHOOLING)[1] == curve[:epochs]


def test_the_curves_figures_by_hand():
    # Two drawings, a member for each; features of 0 leave the biases, and a rate of next to nothing leaves those as drawn.
    targets, members = np.array([0, 1]), np.array([[True, False], [False, True]])
    settings = FitSettings(epochs=2, batch_size=2, lr=1e-12)
    heads, curve = fit_heads(np.zeros((2, 3), np.float32), targets, members, HeadSpec(), settings, 2, seed=SEED)
    bias = heads["layers.0.bias"][:, 0].astype(float)
    own = [math.log(1 + math.exp(bias[member, 1 - target] - bias[member, target])) for member, target in ((0, 0), (1, 1))]
    others = [math.log(1 + math.exp(bias[member, 1 - target] - bias[member, target])) for member, target in ((0, 1), (1, 0))]
    right = [bias[0, 1] > bias[0, 0], bias[1, 0] >= bias[1, 1]]
    for point in curve:
        assert point.loss == pytest.approx(sum(own) / 2, rel=1e-5)
        assert point.held_out_loss == pytest.approx(sum(others) / 2, rel=1e-5)
        assert point.held_out_accuracy == sum(right) / 2


def test_the_curves_loss_is_the_mean_of_the_members_losses_while_they_learn():
    _, targets, members = toy()
    curve = fit_with_curve(FitSettings(epochs=2, batch_size=N, lr=0.01, label_smoothing=0.1), schooling=SCHOOLING)[1]
    start = init_members(HeadSpec(), D, CLASSES, [(SEED, 1, member) for member in range(FOLDS)])
    losses = []
    for member, own in enumerate(members):
        model = plain_model(HeadSpec(), start, member, D, CLASSES)
        x, y = torch.from_numpy(views(0)[own]).float(), torch.from_numpy(targets[own])
        losses.append(torch.nn.functional.cross_entropy(model(x), y, label_smoothing=0.1).item())
    assert curve[0].loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_curves_rate_is_the_schedules_at_the_epochs_start_times_the_epochs_factor():
    step = FitSettings(epochs=5, batch_size=8, lr=0.1, schedule="step", step_every=2, step_gamma=0.5)
    assert [point.lr for point in fit_with_curve(step)[1]] == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025])
    schooled = [point.lr for point in fit_with_curve(step, schooling=SCHOOLING)[1]]
    assert schooled == pytest.approx([0.1, 0.05, 0.025, 0.1, 0.0025])
    cosine = [point.lr for point in fit_with_curve(FitSettings(epochs=4, lr=0.1))[1]]
    assert cosine == pytest.approx([0.1, 0.05 + 0.1 * 0.5**1.5, 0.05, 0.05 - 0.1 * 0.5**1.5])


def test_without_held_out_drawings_the_curve_has_no_held_out_figures():
    [point] = fit_with_curve(FitSettings(epochs=1), members=np.ones((2, N), bool))[1]
    assert math.isnan(point.held_out_loss)
    assert math.isnan(point.held_out_accuracy)
    assert point.loss > 0


def test_a_member_that_holds_nothing_out_leaves_the_others_figures_alone():
    members = toy()[2]
    settings = FitSettings(epochs=2, batch_size=8)
    plain, more = (
        fit_with_curve(settings, members=given)[1] for given in (members, np.vstack([members, np.ones((1, N), bool)]))
    )
    for one, other in zip(plain, more, strict=True):
        assert other.held_out_loss == pytest.approx(one.held_out_loss, rel=1e-5)
        assert other.held_out_accuracy == one.held_out_accuracy


def test_every_epoch_has_its_own_order_of_all_drawings():
    orders = [epoch_order(30, 1, epoch) for epoch in range(3)]
    assert all(sorted(order) == list(range(30)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert np.array_equal(epoch_order(30, 1, 2), orders[2])


def test_schedules_by_hand():
    step = FitSettings(schedule="step", step_every=2, step_gamma=0.5)
    assert [lr_factor(step, epoch, 0, 1) for epoch in range(5)] == [1, 1, 0.5, 0.5, 0.25]
    cosine = [lr_factor(FitSettings(), 0, step, 4) for step in range(4)]
    assert cosine == pytest.approx([1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])
    assert lr_factor(FitSettings(schedule="constant"), 9, 99, 100) == 1


def test_progress_is_told_after_each_epoch():
    told = []
    fit(FitSettings(epochs=3), progress=lambda *report: told.append(report))
    assert told == [("fitting heads", 1, 3), ("fitting heads", 2, 3), ("fitting heads", 3, 3)]
