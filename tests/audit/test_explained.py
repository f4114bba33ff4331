import shutil

import numpy as np
import pytest

from inkfold.audit.explained import explain_mistakes
from inkfold.errors import PredictionError
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.run import Run
from inkfold.storage.sealed import read_sealed


@pytest.fixture(scope="module")
def explained(frozen_run, tmp_path_factory):
    run = Run.load(shutil.copytree(frozen_run / "run", tmp_path_factory.mktemp("explained") / "run"))
    return run, explain_mistakes(run)


def test_each_mistake_of_the_report_is_explained_by_the_fold_that_made_it(explained):
    run, content = explained
    predictions = Predictions.load(run.path / "predictions/out_of_fold.parquet")
    wrong = np.flatnonzero(predictions.preds != predictions.targets)
    assert {row["path"] for row in content["rows"]} == set(predictions.image_paths[wrong].tolist())
    names = predictions.class_names
    for row in content["rows"]:
        place = predictions.image_paths.tolist().index(row["path"])
        assert (row["pred"], row["target"]) == (names[predictions.preds[place]], names[predictions.targets[place]])
        expected = float(predictions.probs[place, predictions.preds[place]])
        assert row["probability"] == pytest.approx(expected, abs=1e-3)
        assert 1 <= row["strokes"] <= 16
    assert read_sealed(run.path / "explained.json", must_be_sealed=True)["rows"] == content["rows"]
    assert content["cost"]["forwards"] == sum(row["strokes"] + 1 for row in content["rows"])


def test_drawings_that_are_gone_are_left_out(explained, tmp_path, frozen_run):
    run, content = explained
    data = shutil.copytree(frozen_run / "data", tmp_path / "data")
    gone = content["rows"][0]["path"]
    (data / "train" / gone).unlink()
    run = Run.load(shutil.copytree(run.path, tmp_path / "run"))
    with pytest.raises(Exception, match=gone):  # as every command that reads the data says it
        explain_mistakes(run, data)


def test_an_ensemble_is_refused(explained):
    class Other:
        path = "somewhere"

    with pytest.raises(PredictionError, match="is an ensemble"):
        explain_mistakes(Other())
