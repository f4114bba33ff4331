import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inkfold.cli.main import main
from inkfold.data.from_memory import files_of
from inkfold.data.submission_form import read_form
from inkfold.ensemble.build import vote
from inkfold.ensemble.model import load_run
from inkfold.ensemble.predict_submission import submission_settings, write_predicted_submission
from inkfold.errors import DataError, PredictionError, RecipeError
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.train import train
from inkfold.storage.files import write_json
from toy import read_rows
from toy_cli import words
from toy_tables import kinds


@pytest.fixture(scope="module")
def usual(frozen_run):
    return load_run(frozen_run / "run")


@pytest.fixture(scope="module")
def listed(frozen_run, tmp_path_factory):
    """A run on the same drawings whose submission has lists of two class names."""
    root = tmp_path_factory.mktemp("listed")
    shutil.copytree(frozen_run / "home", root / "home")
    changes = ("submission.columns=key,words", "submission.labels=top2", "submission.id=stem")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INKFOLD_HOME", str(root / "home"))
        return train(frozen_run / "toy.yaml", *changes, data=frozen_run / "data", out=root / "run")


def drawings_of(model):
    root = Path(model.recipe.data.root) / "test"
    names, files = files_of(root)
    test = Predictions.load(model.path / "predictions/test.parquet")
    row_of = {path: row for row, path in enumerate(test.image_paths.tolist())}
    return names, files, test.probs[[row_of[name] for name in names]]


def written(path, model, *overrides, **changes):
    names, files, probs = drawings_of(model)
    return write_predicted_submission(path, model, changes.get("names", names), files, changes.get("probs", probs), overrides)


def test_the_runs_own_form_is_written_again(tmp_path, usual, listed):
    assert written(tmp_path / "usual.csv", usual) == ("ID, image_path, target", [])
    assert (tmp_path / "usual.csv").read_bytes() == (usual.path / "submission.csv").read_bytes()
    words, warnings = written(tmp_path / "listed.csv", listed)
    assert "words = 2 most probable classes by name" in words
    assert not warnings
    assert (tmp_path / "listed.csv").read_bytes() == (listed.path / "submission.csv").read_bytes()
    header, *rows = read_rows(tmp_path / "listed.csv")
    assert header == ["key", "words"]
    probs = Predictions.load(listed.path / "predictions/test.parquet").probs
    best = [" ".join(listed.classes_[i] for i in np.argsort(-row, kind="stable")[:2]) for row in probs]
    assert rows == [[f"{i}", text] for i, text in enumerate(best)]


def test_other_drawings_are_named_in_the_same_way(tmp_path, usual, listed):
    names = [f"new {i}.png" for i in range(6)]
    written(tmp_path / "s.csv", listed, names=names)
    assert [row[0] for row in read_rows(tmp_path / "s.csv")] == ["key", *(f"new {i}" for i in range(6))]
    written(tmp_path / "s.csv", usual, names=names)
    assert [row[:2] for row in read_rows(tmp_path / "s.csv")[1:]] == [[str(i), name] for i, name in enumerate(names)]


def test_a_submission_of_the_test_drawings_needs_them_all(tmp_path, usual):
    names = drawings_of(usual)[0]
    with pytest.raises(PredictionError, match=r"has rows for 1 drawing.*'0\.png'"):
        written(tmp_path / "s.csv", usual, names=["other.png", *names[1:]])


def test_settings_and_samples_make_other_forms(tmp_path, usual, listed):
    for model in (usual, listed):
        written(tmp_path / "s.csv", model, "submission.columns=id,answer", "submission.labels=number", "submission.id=row1")
        assert [row[0] for row in read_rows(tmp_path / "s.csv")] == ["id", *map(str, range(1, 7))]
        sample = tmp_path / "any name.csv"
        sample.write_text("id;fish;apple;house\n" + "".join(f"{i}.png;0;0;0\n" for i in (3, 5, 0, 1, 2, 4)))
        words, warnings = written(tmp_path / "s.csv", model, f"submission.sample={sample}")
        assert not warnings
        assert words == "as any name.csv: id = the file's name, 3 columns = the probability of each class"
        probs = drawings_of(model)[2][3]
        lines = (tmp_path / "s.csv").read_text().splitlines()
        assert lines[0] == "id;fish;apple;house"
        assert lines[1] == ";".join(["3.png", *(str(probs[i]) for i in (1, 0, 2))])


def test_what_can_not_be_written_is_refused(tmp_path, usual):
    with pytest.raises(RecipeError, match="only keys of the section submission"):
        submission_settings(usual, ["seed=3"])
    with pytest.raises(RecipeError, match="no such file"):
        submission_settings(usual, ["submission.sample=gone.csv"])
    with pytest.raises(RecipeError, match="labels"):
        submission_settings(usual, ["submission.labels=best"])
    with pytest.raises(DataError) as caught:
        written(tmp_path / "s.csv", usual, "submission.id=row")
    assert kinds(caught.value.problems) == ["missing_columns"]
    probs = drawings_of(usual)[2].copy()
    probs[4] = np.nan
    with pytest.raises(PredictionError, match=r"1 drawing\(s\) can't be read: '4\.png'"):
        written(tmp_path / "s.csv", usual, probs=probs)
    assert not (tmp_path / "s.csv").exists()


def test_a_vote_has_its_first_runs_form_or_that_of_named_data(tmp_path, usual, listed):
    of_runs = vote([listed.path, usual.path], {"method": "soft"}, out=tmp_path / "runs")
    assert (of_runs.path / "submission.csv").read_bytes() == (listed.path / "submission.csv").read_bytes(), (
        "the same model twice"
    )
    assert "words" in of_runs.files.submission_summary
    data, settings = listed.recipe.data.root, ["submission.columns=id", "submission.labels=probabilities"]
    of_data = vote([listed.path, usual.path], {"method": "soft"}, out=tmp_path / "data", data=data, settings=settings)
    assert read_rows(of_data.path / "submission.csv")[0] == ["id", *listed.classes_]
    ensemble = load_run(of_data.path)
    written_again = tmp_path / "s.csv"
    names, files, _ = drawings_of(listed)
    probs = Predictions.load(ensemble.path / "predictions/test.parquet").probs
    write_predicted_submission(written_again, ensemble, names, files, probs)
    assert written_again.read_bytes() == (of_data.path / "submission.csv").read_bytes()


def test_predict_writes_a_submission(tmp_path, listed, capsys):
    images = Path(listed.recipe.data.root) / "test"
    assert main(words("predict", listed.path, images, "--submission", "--out", tmp_path / "s.csv")) == 0
    assert "submission's form, as the settings say: key = the file's name without its ending" in capsys.readouterr().out
    assert (tmp_path / "s.csv").read_bytes() == (listed.path / "submission.csv").read_bytes()
    assert main(words("predict", listed.path, images, "--set", "submission.id=row", "--out", tmp_path / "t.csv")) == 2
    assert "Add --submission" in capsys.readouterr().err


def test_drawings_may_be_named_from_a_folder_above(tmp_path, listed):
    names, files, probs = drawings_of(listed)
    kept = read_form(listed.path / "submission_form.json")
    from_root = replace(kept, image_paths=tuple(f"test/{path}" for path in kept.image_paths), from_sample=True)
    model = replace(listed, path=tmp_path / "run")
    write_json(model.path / "submission_form.json", from_root.as_json())
    write_predicted_submission(tmp_path / "s.csv", model, names, files, probs)
    assert (tmp_path / "s.csv").read_bytes() == (listed.path / "submission.csv").read_bytes()
    with pytest.raises(PredictionError, match="aren't among those to predict"):
        write_predicted_submission(tmp_path / "s.csv", model, ["x.png", *names[1:]], files, probs)
