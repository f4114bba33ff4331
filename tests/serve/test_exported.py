"""An exported model predicts files as a run does: the same CSV, without the run."""

import csv
import math

import numpy as np
import pytest
from PIL import Image, ImageDraw

from inkfold.cli.main import main
from inkfold.errors import DataError
from inkfold.serve.exported import ExportedModel, is_exported
from models import write_ring_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_ring_model(tmp_path_factory.mktemp("model") / "toy.onnx")


@pytest.fixture
def drawings(tmp_path):
    """A ring, whose middle is empty, a line through the middle, and a blank page."""
    root = tmp_path / "drawings"
    root.mkdir()
    ring, line, blank = (Image.new("L", (96, 96), 255) for _ in range(3))
    ImageDraw.Draw(ring).ellipse((4, 4, 91, 91), outline=0, width=3)
    ImageDraw.Draw(line).line((4, 48, 91, 48), fill=0, width=5)
    for name, page in (("a ring.png", ring), ("b line.png", line), ("c blank.png", blank)):
        page.save(root / name)
    return root


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return {row["image_path"]: row for row in csv.DictReader(file)}


def test_files_are_predicted_into_a_csv_without_the_run(model, drawings, tmp_path, capsys):
    assert main(["predict", str(model), str(drawings), "--out", str(tmp_path / "answers.csv")]) == 0
    rows = rows_of(tmp_path / "answers.csv")
    assert [rows[name]["class_name"] for name in ("a ring.png", "b line.png")] == ["sun", "line"]
    assert [row["blank"] for row in rows.values()] == ["false", "false", "true"]
    probs = ExportedModel(model).predict_proba(drawings)
    assert [float(row["probability"]) for row in rows.values()] == pytest.approx(probs.max(1), abs=1e-6)
    assert "3 drawings predicted, 1 blank among them" in capsys.readouterr().out


def test_a_drawing_that_can_not_be_read_is_named_or_left_empty(model, drawings, tmp_path, capsys):
    (drawings / "d broken.png").write_bytes((drawings / "a ring.png").read_bytes()[:60])
    command = ["predict", str(model), str(drawings), "--out", str(tmp_path / "answers.csv")]
    assert main(command) == 2
    assert "d broken.png" in capsys.readouterr().err
    assert main([*command, "--on-broken", "skip"]) == 0
    assert rows_of(tmp_path / "answers.csv")["d broken.png"]["class_name"] == ""
    probs = ExportedModel(model).predict_proba(sorted(drawings.iterdir()), on_broken="skip")
    assert [math.isnan(first) for first in probs[:, 0]] == [False, False, False, True]
    with pytest.raises(DataError, match=r"d broken\.png"):
        ExportedModel(model).predict_proba(drawings)


def test_any_form_of_drawings_is_taken_and_none_gives_no_rows(model, drawings):
    exported, blank = ExportedModel(model), []
    pages = [np.array(Image.open(path)) for path in sorted(drawings.iterdir())]
    np.testing.assert_array_equal(exported.predict_proba(iter(pages), blank=blank), exported.predict_proba(drawings))
    assert blank == [2]
    assert exported.predict_proba([]).shape == (0, len(exported.classes_))


def test_a_submission_needs_the_run(model, drawings, tmp_path, capsys):
    assert main(["predict", str(model), str(drawings), "--submission", "--out", str(tmp_path / "answers.csv")]) == 2
    assert "is an exported model, which has no submission" in capsys.readouterr().err
    assert not (tmp_path / "answers.csv").exists()


def test_a_run_is_no_exported_model(frozen_run, model):
    assert is_exported(model)
    assert not is_exported(frozen_run / "run")
