import json
from types import SimpleNamespace

import numpy as np
import pytest

from inkfold.cli.main import main
from inkfold.config.sections import VoteSettings
from inkfold.ensemble.selection import DataSummary, select_vote, write_selection
from inkfold.ensemble.submission import SubmissionFormat
from inkfold.evaluation.scores import ACCURACY
from inkfold.pipeline.run_files import RunFiles
from inkfold.storage.hashing import digest_file
from toy_cli import words
from toy_printed import COST


@pytest.fixture
def runs(tmp_path, data, recipe):
    """Two finished runs on the same drawings."""
    changes = {"one": (), "two": ("head={kind: mlp, hidden: [4]}",)}
    for name, settings in changes.items():
        assert main(words("train", recipe, f"data={data}", f"out={tmp_path / name}", *settings)) == 0
    return [tmp_path / name for name in changes]


@pytest.fixture
def ensemble(tmp_path):
    """A directory as an ensemble leaves it, of a panel."""

    def build(panel, warnings=(), cost=COST, skipped=None, split="kfold", metric=ACCURACY, **vote):
        recipe = VoteSettings(**vote)
        facts = DataSummary(60, skipped or {"train": 0, "test": 0}, split)
        selection = select_vote(panel, recipe, metric=metric)
        written = write_selection(tmp_path, panel, selection, recipe, SubmissionFormat(np.arange(3)), facts)
        (tmp_path / "cost.json").write_text(json.dumps(cost))
        metrics = json.loads((tmp_path / "metrics.json").read_text())
        manifest = {"warnings": [*warnings], "files": {name: digest_file(tmp_path / name) for name in [*written, "cost.json"]}}
        return SimpleNamespace(path=tmp_path, metrics=metrics, manifest=manifest, files=RunFiles(tmp_path, manifest))

    return build
