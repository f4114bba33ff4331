import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inkfold.data.splits import Folds
from inkfold.heads import fit_group
from inkfold.heads.batched import HeadJob
from inkfold.heads.fit_group import GroupTrainer, JobRecord, epoch_order, held_out_accuracy
from inkfold.heads.head import head_probs
from inkfold.heads.training_set import AugmentedFeatures, TrainingSet
from toy_heads import head_spec, settings_of

torch.set_num_threads(1)  # such small steps take a hundred times as long where threads wait for a busy core

N, D, CLASSES, FOLDS, SEED = 30, 5, 3, 3, 5
CPU = torch.device("cpu")
GOOD, BAD = settings_of(epochs=4, batch_size=8, lr=0.03), settings_of(epochs=4, batch_size=8, lr=0.001)


def training_set(augmented=None, folds=None):
    generator = np.random.default_rng(0)
    targets = generator.integers(0, CLASSES, N)
    features = (generator.normal(0, 1, (N, D)) + np.eye(CLASSES, D)[targets]).astype(np.float16)
    fold = generator.permutation(np.arange(N) % FOLDS)
    given_folds = np.stack([fold != i for i in range(FOLDS)]) if folds is None else folds
    return TrainingSet(features, targets, Folds.of(given_folds), CLASSES, SEED, augmented)


def jobs_of(*of_trials, folds=FOLDS, starts=1):
    return [
        HeadJob(trial, fold, start, one)
        for trial, one in enumerate(of_trials)
        for fold in range(folds)
        for start in range(starts)
    ]


def trainer(*of_trials, own_set=None, spec=None, starts=1):
    own_set = own_set or training_set()
    group = jobs_of(*of_trials, folds=len(own_set.folds), starts=starts)
    return GroupTrainer(own_set, spec or head_spec(), group, CPU)


def run(*of_trials, epoch_done=lambda: None, **kwargs):
    return trainer(*of_trials, **kwargs).run(epoch_done)


def test_every_epoch_has_its_own_order_of_all_drawings():
    orders = [epoch_order(30, 1, epoch) for epoch in range(3)]
    assert all(sorted(order) == list(range(30)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert np.array_equal(epoch_order(30, 1, 2), orders[2])


@given(st.integers(0, 50), st.integers(0, 2**32), st.integers(0, 10_000))
def test_an_order_is_a_function_of_seed_and_epoch_alone(n, seed, epoch):
    order = epoch_order(n, seed, epoch)
    assert np.array_equal(order, epoch_order(n, seed, epoch))
    assert sorted(order) == list(range(n))
    if n > 20:
        assert not np.array_equal(order, epoch_order(n, seed + 1, epoch))
        assert not np.array_equal(order, epoch_order(n, seed, epoch + 1))


def test_accuracy_by_hand():
    own_set = training_set(folds=np.arange(N) >= np.array([[4], [1], [0]]))
    head = [HeadJob(0, fold, 0, GOOD) for fold in range(3)]
    records = [
        JobRecord(head[0], held_out=[(0.0, 4), (0.0, 3)]),
        JobRecord(head[0], held_out=[(0.0, 0), (0.0, 1)]),
        JobRecord(head[1], held_out=[(0.0, 0), (0.0, 1)]),
    ]
    assert [own_set.held_out_count(fold) for fold in range(3)] == [4, 1, 0]
    assert held_out_accuracy(own_set, records) == 5 / 9
    assert held_out_accuracy(own_set, records[:1]) == 3 / 4
    assert math.isnan(held_out_accuracy(training_set(folds=np.ones((3, N), bool)), [JobRecord(head[2], held_out=[(0.0, 0)])]))


def test_every_epoch_is_reported_and_leaves_a_figure_of_each_head():
    reported = []
    records = run(GOOD, BAD, starts=2, epoch_done=lambda: reported.append(1))
    assert len(reported) == 4
    assert len(records) == 2 * FOLDS * 2
    for record in records:
        assert len(record.losses) == len(record.held_out) == 4
        assert all(weight == 20 for _, weight in record.losses), "a head's own drawings are 20 of 30"
        assert record.right == []
        assert record.tensors["layers.0.weight"].shape == (1, D, CLASSES)


def test_held_out_figures_are_those_of_the_heads_answers():
    for scaling in ["none", "standardise"]:
        spec, own_set = head_spec("mlp", (6,), scaling=scaling), training_set()
        for record in run(GOOD, spec=spec):
            held_out = own_set.folds.held_out[record.job.fold]
            y = own_set.targets[held_out]
            probs = head_probs(record.tensors, spec, own_set.features[held_out], 0)
            assert record.held_out[-1][0] == pytest.approx(-np.log(probs[np.arange(len(y)), y]).sum(), rel=1e-5)
            assert record.held_out[-1][1] == (probs.argmax(1) == y).sum()


def test_held_out_drawings_may_be_predicted_in_any_number_of_parts(monkeypatch):
    best = settings_of(epochs=4, batch_size=8, lr=0.03, keep="best")
    whole = run(best)
    for rows in [1, 3, 10]:
        monkeypatch.setattr(fit_group, "HELD_OUT_ROWS", rows)
        for one, other in zip(whole, run(best), strict=True):
            assert [right for _, right in one.held_out] == [right for _, right in other.held_out]
            assert [loss for loss, _ in one.held_out] == pytest.approx([loss for loss, _ in other.held_out], rel=1e-5)
            assert np.array_equal(np.stack(one.right), np.stack(other.right))


def test_predictions_are_kept_where_the_best_epoch_is_and_the_first_of_equals_is_taken():
    spec, own_set, constant = head_spec(), training_set(), {"batch_size": 8, "lr": 0.05, "schedule": "constant"}
    records = run(settings_of(epochs=6, keep="best", **constant))
    shorter = [run(settings_of(epochs=epochs, **constant)) for epochs in range(1, 7)]
    for i, record in enumerate(records):
        held_out = own_set.folds.held_out[record.job.fold]
        answers = [head_probs(one[i].tensors, spec, own_set.features[held_out], 0).argmax(1) for one in shorter]
        right = np.stack(answers) == own_set.targets[held_out]
        assert np.array_equal(np.stack(record.right), right)
        [best, *_] = np.flatnonzero(right.sum(1) == right.sum(1).max())
        assert all(np.array_equal(record.tensors[name], shorter[best][i].tensors[name]) for name in record.tensors)


def test_each_epochs_features_are_read_once_and_they_are_in_the_drawings_order():
    epochs_read = []

    def features(epoch):
        epochs_read.append(epoch)
        return training_set().features

    plain = run(GOOD, BAD)
    augmented_fit = run(GOOD, BAD, own_set=training_set(AugmentedFeatures(features, [1.0] * 4)))
    assert epochs_read == [0, 1, 2, 3]
    for one, other in zip(plain, augmented_fit, strict=True):
        assert one.losses == other.losses
        assert one.held_out == other.held_out
        assert all(np.array_equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


def test_an_epochs_factor_multiplies_every_trials_rate():
    augmented_fit = run(GOOD, BAD, own_set=training_set(AugmentedFeatures(lambda _: training_set().features, [0.5] * 4)))
    halved = [settings_of(epochs=4, batch_size=8, lr=one.lr / 2) for one in (GOOD, BAD)]
    for one, other in zip(augmented_fit, run(*halved), strict=True):
        np.testing.assert_allclose(one.tensors["layers.0.weight"], other.tensors["layers.0.weight"], atol=1e-6)


def test_a_trial_that_is_stopped_leaves_and_the_others_continue():
    ends, group = run(GOOD, BAD, GOOD), trainer(GOOD, BAD, GOOD)
    group.run(lambda: None, 2)
    assert all(record.is_unfinished for record in group.records)
    group.stop({1})
    assert [record.is_unfinished for record in group.records] == [record.job.trial != 1 for record in group.records]
    records = group.run(lambda: None)
    assert not any(record.is_unfinished for record in records)
    for end, record in zip(ends, records, strict=True):
        stopped = record.job.trial == 1
        assert len(record.held_out) == len(record.losses) == (2 if stopped else 4)
        assert (record.tensors is None) == stopped
        if not stopped:
            np.testing.assert_allclose(record.tensors["layers.0.weight"], end.tensors["layers.0.weight"], atol=1e-5)


def test_pausing_changes_nothing():
    group = trainer(GOOD, BAD)
    for until in (1, 1, 3):
        group.run(lambda: None, until)
        assert all(record.tensors is None for record in group.records)
    for record, expected in zip(group.run(lambda: None), run(GOOD, BAD), strict=True):
        assert record.held_out == expected.held_out
        assert (record.tensors["layers.0.weight"] == expected.tensors["layers.0.weight"]).all()


def test_when_no_trial_continues_the_rest_is_reported_without_work():
    reported, epochs_read = [], []

    def features(epoch):
        epochs_read.append(epoch)
        return training_set().features

    own_set = training_set(AugmentedFeatures(features, [1.0] * 4))
    group = trainer(GOOD, BAD, own_set=own_set)
    group.run(lambda: reported.append(1), 1)
    group.stop({0, 1})
    records = group.run(lambda: reported.append(1))
    assert (len(reported), epochs_read) == (4, [0])
    assert all(record.tensors is None and len(record.losses) == 1 for record in records)


def test_a_trial_that_diverges_leaves_in_that_epoch_with_all_its_heads():
    wild = settings_of(epochs=4, batch_size=8, lr=1e38, optimiser="sgd", schedule="constant")
    tame = settings_of(epochs=4, batch_size=8, lr=0.1, optimiser="sgd", schedule="constant")
    records, alone = run(tame, wild), run(tame)
    for record in records[FOLDS:]:
        assert record.tensors is None
        assert len(record.losses) == 1
    assert {record.diverged for record in records[FOLDS:]} <= {0, None}
    assert any(record.diverged == 0 and not math.isfinite(record.losses[0][0]) for record in records[FOLDS:])
    for record, expected in zip(records, alone, strict=False):
        assert record.diverged is None
        np.testing.assert_allclose(record.tensors["layers.0.weight"], expected.tensors["layers.0.weight"], atol=1e-5)
