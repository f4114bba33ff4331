import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inkfold.ensemble.model import load_run
from inkfold.errors import PredictionError
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.run import Run
from inkfold.report.figures import _most_confused


@pytest.fixture
def run(frozen_run: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("INKFOLD_HOME", str(frozen_run / "home"))
    loaded = load_run(frozen_run / "run")
    assert isinstance(loaded, Run)
    return loaded


def test_figures_are_pictures_with_a_text_and_leave_pyplot_alone(run: Run) -> None:
    for figure in (run.show_mistakes(4), run.plot_confusion(), run.map(method="pca", drawings=20, thumbnails=3)):
        data, about = figure._repr_png_()
        width, _ = Image.open(io.BytesIO(data)).size
        assert width == pytest.approx(about["width"] * 1.5, abs=2)
        assert about["alt"]
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_the_confusion_matrix_counts_every_held_out_drawing(run: Run) -> None:
    predictions = run.files.out_of_fold
    assert predictions is not None
    axes = run.plot_confusion().axes[0]
    assert sum(int(text.get_text()) for text in axes.texts) == len(predictions.image_paths)


def test_the_same_run_gives_the_same_map(run: Run) -> None:
    first, second = (run.map("doubt", drawings=20, thumbnails=0).axes[0].collections[0].get_offsets() for _ in range(2))
    assert np.array_equal(first, second)


def test_of_many_classes_those_are_drawn_that_are_confused() -> None:
    targets = np.arange(30).repeat(2)
    preds = targets.copy()
    preds[targets == 7] = 21
    probs = np.eye(30)[preds]
    names = np.array([str(i) for i in range(60)], np.dtypes.StringDType())
    found = Predictions(names, probs, tuple(map(str, range(30))), targets)
    assert _most_confused(found, 10) == [7, 21]


@pytest.mark.parametrize(
    ("call", "words"), [(lambda run: run.map("hue"), "colour='hue'"), (lambda run: run.show_mistakes(0), "most=0")]
)
def test_wrong_arguments_are_refused_with_what_is_expected(run: Run, call: object, words: str) -> None:
    with pytest.raises(PredictionError, match=words):
        call(run)  # type: ignore[operator]
