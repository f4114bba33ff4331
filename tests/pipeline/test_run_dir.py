import os
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml

from forks import Process
from inkfold.config.load import dump_raw, dump_recipe, load_recipe
from inkfold.errors import PredictionError, WeightsError
from inkfold.pipeline.run import Run
from inkfold.pipeline.run_dir import check_recipe
from inkfold.pipeline.run_files import open_run_files
from inkfold.pipeline.train import train
from inkfold.storage.files import TEMP_MARK
from inkfold.storage.hashing import digest_file
from inkfold.storage.sealed import read_sealed, write_sealed
from toy import (
    KILLED_AT_MOMENTS,
    RECIPE,
    RUN_FILES,
    break_image,
    files_below,
    inkfold,
    job_of,
    read_rows,
    run_code,
    toy_data,
    toy_recipe,
    write_rows,
)
from toy_results import RESULTS, contents

pytestmark = pytest.mark.usefixtures("warm_home")

FEW_VIEWS = f"""{RECIPE}
curriculum:
  - {{until_epoch: 1}}
  - {{augment: [hflip@0.5], views: 1}}
tta: [hflip]
"""

# Trains in children of a process that has imported everything; child n is killed at its nth write to the disk. A file is
# synced before it gets its name and its directory afterwards: each third of these meets both in turn, of neighbouring files.
KILLER = """
import os, signal, sys
from inkfold.storage import files as atomic
from inkfold.pipeline.train import train

recipe, data, out = sys.argv[1:]
real, writes = os.fsync, [0]

def fsync(descriptor):
    writes[0] -= 1
    if not writes[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    real(descriptor)

for n in range(1, 200, 3):
    child = os.fork()
    if not child:
        atomic.os.fsync, writes[0] = fsync, n
        train(recipe, data=data, out=out)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        print(n)
        break
    assert os.WIFSIGNALED(status), status
"""


def test_a_run_killed_at_one_write_after_another_ends_with_the_same_bytes(tmp_path, data):
    recipe = toy_recipe(tmp_path, FEW_VIEWS)
    whole = contents(train(recipe, data=data, out=tmp_path / "whole").path)
    writes = run_code(KILLER, recipe, data, tmp_path / "killed", INKFOLD_HOME=str(tmp_path / "home"))
    assert int(writes) > 2 * 8, "the eight files of a run are each synced with their directory"
    assert contents(tmp_path / "killed") == whole
    assert files_below(tmp_path / "killed") == RUN_FILES


def test_a_run_killed_at_any_moment_ends_with_the_same_bytes(tmp_path, data, recipe):
    whole = contents(train(recipe, data=data, out=tmp_path / "whole").path)
    variables = {"INKFOLD_HOME": str(tmp_path / "home")}
    ends = run_code(KILLED_AT_MOMENTS, recipe, data, tmp_path / "killed", 0.05, 0.1, 0.2, **variables).split()
    assert ends[0] != "0", "the first one at least didn't end by itself"
    arguments = ("train", recipe, f"data={data}", f"out={tmp_path / 'killed'}")
    done = inkfold(*arguments, home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "killed") == whole
    assert files_below(tmp_path / "killed") == RUN_FILES


# Trains, and waits where heads would be fitted, as if there were a great many.
WAITING = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs, such as tests, ignore interrupts
from inkfold.cli.main import main
from inkfold.pipeline import train

train._fit = lambda *arguments: time.sleep(600)
sys.exit(main())
"""


def test_interrupting_exits_with_130_keeps_others_out_meanwhile_and_can_be_continued(tmp_path, data, recipe):
    home = str(tmp_path / "home")
    with Process(job_of(WAITING, "train", recipe, f"data={data}", f"out={tmp_path / 'run'}", INKFOLD_HOME=home)) as child:
        lines = iter(child.stderr.readline, "")
        assert any(line == "features: 6/6\n" for line in lines)
        with pytest.raises(PredictionError, match="another process is writing this run"):
            train(recipe, data=data, out=tmp_path / "run")
        code = child.kill(signal.SIGINT)
        rest = child.stderr.read()
    assert code == 130, rest
    assert "the same command continues" in rest
    assert "Traceback" not in rest
    assert files_below(tmp_path / "run") == {"recipe.yaml"}
    run = train(recipe, data=data, out=tmp_path / "run")
    assert files_below(run.path) == RUN_FILES


def test_another_recipe_in_the_same_directory_is_refused_key_by_key(tmp_path, data, recipe):
    train(recipe, data=data, out=tmp_path / "run")
    with pytest.raises(PredictionError) as caught:
        train(recipe, "train_head.lr=0.5", "head={kind: mlp, hidden: [3]}", data=data, out=tmp_path / "run")
    messages = {problem.where.split(": ")[1]: problem.message for problem in caught.value.problems}
    assert set(messages) == {"train_head.lr", "head.kind", "head.hidden", "head.activation", "head.norm", "head.dropout"}
    assert messages["train_head.lr"].startswith("is 0.01 there, 0.5 now.")


def test_another_recipe_in_an_unfinished_run_is_refused_too(tmp_path, data, recipe):
    train(recipe, data=data, out=tmp_path / "run")
    (tmp_path / "run/manifest.json").unlink()
    with pytest.raises(PredictionError, match="seed"):
        train(recipe, "seed=1", data=data, out=tmp_path / "run")


def change_an_image(data):
    (data / "train/apple/sketch_0.png").write_bytes((data / "train/fish/sketch_0.png").read_bytes())


def change_a_label(data):
    rows = read_rows(data / "train.csv")
    rows[1] = ["fish", rows[1][1], "1"]
    write_rows(data / "train.csv", rows)


def drop_a_row(data):
    write_rows(data / "train.csv", read_rows(data / "train.csv")[:-1])


def reorder_the_test(data):
    header, *rows = read_rows(data / "test.csv")
    write_rows(data / "test.csv", [header, *rows[::-1]])


def break_a_test_image(data):
    break_image(data / "test/0.png")


@pytest.mark.parametrize("change", [change_an_image, change_a_label, drop_a_row, reorder_the_test, break_a_test_image])
def test_changed_data_in_a_finished_run_are_refused(tmp_path, data, recipe, change):
    first = train(recipe, data=data, out=tmp_path / "run")
    before = contents(first.path, RUN_FILES)
    change(data)
    with pytest.raises(PredictionError, match="the data have changed"):
        train(recipe, data=data, out=tmp_path / "run")
    assert contents(first.path, RUN_FILES) == before


def test_changed_data_in_an_unfinished_run_make_the_run_of_the_new_data(tmp_path, data, recipe):
    train(recipe, data=data, out=tmp_path / "run")
    (tmp_path / "run/manifest.json").unlink()
    change_a_label(data)
    new = contents(train(recipe, data=data, out=tmp_path / "new").path)
    assert contents(train(recipe, data=data, out=tmp_path / "run").path) == new


def test_a_directory_with_other_files_is_refused_and_left_alone(tmp_path, data, recipe):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(PredictionError, match=r"holds other files \(thesis\.tex\)"):
        train(recipe, data=data, out=out)
    assert files_below(out) == {"thesis.tex"}


def test_a_recipe_that_no_run_wrote_is_refused(tmp_path, data, recipe):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/recipe.yaml").write_text("eggs: [2\n")
    with pytest.raises(PredictionError, match="not a run's recipe"):
        train(recipe, data=data, out=tmp_path / "mine")
    assert files_below(tmp_path / "mine") == {"recipe.yaml"}


def test_an_empty_directory_will_do(tmp_path, data, recipe):
    (tmp_path / "run").mkdir()
    assert files_below(train(recipe, data=data, out=tmp_path / "run").path) == RUN_FILES


def test_what_a_killed_start_leaves_is_no_foreign_file(tmp_path, data, recipe):
    (tmp_path / "run/predictions").mkdir(parents=True)
    (tmp_path / "run/predictions").rmdir()
    for name in (".lock", f"recipe.yaml{TEMP_MARK}1-2"):
        (tmp_path / "run" / name).write_text("")
    assert files_below(train(recipe, data=data, out=tmp_path / "run").path) == RUN_FILES


def test_what_killed_writers_leave_is_swept(tmp_path, data, recipe):
    train(recipe, data=data, out=tmp_path / "run")
    (tmp_path / "run/manifest.json").unlink()
    for name in ("metrics.json", "predictions/test.parquet"):
        (tmp_path / f"run/{name}{TEMP_MARK}1-2").write_text("half")
    train(recipe, data=data, out=tmp_path / "run")
    assert files_below(tmp_path / "run") == RUN_FILES


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_out_that_can_not_be_made_is_reported_in_a_line(tmp_path, data, recipe, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(PredictionError, match=r"Choose an(other)? out="):
        train(recipe, data=data, out=tmp_path / place)


def test_results_are_all_in_the_manifest(tmp_path, data, recipe):
    run = train(recipe, data=data, out=tmp_path / "run")
    assert set(RESULTS) < set(run.manifest["files"])
    assert set(run.manifest["versions"]) >= {"inkfold", "torch", "timm", "numpy", "python"}
    assert not any(Path(name).is_absolute() for name in run.manifest["files"])
    assert os.access(run.path, os.W_OK)


def test_a_recipe_of_which_nothing_could_be_made_leaves_the_place_to_another(tmp_path):
    data, out = toy_data(tmp_path / "data"), tmp_path / "run"
    with pytest.raises(WeightsError):
        train(toy_recipe(tmp_path), "backbone.name=tf_efficientnet_lite0", "backbone.weights=null", data=data, out=out)
    assert files_below(out) == set()
    assert train(toy_recipe(tmp_path), data=data, out=out).path == out


def with_old_keys(out):
    """Rewrite a run's recipe as it was written when its keys had other names."""
    recipe = yaml.safe_load((out / "recipe.yaml").read_text())
    recipe["fit"] = recipe.pop("train_head")
    recipe["image"]["fit"] = recipe["image"].pop("resize")
    moved = {"train": "part", "train_blocks": "blocks", **{key: key for key in ("lora_rank", "lora_alpha", "drop_path")}}
    recipe["backbone"] |= {old: recipe["finetune"].pop(new) for old, new in moved.items()}
    recipe["backbone"]["train"] = "frozen"
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    manifest = read_sealed(out / "manifest.json", must_be_sealed=True)
    manifest["files"]["recipe.yaml"] = digest_file(out / "recipe.yaml")
    write_sealed(out / "manifest.json", manifest)


def test_a_run_whose_recipe_has_old_keys_is_loaded_predicts_is_reported_and_recognised(tmp_path):
    data, recipe, out = toy_data(tmp_path), toy_recipe(tmp_path, RECIPE), tmp_path / "run"
    run = train(recipe, data=data, out=out)
    expected = run.predict_proba(data / "test")
    with_old_keys(out)
    before = (out / "recipe.yaml").read_bytes()
    old = Run.load(out)
    assert old.recipe == run.recipe
    np.testing.assert_array_equal(old.predict_proba(data / "test"), expected)
    assert open_run_files(out).recipe["train_head"] == run.recipe.model_dump(mode="json")["train_head"]
    assert train(recipe, data=data, out=out).recipe == run.recipe
    with pytest.raises(PredictionError, match=r"recipe\.yaml: train_head\.lr: is .* there, 0\.5 now"):
        train(recipe, "train_head.lr=0.5", data=data, out=out)
    (out / "manifest.json").unlink()  # a run that was killed is continued
    assert train(recipe, data=data, out=out).heads.keys() == run.heads.keys()
    assert (out / "recipe.yaml").read_bytes() == before


def test_a_recipe_from_before_a_key_was_there_is_the_same_as_with_its_default(tmp_path):
    whole = load_recipe("cpu-small")
    raw = yaml.safe_load(dump_recipe(whole))
    del raw["metric"]
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_raw(raw))
    check_recipe(path, whole)
    with pytest.raises(PredictionError, match=r"recipe\.yaml: metric: is 'accuracy' there, 'macro_f1' now"):
        check_recipe(path, whole.model_copy(update={"metric": "macro_f1"}))
