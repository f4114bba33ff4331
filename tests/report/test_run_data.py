import json

import numpy as np
import pytest

from inkfold.errors import PredictionError
from inkfold.report.run_data import flat_recipe, read_run_record
from inkfold.storage.files import write_json
from toy_runs import made_up, weakness, write_run

PATHS, TARGETS, NAMES = [f"{i}.png" for i in range(20)], np.arange(20) % 2, ("a", "b")


def out_of_fold():
    return made_up(PATHS, TARGETS, NAMES, folds=np.arange(20) % 2)


def test_a_record_holds_what_the_files_say(tmp_path):
    record = read_run_record(write_run(tmp_path / "run", "data", out_of_fold(), made_up(["t.png"], [0], NAMES)))
    assert record.name == "run"
    words, judged = record.judged
    assert words == "out of fold"
    assert judged.image_paths.tolist() == PATHS
    assert record.metrics["out_of_fold"]["n"] == 20
    assert record.models == [record.recipe]
    assert record.audit is record.weakness is record.vote is None


def test_test_drawings_are_judged_where_nothing_was_held_out(tmp_path):
    record = read_run_record(write_run(tmp_path / "run", "data", None, made_up(PATHS, TARGETS, NAMES)))
    assert record.judged[0] == "test"


def test_a_file_that_was_changed_or_an_unfinished_run_is_refused(tmp_path):
    out = write_run(tmp_path / "run", "data", out_of_fold())
    (out / "metrics.json").write_text("{}")
    with pytest.raises(PredictionError, match=r"metrics\.json"):
        read_run_record(out)
    (out / "manifest.json").unlink()
    with pytest.raises(PredictionError, match="no finished run"):
        read_run_record(out)


def test_weights_are_not_looked_at(tmp_path):
    out = write_run(tmp_path / "run", "data", out_of_fold())
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["files"]["heads.safetensors"] = "gone"
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert read_run_record(out).name == "run"


@pytest.mark.parametrize("name", ["audit", "weakness"])
def test_what_was_found_in_other_data_is_left_out(tmp_path, name):
    out = write_run(tmp_path / "run", "data", out_of_fold())
    write_json(out / f"{name}.json", {**weakness(), "data_fingerprint": "f00d"})
    assert getattr(read_run_record(out), name) is not None
    write_json(out / f"{name}.json", {**weakness(), "data_fingerprint": "other"})
    assert getattr(read_run_record(out), name) is None


@pytest.mark.parametrize("name", ["audit", "weakness"])
@pytest.mark.parametrize("broken", [b"", b'{"rows": [', b"[1, 2]", b"\xff\xfe"])
def test_what_was_added_and_is_broken_is_written_again_without_training_again(tmp_path, name, broken):
    out = write_run(tmp_path / "a run", "data", out_of_fold())
    (out / f"{name}.json").write_bytes(broken)
    with pytest.raises(PredictionError, match=rf"not a run's {name}\.json") as caught:
        read_run_record(out)
    assert str(caught.value).endswith(f"Write it again: inkfold {name} '{out}'; or remove the file.")
    (out / f"{name}.json").unlink()
    assert getattr(read_run_record(out), name) is None


def test_a_recipe_is_flat_as_it_would_be_typed():
    assert flat_recipe({"fit": {"lr": 0.01}, "tta": ["identity"], "seed": None, "head": {}}) == {
        "fit.lr": "0.01",
        "tta": "[identity]",
        "seed": "null",
        "head": "{}",
    }
