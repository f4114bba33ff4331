import json
import shutil

import numpy as np
import pytest

from inkfold.augment.views import IDENTITY, View
from inkfold.config.load import validate_recipe
from inkfold.config.operations import parse_operations
from inkfold.data.from_memory import files_of
from inkfold.errors import DataError, PredictionError
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.manifest import MANIFEST
from inkfold.pipeline.run import HEADS, Run, class_digest, prediction_views, write_predictions
from inkfold.pipeline.train import train
from inkfold.storage.hashing import digest_file
from inkfold.storage.sealed import read_sealed, write_sealed
from toy import CLASSES, read_rows, toy_recipe


@pytest.fixture(scope="module")
def trained(frozen_run):
    """One run, never changed; its data beside it."""
    return Run.load(frozen_run / "run")


@pytest.fixture
def run(trained, tmp_path):
    """A copy that a test may spoil."""
    return Run.load(shutil.copytree(trained.path, tmp_path / "run"))


def test_a_loaded_run_is_the_one_that_was_trained(frozen_run, tmp_path):
    trained = train(toy_recipe(tmp_path), data=frozen_run / "data", out=tmp_path / "run")
    loaded = Run.load(trained.path)
    assert (loaded.manifest, loaded.metrics, loaded.recipe) == (trained.manifest, trained.metrics, trained.recipe)
    assert loaded.classes_ == CLASSES
    assert loaded.class_targets.tolist() == [0, 1, 2]
    assert all(np.array_equal(loaded.heads[name], trained.heads[name]) for name in trained.heads)


def test_predicting_the_test_drawings_gives_what_training_gave(trained):
    files = [trained.path.parent / "data/test" / f"{i}.png" for i in range(6)]
    expected = Predictions.load(trained.path / "predictions/test.parquet")
    np.testing.assert_allclose(trained.predict_proba(files), expected.probs, atol=1e-6)


def views_of(*tta, seed=3):
    return prediction_views(validate_recipe({"backbone": {"name": "x"}, "tta": list(tta), "seed": seed}))


def test_without_test_time_views_drawings_are_predicted_as_they_are():
    assert views_of() == views_of("identity") == (IDENTITY,)


def test_each_test_time_view_that_draws_has_its_own_draws_and_the_others_count_once():
    flip, turn = parse_operations("hflip"), parse_operations("rotate(5)")
    assert views_of("hflip", "identity", "hflip") == (View(flip), IDENTITY)
    assert views_of("rotate(5)", "hflip", "rotate(5)") == (View(turn, 3, 0), View(flip), View(turn, 3, 2))
    assert views_of("rotate(5)", seed=4) == (View(turn, 4, 0),)


def test_files_of_a_directory_are_named_below_it(tmp_path):
    for name in ("b.png", "a/2.jpg", "a/10.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    names, files = files_of(tmp_path)
    assert sorted(names) == ["a/10.png", "a/2.jpg", "b.png"]
    assert files == [str(tmp_path / name) for name in names]
    assert files_of(tmp_path / "b.png") == (["b.png"], [str(tmp_path / "b.png")])


def test_a_place_without_drawings_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for place in ("empty", "gone"):
        with pytest.raises(DataError, match=place):
            files_of(tmp_path / place)


def test_predictions_are_written_as_a_table(trained, tmp_path):
    probs = np.array([[0.25, 0.5, 0.25], [1, 0, 0]], np.float32)
    write_predictions(tmp_path / "p.csv", ["a,b.png", "그림.png"], probs, trained, [1])
    assert (tmp_path / "p.csv").read_bytes().decode() == (
        'image_path,class_name,target,probability,blank\n"a,b.png",fish,1,0.500000,false\n그림.png,apple,0,1.000000,true\n'
    )
    assert len(read_rows(tmp_path / "p.csv")) == 3


def test_names_that_a_spreadsheet_would_compute_are_written_as_text(trained, tmp_path):
    names, probs = ["=1+1.png", "-a\r.png", "'=.png"], np.array([[1, 0, 0]] * 3, np.float32)
    write_predictions(tmp_path / "p.csv", names, probs, trained)
    assert [row[0] for row in read_rows(tmp_path / "p.csv")[1:]] == ["=1+1.png", "'-a\r.png", "''=.png"]
    write_predictions(tmp_path / "raw.csv", names, probs, trained, raw=True)
    assert [row[0] for row in read_rows(tmp_path / "raw.csv")[1:]] == names
    write_predictions(tmp_path / "p.json", names, probs, trained)
    assert [row["image_path"] for row in json.loads((tmp_path / "p.json").read_text())] == names


def test_a_name_that_ends_in_json_gets_objects_with_null_for_what_is_not_known(trained, tmp_path):
    probs = np.array([[0.25, 0.5, 0.25], [np.nan] * 3, [np.nan] * 3], np.float32)
    write_predictions(tmp_path / "p.json", ["a.png", "blank.png", "broken.png"], probs, trained, [1])
    nothing = {"class_name": None, "target": None, "probability": None}
    assert json.loads((tmp_path / "p.json").read_text()) == [
        {"image_path": "a.png", "class_name": "fish", "target": 1, "probability": 0.5, "blank": False},
        {"image_path": "blank.png", **nothing, "blank": True},
        {"image_path": "broken.png", **nothing, "blank": None},
    ]


def test_every_changed_or_missing_file_is_reported(run):
    (run.path / "metrics.json").write_text("{}")
    (run.path / "submission.csv").unlink()
    heads = bytearray((run.path / HEADS).read_bytes())
    heads[-1] ^= 1
    (run.path / HEADS).write_bytes(heads)
    with pytest.raises(PredictionError) as caught:
        Run.load(run.path)
    assert sorted(problem.where.rsplit("/")[-1] for problem in caught.value.problems) == [
        "heads.safetensors",
        "metrics.json",
        "submission.csv",
    ]


def test_training_again_into_a_changed_run_is_refused(trained, run, monkeypatch):
    (run.path / "metrics.json").write_text("{}")
    with pytest.raises(PredictionError, match=r"metrics\.json"):
        train(run.recipe, out=run.path)


def rewrite(run, **changes):
    manifest = {**read_sealed(run.path / MANIFEST, must_be_sealed=True), **changes}
    manifest["files"] = {name: digest_file(run.path / name) for name in manifest["files"]}
    write_sealed(run.path / MANIFEST, manifest)


def test_heads_of_another_class_order_are_refused(run):
    rewrite(run, class_names=["fish", "apple", "house"])
    with pytest.raises(PredictionError, match="another class order"):
        Run.load(run.path)


def test_class_names_that_join_to_the_same_text_have_different_digests():
    assert len({class_digest(names) for names in (["ab", "c"], ["a", "bc"], ["abc"], ["c", "ab"])}) == 4


def test_heads_that_are_none_are_refused(run):
    (run.path / HEADS).write_bytes(b"no heads")
    rewrite(run)
    with pytest.raises(PredictionError, match="not fitted heads"):
        Run.load(run.path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": 3}', '"text"'])
def test_a_manifest_that_is_none_is_refused(run, content):
    (run.path / MANIFEST).write_text(content)
    with pytest.raises(PredictionError, match="not a manifest"):
        Run.load(run.path)


def test_a_run_of_another_format_is_refused(run):
    rewrite(run, format=99)
    with pytest.raises(PredictionError, match="got format 99, expected 1"):
        Run.load(run.path)


def test_an_unfinished_run_is_refused(run, tmp_path):
    (run.path / MANIFEST).unlink()
    for path, message in ((run.path, "no finished run"), (tmp_path / "nowhere", "no such directory")):
        with pytest.raises(PredictionError, match=message):
            Run.load(path)


@pytest.mark.parametrize("name", ["../elsewhere.json", "/etc/hostname", "predictions/../../elsewhere.json"])
def test_a_manifest_that_names_files_outside_of_its_run_is_refused(run, tmp_path, name):
    (run.path.parent / "elsewhere.json").write_text("{}")
    manifest = read_sealed(run.path / MANIFEST, must_be_sealed=True)
    manifest["files"][name] = digest_file(run.path.parent / "elsewhere.json")
    write_sealed(run.path / MANIFEST, manifest)
    with pytest.raises(PredictionError, match="not as it was written"):
        Run.load(run.path)
