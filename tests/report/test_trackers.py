import sys

import numpy as np
import pytest

from inkfold.cli import main as cli
from inkfold.errors import ExportError
from inkfold.pipeline.run_files import open_run_files
from inkfold.report.trackers import log_run, open_tracker
from toy import RECIPE, toy_data, toy_recipe
from toy_runs import made_up, write_run


class FakeWandb:
    def __init__(self):
        self.logged, self.summary, self.open = [], {}, False

    def init(self, **arguments):
        self.arguments, self.open = arguments, True
        return self

    def log(self, figures, step):
        self.logged.append((step, figures))

    def finish(self):
        self.open = False


class FakeMlflow:
    def __init__(self):
        self.logged, self.params, self.open = [], {}, False

    def set_experiment(self, name):
        self.experiment = name

    def start_run(self, run_name):
        self.name, self.open = run_name, True

    def log_params(self, params):
        self.params = params

    def log_metrics(self, figures, step=None):
        self.logged.append((step, figures))

    def end_run(self):
        self.open = False


def finished_run(tmp_path):
    predictions = made_up([f"{i}" for i in range(20)], np.arange(20) % 2, "ab", folds=np.arange(20) % 2)
    return open_run_files(write_run(tmp_path / "run", "data", predictions))


def test_wandb_gets_recipe_curve_and_summary(tmp_path, monkeypatch):
    fake, run = FakeWandb(), finished_run(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    log_run(open_tracker("wandb"), run)
    assert fake.arguments["name"] == "run"
    assert fake.arguments["config"]["train_head.lr"] == "0.01"
    assert [step for step, _ in fake.logged] == [1, 2, 3, 4, 5, 6]
    assert fake.summary["out_of_fold/accuracy"] == run.metrics["out_of_fold"]["accuracy"]
    assert not fake.open


def test_mlflow_gets_the_same(tmp_path, monkeypatch):
    fake, run = FakeMlflow(), finished_run(tmp_path)
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    log_run(open_tracker("mlflow"), run)
    assert fake.params["seed"] == "42"
    assert fake.logged[0][0] == 1
    assert fake.logged[-1] == (None, fake.logged[-1][1])
    assert fake.logged[-1][1]["cost/forwards"] == 100
    assert not fake.open


def test_a_missing_tracker_is_an_error_before_anything_is_done(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ExportError, match="pip install wandb"):
        open_tracker("wandb")
    assert cli.main(["train", "cpu-small", "data=nowhere", f"out={tmp_path / 'run'}", "--log", "wandb"]) == 2
    assert "pip install wandb" in capsys.readouterr().err
    with pytest.raises(ExportError, match="expected one of wandb, mlflow"):
        open_tracker("other")


def test_a_trained_run_is_reported_with_the_option_log(tmp_path, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    recipe, data = toy_recipe(tmp_path, RECIPE), toy_data(tmp_path / "data")
    assert cli.main(["train", str(recipe), f"data={data}", f"out={tmp_path / 'run'}", "--log", "wandb"]) == 0
    assert len(fake.logged) == 5
    assert "out_of_fold/accuracy" in fake.summary


def test_the_runs_own_metric_is_in_the_summary(tmp_path, monkeypatch):
    fake, run = FakeWandb(), finished_run(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    run.metrics["out_of_fold"]["metric"] = {"name": "macro_f1", "value": 0.625}
    log_run(open_tracker("wandb"), run)
    assert fake.summary["out_of_fold/macro_f1"] == 0.625
