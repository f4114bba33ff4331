import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from inkfold.audit.label_views import LabelViews
from inkfold.audit.labels import audit_labels
from inkfold.audit.run_audit import audit_run
from inkfold.audit.views import View
from inkfold.cli import main as cli
from inkfold.config.load import validate_vote
from inkfold.ensemble.build import vote
from inkfold.errors import PredictionError
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.run import Run
from inkfold.pipeline.train import train
from inkfold.storage.sealed import read_sealed
from toy import RUN_FILES, files_below, toy_data, toy_recipe


def mirrored(source, target):
    Image.fromarray(np.ascontiguousarray(np.asarray(Image.open(source))[:, ::-1])).save(target)


def data_with_duplicates(folder):
    """Toy data with a copy in the class, one in another class and one among the test drawings, of which another is blank."""
    root = toy_data(folder)
    mirrored(root / "train/apple/sketch_0.png", root / "train/apple/sketch_1.png")
    mirrored(root / "train/fish/sketch_0.png", root / "train/house/sketch_1.png")
    mirrored(root / "train/house/sketch_0.png", root / "test/0.png")
    Image.new("L", (48, 48), 255).save(root / "test/5.png")
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data, a finished run and the cache that it left; trained once and only read."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INKFOLD_HOME", str(root / "home"))
        train(toy_recipe(root), data=data_with_duplicates(root / "data"), out=root / "run")
    return root


def test_a_runs_audit_is_written_into_it_and_the_run_stays_whole(run, trained, tmp_path):
    audit = audit_run(run.path)
    assert read_sealed(run.path / "audit.json", must_be_sealed=True) == audit
    assert files_below(run.path) == RUN_FILES | {"audit.json"}
    Run.load(run.path)
    assert train(toy_recipe(tmp_path), data=trained / "data", out=run.path).manifest == run.manifest


def test_the_schema_is_as_documented(run):
    audit = audit_run(run.path)
    assert set(audit) == {"format", "data_fingerprint", "n", "blank", "duplicates", "labels", "corrections", "cost", "next"}
    assert audit["data_fingerprint"] == run.manifest["data_fingerprint"]
    assert audit["n"] == {"train": 18, "test": 6, "unusable": 1}
    [blank] = audit["blank"]
    assert (blank["part"], blank["image_path"]) == ("test", "5.png")
    assert [group["kind"] for group in audit["duplicates"]["groups"]] == ["leak", "across", "within"]
    assert set(audit["duplicates"]["groups"][0]) == {"kind", "conflict", "members", "pairs"}
    assert audit["duplicates"]["accuracy"] == run.metrics.get("duplicates")
    labels = audit["labels"]
    figures = {"n", "accuracy", "models", "notes", "method", "doubts", "estimated_wrong_fraction"}
    assert set(labels) == figures | {"doubtful", "confused", "ceiling"}
    assert audit["corrections"] is None
    assert labels["accuracy"] == pytest.approx(run.metrics["out_of_fold"]["accuracy"], abs=1e-6)
    for one in labels["doubtful"]:
        assert set(one) == {"image_path", "given", "suggested", "score", "suggested_probability", "doubt"}
    assert labels["ceiling"]["lost_to_conflicts"] == pytest.approx(1 / 18)
    assert labels["ceiling"]["accuracy"] <= 17 / 18
    assert audit["next"][-1].startswith("then train again: inkfold train ")


def test_the_ceiling_counts_conflicts_among_all_labelled_drawings_also_where_few_are_held_out(trained, tmp_path):
    run = train(toy_recipe(tmp_path), "folds.split=holdout", data=trained / "data", out=tmp_path / "run")
    labels = audit_run(run.path)["labels"]
    assert labels["n"] < 18
    assert labels["ceiling"]["lost_to_conflicts"] == pytest.approx(1 / 18)


def test_labels_are_asked_of_two_backbones_and_several_heads_out_of_fold(run):
    models = [model["name"] for model in audit_run(run.path)["labels"]["models"]]
    own = run.manifest["backbone"]["name"]
    for kind in ("linear discriminant", "ridge regression", "nearest drawings"):
        assert f"{kind} on {own}" in models
        assert f"{kind} on ink-small" in models
    assert "the run itself" in models


def test_a_settled_label_is_not_doubtful():
    rng = np.random.default_rng(0)
    truth = np.arange(600) % 12
    logits = rng.normal(0, 1, (600, 12))
    logits[np.arange(600), truth] += 7
    targets = np.where(np.arange(600) < 12, (truth + 1) % 12, truth)
    probs = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    names = np.array([f"{i}.png" for i in range(600)])
    predictions = Predictions(names, probs, tuple("abcdefghijkl"), targets, np.zeros(600, np.int64))
    asked = LabelViews((View("the run itself", probs),))
    listed = [one["image_path"] for one in audit_labels(predictions, asked, [], 600, ())["doubtful"]]
    assert listed
    rest = [one["image_path"] for one in audit_labels(predictions, asked, [], 600, {listed[0]})["doubtful"]]
    assert listed[0] not in rest


def test_an_ensemble_is_audited_by_its_members_data(run, tmp_path):
    ensemble = vote([run.path, run.path], validate_vote({"method": "soft"}), out=tmp_path / "both")
    audit = audit_run(ensemble.path)
    assert len(audit["duplicates"]["groups"]) == 3
    assert audit["data_fingerprint"] == ensemble.manifest["data_fingerprint"]


def test_data_that_changed_since_are_refused(tmp_path):
    data = data_with_duplicates(tmp_path / "data")
    run = train(toy_recipe(tmp_path), data=data, out=tmp_path / "run")
    shutil.copy(data / "train/apple/sketch_2.png", data / "train/apple/sketch_3.png")
    with pytest.raises(PredictionError, match="some were changed, added or removed"):
        audit_run(run.path)
    assert not (run.path / "audit.json").exists()


def test_a_folder_that_is_no_run_is_refused_with_the_command_check(tmp_path):
    with pytest.raises(PredictionError, match="inkfold check"):
        audit_run(tmp_path)


def test_the_command_prints_what_it_found_and_what_to_do(run, capsys):
    assert cli.main(["audit", str(run.path)]) == 0
    output = capsys.readouterr().out
    for part in (
        "blank drawings: 1\n  test 5.png (",
        "duplicates: groups 1 in several of train, val and test, 1 with different labels, 1 with one label",
        "  with different labels: train ",
        "Models asked, each out of fold, with their accuracy: ",
        "doubtful labels:",
        "next: remove 1 drawing(s)",
        f"inkfold audit {run.path} --fix corrected.csv",
        "audit.json",
    ):
        assert part in output
    assert cli.main(["audit", str(run.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == 2


def test_decisions_are_written_read_by_the_next_run_and_kept(run, tmp_path, capsys):
    table = tmp_path / "corrected.csv"
    assert cli.main(["audit", str(run.path), "--fix", str(table)]) == 0
    output = capsys.readouterr().out
    assert f"data.corrections={table} out=NEW" in output
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert {"drop", "look"} <= {row["proposal"] for row in rows}
    for row in rows:
        row["decision"] = {"drop": "drop", "look": "relabel"}.get(row["proposal"], "")
    with table.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    new = tmp_path / "new"
    recipe = str(run.path / "recipe.yaml")
    assert cli.main(["train", recipe, f"data.corrections={table}", f"out={new}"]) == 0
    assert "corrections: 1 dropped, 2 relabelled, 0 kept" in capsys.readouterr().out
    after = Run.load(new)
    assert after.metrics["data"]["n_train"] == run.metrics["data"]["n_train"] - 1
    assert after.manifest["data_fingerprint"] != run.manifest["data_fingerprint"]
    table.unlink()  # the run has a copy
    assert cli.main(["audit", str(new), "--fix", str(table)]) == 0
    assert "3 made before are kept" in capsys.readouterr().out
    assert cli.main(["report", str(new), "--out", str(tmp_path / "page.html")]) == 0
