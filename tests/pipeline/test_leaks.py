import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from inkfold.data.duplicates import Match
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.leaks import Leak, find_leaks, find_test_copies, measure_without, warn_of_leak
from inkfold.pipeline.prepare import Prepared
from inkfold.pipeline.train import train
from inkfold.runtime.cost import Cost
from toy import as_folders, toy_recipe

ALL, NONE = np.ones((3, 4), bool), np.zeros((3, 4), bool)


def strings(*names):
    return np.array(names, np.dtypes.StringDType())


def prepared(duplicates=None, test_targets=(0, 1, 1)):
    """Four training drawings, of which rows 1 and 3 have the same bytes; three test drawings, the first of them unreadable."""
    targets = None if test_targets is None else np.array(test_targets)
    dataset = SimpleNamespace(
        train=SimpleNamespace(image_paths=strings("a", "b", "c", "d"), targets=np.array([0, 0, 1, 1])),
        test=SimpleNamespace(image_paths=strings("x", "y", "z"), targets=targets),
    )
    read = SimpleNamespace(
        dataset=dataset,
        train=SimpleNamespace(digests=np.array([b"1", b"2", b"3", b"2"])),
        test=SimpleNamespace(digests=np.array([b"", b"2", b"9"])),
    )
    return Prepared(read, np.arange(4), np.array([False, True, True]), duplicates)


def match(first, second, *, identical=False):
    return Match(first, second, 1.0, False, 0.0, identical=identical)


def test_without_stores_equal_bytes_are_found():
    assert find_test_copies(prepared(), None, Cost()).matches == [match(1, 0, identical=True)]


def test_test_copies_are_counted_named_and_compared_by_label():
    matches = [match(1, 0, identical=True), match(2, 1), match(0, 1)]
    leaks = find_leaks(prepared(), matches, NONE, ALL)
    assert list(leaks) == ["test"]
    assert leaks["test"].as_json() == {
        "drawings": 2,
        "of": 3,
        "identical": 1,
        "other_label": 2,
    }  # z is like a, of another class
    assert leaks["test"].copies.tolist() == [False, True, True]
    assert leaks["test"].examples == ("y (of b)", "z (of a)")


def test_a_copy_of_a_drawing_that_no_fold_trains_on_is_no_leak():
    trained_on = ALL.copy()
    trained_on[:, 1] = False
    assert find_leaks(prepared(), [match(1, 0, identical=True)], NONE, trained_on) == {}


def test_without_test_labels_other_labels_are_unknown():
    leak = find_leaks(prepared(test_targets=None), [match(1, 0)], NONE, ALL)["test"]
    assert leak.other_label is None
    assert warn_of_leak(leak, None, "test").startswith("1 of 3 test drawings are copies of drawings trained on: y (of b).")


def test_the_part_that_a_holdout_was_given_is_compared_with_what_is_trained_on():
    held_out = np.array([[False, False, True, True]])
    leak = find_leaks(prepared(), [], held_out, ~held_out)["out_of_fold"]
    assert leak.as_json() == {"drawings": 1, "of": 2, "identical": 1, "other_label": 1}
    assert leak.examples == ("d (of b)",)
    grouped = find_leaks(prepared(np.array([0, 1, 0, 1])), [], held_out, ~held_out)["out_of_fold"]
    assert grouped.as_json() == {"drawings": 2, "of": 2, "identical": 1, "other_label": 2}
    assert find_leaks(prepared(), [], np.array([[False, True, False, True]]), np.array([[True, False, True, False]])) == {}


def predictions(right):
    targets = np.array([0, 1, 0, 1])
    probs = np.full((4, 2), 0.1)
    probs[np.arange(4), np.where(right, targets, 1 - targets)] = 0.9
    return Predictions(strings("w", "x", "y", "z"), probs, ("a", "b"), targets)


def test_the_figures_without_copies_are_those_of_the_others():
    leak = Leak(np.array([True, False, False, True]), 2, 0, ("w (of a)", "z (of b)"))
    of_part = predictions([True, True, False, True])
    figures = measure_without(of_part, leak)
    assert (figures["n"], figures["accuracy"]) == (2, 0.5)
    line = warn_of_leak(leak, of_part, "test")
    assert line == (
        "2 of 4 test drawings are copies of drawings trained on (2 with the same bytes): w (of a), z (of b). `inkfold check` "
        "lists them. The test accuracy is 0.750 with them; on the 2 others it is 0.500 (0.095-0.905)"  # Wilson's, of 1 in 2
    )


def test_where_all_drawings_are_copies_nothing_is_left_to_measure():
    leak = Leak(np.ones(4, bool), 0, 1, ("w (of a)",))
    assert measure_without(predictions([True] * 4), leak) is None
    line = warn_of_leak(leak, predictions([True] * 4), "held-out")
    assert "w (of a) and 3 more" in line
    assert "1 with another label" in line
    assert line.endswith("is of copies alone and says nothing about new drawings")


@pytest.fixture
def leaking(data, tmp_path):
    """Class folders with a val part, in which one drawing is a mirrored copy, and a test part with one of equal bytes."""
    root = tmp_path / "folders"
    as_folders(data, root / "train")
    for name in ("apple", "fish", "house"):
        for part in ("val", "test"):
            (root / part / name).mkdir(parents=True)
        shutil.move(root / "train" / name / "sketch_5.png", root / "val" / name)
        shutil.move(root / "train" / name / "sketch_4.png", root / "test" / name)
    pixels = np.asarray(Image.open(root / "train/apple/sketch_0.png"))
    Image.fromarray(np.ascontiguousarray(pixels[:, ::-1])).save(root / "val/apple/sketch_5.png")
    shutil.copy(root / "train/fish/sketch_0.png", root / "test/house/sketch_4.png")
    return root


def test_a_run_says_how_many_copies_are_evaluated_and_measures_without_them(leaking, tmp_path):
    run = train(toy_recipe(tmp_path), "folds.split=holdout", data=leaking, out=tmp_path / "run")
    leaks = run.metrics["leaks"]
    assert leaks["test"] == {"drawings": 1, "of": 3, "identical": 1, "other_label": 1}
    assert run.metrics["test"]["without_copies"]["n"] == 2
    [line] = [text for text in run.manifest["warnings"] if "3 test drawings are copies" in text]
    assert "house/sketch_4.png (of fish/sketch_0.png)" in line
    if "out_of_fold" in leaks:  # otherwise the fold leaves the training drawing out
        assert leaks["out_of_fold"] == {"drawings": 1, "of": 3, "identical": 0, "other_label": 0}
        assert run.metrics["out_of_fold"]["without_copies"]["n"] == 2
