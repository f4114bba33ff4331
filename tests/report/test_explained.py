import base64
import io

import numpy as np
import pytest
from PIL import Image

from inkfold.errors import PredictionError
from inkfold.images.preprocess import ImageOptions
from inkfold.pipeline.run_files import open_run_files
from inkfold.report.explained import explained_note, explained_pictures
from inkfold.report.thumbnails import Album
from inkfold.report.write import write_report
from inkfold.storage.sealed import write_sealed
from toy_runs import made_up, write_run


def picture(side=96):
    data = io.BytesIO()
    Image.new("RGB", (side, side), (0, 114, 178)).save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


@pytest.fixture
def run(tmp_path):
    n = 30
    predictions = made_up([f"{i}.png" for i in range(n)], np.arange(n) % 2, ("cat", "sun"), folds=np.arange(n) % 3)
    out = write_run(tmp_path / "run", tmp_path, predictions)
    wrong = int(np.flatnonzero(predictions.preds != predictions.targets)[0])
    row = {"path": f"{wrong}.png", "pred": predictions.class_names[predictions.preds[wrong]]}
    row |= {"strongest": 1.2, "where": "upper left", "picture": picture()}
    return out, row


def write(out, *rows, **changes):
    content = {"data_fingerprint": "f00d", "rows": [*rows], "cost": {"forwards": 1700, "seconds": 2.5}, **changes}
    write_sealed(out / "explained.json", content)


def test_the_page_shows_the_coloured_mistake_with_a_sentence_and_the_cost(run, tmp_path):
    out, row = run
    write(out, row)
    write_report([out], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "without the strongest orange stroke, upper left, its lead over the true class would be 3.3 times smaller" in page
    assert "1,700 forward passes, 2.5 s" in page
    assert "--explain" not in page


def test_without_it_the_page_names_the_command(run, tmp_path):
    out, row = run
    write_report([out], tmp_path / "report.html")
    assert "--explain" in (tmp_path / "report.html").read_text("utf-8")
    write(out, row, data_fingerprint="another")
    assert explained_note(open_run_files(out)) is None


@pytest.mark.parametrize(
    "change", [{"picture": "no base64"}, {"picture": picture(97)}, {"strongest": "much"}, {"picture": None}]
)
def test_a_strangers_file_of_another_form_is_refused_in_a_line(change, run):
    out, row = run
    write(out, {**row, **change})
    with pytest.raises(PredictionError, match=r"explained.json: has an unknown form"):
        explained_pictures(open_run_files(out), Album({}, {}, ImageOptions(size_px=96)))
