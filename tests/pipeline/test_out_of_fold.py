from pathlib import Path

import numpy as np
import pytest

from inkfold.augment.views import IDENTITY, parse_view
from inkfold.data.splits import Folds
from inkfold.data.types import Dataset, Drawings
from inkfold.features.extractor import DrawingFiles
from inkfold.heads.fit import FittedHeads
from inkfold.heads.head import mean_probs
from inkfold.pipeline.out_of_fold import FoldFeatures, features_by_fold, predict_held_out, predict_test, shared_features
from inkfold.pipeline.prepare import Prepared, ReadData
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import silent
from toy_heads import head_spec

HFLIP = parse_view("hflip")
CLASSES = ("cat", "dog", "owl")
ROWS = np.array([3, 0, 4, 1])  # by content; row 2 of the table can't be read
TARGETS = np.array([0, 1, 2, 2, 0])
FOLDS = Folds.of(np.array([[False, True, True, False], [True, False, False, True]]))
RNG = np.random.default_rng(0)
FEATURES = {view: RNG.normal(size=(4, 2)).astype(np.float16) for view in (IDENTITY, HFLIP)}
TESTS = {view: RNG.normal(size=(2, 2)).astype(np.float16) for view in (IDENTITY, HFLIP)}


class Read:
    """Features under views, without a bank."""

    def __init__(self, features: dict) -> None:
        self.read = lambda view=IDENTITY: features[view]


def prepared(test_whole=(True, False, True), order=range(5)) -> Prepared:
    """Give the drawings in a table of this order."""
    order = np.array(order)
    train = Drawings(np.array([f"{i}.png" for i in order]), np.array([""] * 5), TARGETS[order])
    test = None if test_whole is None else Drawings(np.array(["a.png", "broken.png", "c.png"]), np.array([""] * 3))
    dataset = Dataset(Path(), "table", train, test, CLASSES, np.arange(3), None, ())
    tests = None if test is None else DrawingFiles(test.image_paths, test.files, np.array([b"a", b"", b"c"], "S32"))
    names = DrawingFiles(train.image_paths, train.files, np.array([b"%d" % i for i in order], "S32"))
    read = ReadData(dataset, names, tests, [], [], "")
    return Prepared(read, np.argsort(order)[ROWS], None if test_whole is None else np.array(test_whole))


def fitted(folds=(0, 1)) -> FittedHeads:
    weights = np.random.default_rng(1).normal(size=(len(folds), 2, 3)).astype(np.float32)
    return FittedHeads(head_spec(), folds, {"layers.0.weight": weights})


def probs_of(fitted: FittedHeads, features: np.ndarray, *members: int) -> np.ndarray:
    return mean_probs(fitted.heads, fitted.spec, features, members)


def fold_features() -> FoldFeatures:
    return shared_features(Read(FEATURES), Read(TESTS), FOLDS)


def test_each_drawing_is_predicted_by_the_fold_that_held_it_out_in_the_order_of_the_paths():
    heads = fitted()
    predictions = predict_held_out(fold_features(), prepared(), (IDENTITY,), FOLDS, heads)
    assert predictions.image_paths.tolist() == ["0.png", "1.png", "3.png", "4.png"]
    assert predictions.targets.tolist() == [0, 1, 2, 0]
    assert predictions.folds.tolist() == [1, 0, 0, 1]
    # by content the drawings are 3, 0, 4, 1: fold 0 held out the first and the last one
    expected = [probs_of(heads, FEATURES[IDENTITY], fold)[place] for place, fold in ((1, 1), (3, 0), (0, 0), (2, 1))]
    np.testing.assert_allclose(predictions.probs, expected, atol=1e-6)


def test_a_table_in_another_order_gives_the_same_bytes(tmp_path):
    written = []
    for order in (range(5), (4, 2, 0, 3, 1)):
        shuffled = prepared(order=order)
        predict_held_out(fold_features(), shuffled, (IDENTITY,), FOLDS, fitted()).save(tmp_path / "out_of_fold.parquet")
        written.append((tmp_path / "out_of_fold.parquet").read_bytes())
    assert written[0] == written[1]


def test_views_are_averaged_as_probabilities():
    heads = fitted()
    predictions = predict_held_out(fold_features(), prepared(), (IDENTITY, HFLIP), FOLDS, heads)
    first = np.mean([probs_of(heads, FEATURES[view], 1)[1] for view in (IDENTITY, HFLIP)], axis=0)
    np.testing.assert_allclose(predictions.probs[0], first, atol=1e-6)


def test_a_fold_with_several_heads_predicts_by_their_mean():
    heads = fitted((0, 0, 1))
    predictions = predict_held_out(fold_features(), prepared(), (IDENTITY,), FOLDS, heads)
    np.testing.assert_allclose(predictions.probs[2], probs_of(heads, FEATURES[IDENTITY], 0, 1)[0], atol=1e-6)


def test_drawings_that_no_fold_held_out_have_no_prediction():
    holdout = Folds.of(FOLDS.trained_on[:1])
    predictions = predict_held_out(
        shared_features(Read(FEATURES), None, holdout), prepared(), (IDENTITY,), holdout, fitted((0,))
    )
    assert predictions.image_paths.tolist() == ["1.png", "3.png"]


def test_all_folds_predict_the_test_drawings_and_a_broken_drawing_gets_the_classes_shares():
    heads = fitted()
    predictions = predict_test(fold_features(), prepared(), (IDENTITY,), 2, heads)
    np.testing.assert_allclose(predictions.fold_probs[:, 1], [[0.5, 0.25, 0.25]] * 2)  # of the four that can be read
    each = [probs_of(heads, TESTS[IDENTITY], fold) for fold in range(2)]
    np.testing.assert_allclose(predictions.fold_probs[:, [0, 2]], each, atol=1e-6)
    np.testing.assert_allclose(predictions.probs[[0, 2]], np.mean(each, axis=0), atol=1e-6)
    assert predictions.targets is None


def test_without_test_drawings_there_is_no_prediction_and_where_none_can_be_read_there_are_shares():
    assert predict_test(fold_features(), prepared(None), (IDENTITY,), 2, fitted()) is None
    predictions = predict_test(FoldFeatures(fold_features().held_out, None), prepared((False,) * 3), (IDENTITY,), 2, fitted())
    np.testing.assert_allclose(predictions.probs, [[0.5, 0.25, 0.25]] * 3)


@pytest.mark.parametrize("with_test", [True, False])
def test_each_fold_extracts_by_its_own_backbone_only_what_it_predicts(with_test):
    extracted = []

    class Own:
        """An extractor whose features name it and the drawing."""

        def __init__(self, name: int) -> None:
            self.name = name

        def extract(self, digests, cost, progress, views):
            extracted.append((self.name, digests.tolist(), views))
            return Read({view: np.full((len(digests), 1), self.name) for view in views})

    views = (IDENTITY, HFLIP)
    seen = features_by_fold(
        [Own(0), Own(1)], prepared((True, False, True) if with_test else None), FOLDS, views, Cost(), silent
    )
    held_out = [(0, [b"3", b"1"], views), (1, [b"0", b"4"], views)]
    assert extracted == [*held_out, *([(fold, [b"a", b"c"], views) for fold in range(2)] if with_test else [])]
    assert [seen.held_out(fold, HFLIP).tolist() for fold in range(2)] == [[[0], [0]], [[1], [1]]]
    assert (seen.test is not None) == with_test
    if with_test:
        assert seen.test(1, IDENTITY).tolist() == [[1], [1]]
