from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inkfold.augment.views import IDENTITY
from inkfold.data.splits import Folds
from inkfold.data.types import Dataset, Drawings
from inkfold.evaluation.paired import paired_difference
from inkfold.evaluation.predictions import Predictions
from inkfold.evaluation.scores import ACCURACY, Metric
from inkfold.features.extractor import DrawingFiles
from inkfold.pipeline import transductive
from inkfold.pipeline.out_of_fold import FoldFeatures
from inkfold.pipeline.prepare import Prepared, ReadData
from inkfold.pipeline.transductive import choose_propagation

CLASSES = ("cat", "dog", "owl")
N, TESTS, FOLDS = 120, 30, 2
TARGETS, FOLD_OF = np.arange(N) % 3, np.arange(N) // 3 % FOLDS
TEST_TARGETS = np.arange(TESTS) % 3


def digests(numbers):
    return np.array([b"%06d" % number for number in numbers], "S32")


class Toy:
    """Drawings whose features show their classes, or don't, and a head that is right on about half of them."""

    def __init__(self, separation=4.0, groups=None, test_groups=None, test_order=None, tests=TESTS):
        rng = np.random.default_rng(0)
        self.features = rng.normal(size=(N, 5)) + separation * np.eye(3, 5)[TARGETS]
        order = np.arange(TESTS) if test_order is None else test_order
        self.test_features = (rng.normal(size=(TESTS, 5)) + separation * np.eye(3, 5)[TEST_TARGETS])[order][:tests]
        head = rng.dirichlet(np.ones(3), N + TESTS) + 0.4 * np.eye(3)[np.concatenate([TARGETS, TEST_TARGETS])]
        head = (head / head.sum(1, keepdims=True)).astype(np.float32)
        self.folds = Folds.of(np.arange(FOLDS)[:, None] != FOLD_OF)
        names = np.array([f"{i:03}.png" for i in range(N)])
        train = Drawings(names, names, TARGETS, groups)
        shown = np.array([f"t{i}.png" for i in order])[:tests]
        test = Drawings(shown, shown, TEST_TARGETS[order][:tests], test_groups)
        dataset = Dataset(Path(), "table", train, test, CLASSES, np.arange(3), None, ())
        files = [DrawingFiles(names, names, digests(range(N))), DrawingFiles(shown, shown, digests(1000 + order[:tests]))]
        self.prepared = Prepared(ReadData(dataset, *files, [], [], ""), np.arange(N), np.ones(tests, bool))
        self.out_of_fold = Predictions(names, head[:N], CLASSES, TARGETS, FOLD_OF, groups=groups)
        own = head[N:][order][:tests]
        self.test = Predictions(shown, own, CLASSES, test.targets, fold_probs=np.stack([own] * FOLDS), digests=files[1].digests)

    def choose(self, metric=ACCURACY, **changes):
        features = FoldFeatures(
            held_out=lambda fold, view: self.features[self.folds.held_out[fold]],
            test=lambda fold, view: self.test_features[self.prepared.test_whole],
            trained_on=lambda fold, view: self.features[self.folds.trained_on[fold]],
        )
        given = (replace(features, **changes), self.prepared, self.folds, metric, self.out_of_fold, self.test)
        return choose_propagation(*given)


def accuracy(predictions):
    return float((predictions.preds == predictions.targets).mean())


def test_it_is_used_where_held_out_drawings_are_better_by_more_than_chance():
    toy = Toy()
    chosen = toy.choose()
    assert chosen.figures["used"]
    right = [own.preds == TARGETS for own in (toy.out_of_fold, chosen.out_of_fold)]
    expected = paired_difference(*right)
    assert {name: chosen.figures[name] for name in expected} == expected
    assert accuracy(chosen.out_of_fold) > 0.9 > accuracy(toy.out_of_fold)
    assert accuracy(chosen.test) > 0.9 > accuracy(toy.test)
    np.testing.assert_array_equal(chosen.test.probs, chosen.test.fold_probs.mean(0))
    assert chosen.by_heads is toy.out_of_fold


@pytest.mark.parametrize("metric", [ACCURACY, Metric("log_loss")])
def test_features_that_show_nothing_change_no_prediction(metric):
    toy = Toy(separation=0.0)
    chosen = toy.choose(metric)
    assert not chosen.figures["used"]
    assert (chosen.out_of_fold, chosen.test, chosen.by_heads) == (toy.out_of_fold, toy.test, None)
    assert chosen.judged is not None


def test_what_is_better_is_lower_for_a_loss():
    chosen = Toy().choose(Metric("log_loss"))
    assert chosen.figures["used"]
    assert chosen.figures["difference"] < 0


def test_the_choice_itself_is_measured_by_what_other_folds_choose():
    chosen = Toy().choose()
    assert chosen.figures["nested"]["accuracy"] == pytest.approx(accuracy(chosen.out_of_fold), abs=1e-6)  # each fold chooses it
    toy = Toy(separation=0.0)
    assert toy.choose().figures["nested"]["accuracy"] == pytest.approx(accuracy(toy.out_of_fold), abs=1e-6)


def test_the_order_of_test_rows_changes_nothing():
    order = np.random.default_rng(3).permutation(TESTS)
    plain, shuffled = Toy().choose(), Toy(test_order=order).choose()
    assert shuffled.test.fold_probs.tobytes() == plain.test.fold_probs[:, order].tobytes()
    assert shuffled.figures == plain.figures


def test_test_drawings_that_cant_be_read_keep_their_probabilities():
    toy = Toy()
    toy.prepared.test_whole[[2, 5]] = False
    chosen = toy.choose()
    np.testing.assert_array_equal(chosen.test.fold_probs[:, [2, 5]], toy.test.fold_probs[:, [2, 5]])
    assert (chosen.test.fold_probs[:, 3] != toy.test.fold_probs[:, 3]).any()


def unlabelled_of(monkeypatch, toy):
    """The drawings that are predicted together, of each call."""
    calls = []
    usual = transductive.propagate
    monkeypatch.setattr(transductive, "propagate", lambda *given: (calls.append(given[-1]), usual(*given))[1])
    toy.choose()
    return calls


def test_drawings_of_one_group_are_not_joined_neither_held_out_nor_test_ones(monkeypatch):
    groups, test_groups = np.arange(N) // 6, np.arange(TESTS) // 10
    held_out, *_, test = unlabelled_of(monkeypatch, Toy(groups=groups, test_groups=test_groups))
    own, parts = groups[FOLD_OF == 0], np.arange(60) % 2  # 60 held-out drawings, and 30 test drawings
    expected = (own[:, None] == own) | (parts[:, None] != parts)
    np.testing.assert_array_equal(held_out.unjoined(slice(0, None)), expected)
    np.testing.assert_array_equal(test.unjoined(slice(0, None)), test_groups[:, None] == test_groups)


def test_no_more_held_out_drawings_are_predicted_at_once_than_there_are_test_drawings(monkeypatch):
    held_out = unlabelled_of(monkeypatch, Toy(tests=4))[0]
    assert np.bincount(held_out.parts).tolist() == [4] * 15  # 60 drawings of a fold


def test_more_test_drawings_than_fit_in_memory_are_predicted_in_parts(monkeypatch):
    monkeypatch.setattr(transductive, "MOST_TOGETHER", 20)
    calls = unlabelled_of(monkeypatch, Toy())
    assert [len(own.probs) for own in calls] == [60, 60, 15, 15, 15, 15]


def test_it_says_why_it_was_not_tried(monkeypatch):
    toy = Toy()
    skipped = toy.choose(test=None)
    assert (skipped.figures["used"], skipped.figures["skipped"]) == (False, "no_test_drawings")
    assert skipped.out_of_fold is toy.out_of_fold
    monkeypatch.setattr(transductive, "MOST_WORK", 1e5)
    assert toy.choose().figures["skipped"] == "too_many_drawings"
    toy.out_of_fold = replace(toy.out_of_fold, nested_right=np.ones(N))
    assert toy.choose().figures["skipped"] == "nested_epochs"


def test_drawings_as_they_are_make_the_graph():
    toy, views = Toy(), set()

    def trained_on(fold, view):
        views.add(view)
        return toy.features[toy.folds.trained_on[fold]]

    toy.choose(trained_on=trained_on)
    assert views == {IDENTITY}
