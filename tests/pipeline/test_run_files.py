import numpy as np
import pytest

from inkfold.errors import PredictionError
from inkfold.pipeline.run_files import flat_recipe, open_run_files
from inkfold.storage.files import write_json
from inkfold.storage.sealed import read_sealed, write_sealed
from toy_runs import made_up, weakness, write_run

PATHS, TARGETS, NAMES = [f"{i}.png" for i in range(20)], np.arange(20) % 2, ("a", "b")


def out_of_fold():
    return made_up(PATHS, TARGETS, NAMES, folds=np.arange(20) % 2)


def test_the_files_of_a_run_are_read(tmp_path):
    run = open_run_files(write_run(tmp_path / "run", "data", out_of_fold(), made_up(["t.png"], [0], NAMES)))
    assert run.name == "run"
    assert (run.evaluated_part, run.held_out_name) == ("out_of_fold", "out of fold")
    assert run.evaluated.image_paths.tolist() == PATHS
    assert run.metrics["out_of_fold"]["n"] == 20
    assert run.model_recipes == [run.recipe]
    assert run.audit is run.weakness is run.vote is None


def test_a_run_is_evaluated_on_test_drawings_where_nothing_was_held_out(tmp_path):
    run = open_run_files(write_run(tmp_path / "run", "data", None, made_up(PATHS, TARGETS, NAMES)))
    assert run.evaluated_part == "test"
    assert run.evaluated is run.test


def test_a_file_that_was_changed_or_an_unfinished_run_is_refused(tmp_path):
    out = write_run(tmp_path / "run", "data", out_of_fold())
    (out / "metrics.json").write_text("{}")
    with pytest.raises(PredictionError, match=r"metrics\.json"):
        open_run_files(out)
    (out / "manifest.json").unlink()
    with pytest.raises(PredictionError, match="no finished run"):
        open_run_files(out)


def test_weights_are_not_looked_at(tmp_path):
    out = write_run(tmp_path / "run", "data", out_of_fold())
    manifest = read_sealed(out / "manifest.json", must_be_sealed=False)
    manifest["files"]["heads.safetensors"] = "gone"
    write_sealed(out / "manifest.json", manifest)
    assert open_run_files(out).name == "run"


@pytest.mark.parametrize("name", ["audit", "weakness"])
def test_an_audit_of_other_data_is_ignored(tmp_path, name):
    out = write_run(tmp_path / "run", "data", out_of_fold())
    write_json(out / f"{name}.json", {**weakness(), "data_fingerprint": "f00d"})
    assert getattr(open_run_files(out), name) is not None
    write_json(out / f"{name}.json", {**weakness(), "data_fingerprint": "other"})
    assert getattr(open_run_files(out), name) is None


@pytest.mark.parametrize("name", ["audit", "weakness"])
@pytest.mark.parametrize("broken", [b"", b'{"rows": [', b"[1, 2]", b"\xff\xfe"])
def test_a_broken_file_that_was_added_is_written_again_without_training_again(tmp_path, name, broken):
    out = write_run(tmp_path / "a run", "data", out_of_fold())
    (out / f"{name}.json").write_bytes(broken)
    with pytest.raises(PredictionError, match=rf"not a run's {name}\.json") as caught:
        getattr(open_run_files(out), name)
    assert str(caught.value).endswith(f"Write it again: inkfold {name} '{out}'; or remove the file.")
    (out / f"{name}.json").unlink()
    assert getattr(open_run_files(out), name) is None


def test_a_recipe_is_flat_as_it_would_be_typed():
    assert flat_recipe({"train_head": {"lr": 0.01}, "tta": ["identity"], "seed": None, "head": {}}) == {
        "train_head.lr": "0.01",
        "tta": "[identity]",
        "seed": "null",
        "head": "{}",
    }
