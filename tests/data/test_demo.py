import json

import pytest

from inkfold.data.demo import prepare_demo
from inkfold.errors import DataError
from toy import RUN_FILES, files_below, inkfold


def test_the_demo_runs_offline_where_it_is_called(tmp_path):
    done = inkfold("demo", "--per-class", "4", home=tmp_path / "home", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert files_below(tmp_path / "demo/run") == RUN_FILES
    metrics = json.loads((tmp_path / "demo/run/metrics.json").read_text())
    assert metrics["data"]["n_train"] == 4 * metrics["data"]["num_classes"]
    assert metrics["test"]["n"] == metrics["data"]["num_classes"]
    assert "backbone: ink-small" in done.stdout
    assert "submission.csv" in done.stdout
    assert done.stdout.splitlines()[-1] == "draw, and see what it says: inkfold serve demo/run --open"


def test_the_demos_drawings_are_drawn_once(tmp_path):
    data = prepare_demo(tmp_path, per_class=1)
    before = (data / "train.csv").stat().st_mtime_ns
    assert prepare_demo(tmp_path, per_class=1) == data
    assert (data / "train.csv").stat().st_mtime_ns == before


def test_a_demo_of_another_size_is_not_mixed_in(tmp_path):
    prepare_demo(tmp_path, per_class=1)
    with pytest.raises(DataError, match="other parameters"):
        prepare_demo(tmp_path, per_class=2)
