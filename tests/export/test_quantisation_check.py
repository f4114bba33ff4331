import numpy as np
import pytest

from inkfold.errors import ExportError
from inkfold.export.graph import Graph
from inkfold.export.quantisation_check import Toll, check_toll, measure_toll
from inkfold.export.samples import Specimens


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
    toll = measure_toll(
        answering("probs", RIGHT), answering("probs", ONE_WRONG), Specimens(FILES, np.array([0, 1, 0, 1])), PAGES
    )
    assert (toll.drawings, toll.agreement, toll.of, toll.accuracy_float32) == (4, 0.75, "test", 1.0)
    assert toll.difference["difference"] == -0.25


def test_training_drawings_are_answered_by_the_fold_that_has_not_seen_them():
    before = answering("fold_probs", [RIGHT, 1 - RIGHT])
    after = answering("fold_probs", [1 - RIGHT, RIGHT])
    toll = measure_toll(before, after, Specimens(FILES, np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])), PAGES)
    assert (toll.of, toll.accuracy_float32, toll.agreement) == ("out_of_fold", 0.5, 0.0)
    assert toll.difference["difference"] == 0


def test_without_known_classes_answers_are_compared_alone():
    toll = measure_toll(answering("probs", RIGHT), answering("probs", ONE_WRONG), Specimens(FILES), PAGES)
    assert (toll.agreement, toll.difference) == (0.75, None)


@pytest.mark.parametrize(("interval", "refused"), [([-0.2, -0.06], True), ([-0.2, -0.04], False), ([-0.01, 0.01], False)])
def test_a_loss_is_refused_where_it_is_surely_large(interval, refused):
    toll = Toll(100, 0.8, "test", 0.7, {"difference": -0.1, "difference_ci95": interval})
    if not refused:
        check_toll(toll, "run")
        return
    with pytest.raises(ExportError, match=r"^run: .*Leave --quantise out"):
        check_toll(toll, "run")
