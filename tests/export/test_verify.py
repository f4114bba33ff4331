from types import SimpleNamespace

import numpy as np
import pytest

from inkfold.errors import ExportError
from inkfold.export.graph import Graph
from inkfold.export.verify import (
    Parity,
    QuantisationCheck,
    check_parity,
    check_quantisation,
    compare,
    in_float32,
    measure_quantisation,
    open_session,
    predict_in_batches,
)
from inkfold.images.decode import decode_image
from inkfold.pipeline.run import Run
from inkfold.pipeline.samples import Samples
from inkfold.pipeline.train import train
from toy import RECIPE, toy_data, toy_recipe


def summing():
    """A model that gives each drawing's sum."""
    g = Graph()
    total = g.op("ReduceSum", g.op("Cast", "images", to=1), g.ints(1, 2), keepdims=0)
    g.call(total, "probs")
    return open_session(g.model({"images": (np.uint8, list("nhwc"))}, {"probs": None}, {}).SerializeToString())


def test_drawings_of_any_sizes_are_answered_in_their_order():
    sizes = [(2, 3), (2, 3), (4, 1), (2, 3), *[(1, 1)] * 40]
    drawings = [np.full(size, 7, np.uint8) for size in sizes]
    told = []
    answers = predict_in_batches(summing(), drawings, progress=lambda stage, done, total: told.append((done, total)))
    assert answers[:, 0].tolist() == [7 * rows * columns for rows, columns in sizes]
    assert told[-1] == (44, 44)


def test_few_large_drawings_are_asked_about_at_once():
    asked = []
    session = SimpleNamespace(run=lambda outputs, given: asked.append(len(given["images"])) or [np.zeros((asked[-1], 2))])
    predict_in_batches(session, [np.zeros((2000, 2000), np.uint8)] * 6 + [np.zeros((9, 9), np.uint8)] * 20)
    assert asked == [4, 2, 16, 4]


def test_answers_are_compared():
    predicted, expected = np.float32([[0.6, 0.4], [0.3, 0.7]]), np.float32([[0.5, 0.5], [0.6, 0.4]])
    assert compare(predicted, expected) == Parity(2, 0.5, pytest.approx(0.3))


def run_with(kind):
    run = object.__new__(Run)
    object.__setattr__(run, "recipe", SimpleNamespace(head=SimpleNamespace(kind=kind)))
    object.__setattr__(run, "path", "run")
    return run


@pytest.mark.parametrize(
    ("agreement", "difference", "kind", "refused"),
    [
        (1.0, 0.009, "linear", False),
        (1.0, 0.02, "linear", True),
        (1.0, 0.02, "knn", False),
        (1.0, 0.2, "knn", True),
        (0.98, 0.001, "linear", True),
        (0.99, 0.001, "linear", False),
    ],
)
def test_a_file_that_is_too_far_off_is_refused(agreement, difference, kind, refused):
    parity = Parity(100, agreement, difference)
    if not refused:
        check_parity(parity, run_with(kind))
        return
    with pytest.raises(ExportError, match=r"^run: the file predicts differently"):
        check_parity(parity, run_with(kind))


def test_a_run_is_asked_in_single_precision_on_the_processor(tmp_path):
    recipe = toy_recipe(tmp_path, RECIPE.replace("precision: float32, batch", "precision: bfloat16, batch") + "tta: [hflip]\n")
    run = train(recipe, data=toy_data(tmp_path / "data"), out=tmp_path / "run")
    assert run.extractors()[0][0].backbone.precision == "bfloat16"
    single, plain = in_float32(run), in_float32(run, views=False)
    assert single.extractors()[0][0].backbone.precision == "float32"
    drawings = sorted((tmp_path / "data" / "train").rglob("*.png"))
    predicted, expected = (decoded(run, drawings) for run in (single, plain))
    assert np.abs(predicted - expected).max() > 1e-6, "one sees them mirrored"


def decoded(run, files):
    return run.predict_proba([decode_image(file.read_bytes()) for file in files])


def answering(output, values):
    """A model that says the same of a drawing whose first pixel is the same."""
    g = Graph()
    first = g.op("Cast", g.op("Gather", g.op("Reshape", "images", g.ints(0, -1)), g.const(0, np.int64), axis=1), to=7)
    for name in {"probs", output}:
        table = np.asarray(values if name == output else np.zeros((4, 2)), np.float32)
        g.call(g.op("Gather", g.const(table), first, axis=table.ndim - 2), name)
    shapes = dict.fromkeys(sorted({"probs", output}))
    return g.model({"images": (np.uint8, list("nhwc"))}, shapes, {}).SerializeToString()


PAGES = [np.full((2, 2), i, np.uint8) for i in range(4)]
FILES = np.array(list("abcd"), np.dtypes.StringDType())
RIGHT = np.eye(2)[[0, 1, 0, 1]]
ONE_WRONG = np.eye(2)[[0, 1, 0, 0]]


def test_test_drawings_are_answered_by_all_folds_together():
    check = measure_quantisation(
        answering("probs", RIGHT), answering("probs", ONE_WRONG), Samples(FILES, np.array([0, 1, 0, 1])), PAGES
    )
    assert (check.drawings, check.agreement, check.of, check.accuracy_float32) == (4, 0.75, "test", 1.0)
    assert check.difference["difference"] == -0.25


def test_training_drawings_are_answered_by_the_fold_that_has_not_seen_them():
    before = answering("fold_probs", [RIGHT, 1 - RIGHT])
    after = answering("fold_probs", [1 - RIGHT, RIGHT])
    check = measure_quantisation(before, after, Samples(FILES, np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])), PAGES)
    assert (check.of, check.accuracy_float32, check.agreement) == ("out_of_fold", 0.5, 0.0)
    assert check.difference["difference"] == 0


def test_without_known_classes_answers_are_compared_alone():
    check = measure_quantisation(answering("probs", RIGHT), answering("probs", ONE_WRONG), Samples(FILES), PAGES)
    assert (check.agreement, check.difference) == (0.75, None)


@pytest.mark.parametrize(("interval", "refused"), [([-0.2, -0.06], True), ([-0.2, -0.04], False), ([-0.01, 0.01], False)])
def test_a_loss_is_refused_where_it_is_surely_large(interval, refused):
    check = QuantisationCheck(100, 0.8, "test", 0.7, {"difference": -0.1, "difference_ci95": interval})
    if not refused:
        check_quantisation(check, "run")
        return
    with pytest.raises(ExportError, match=r"^run: .*Leave --quantise out"):
        check_quantisation(check, "run")
