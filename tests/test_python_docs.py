"""The code of docs/python.md and of docs/export.md's snippet for PyTorch, run as it stands on toy drawings."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import inkfold
from toy import RECIPE

DOCS = Path(__file__).parent.parent / "docs"
BLOCKS = re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(encoding="utf-8"), re.S)


@pytest.fixture
def names(frozen_run, tmp_path, monkeypatch, warm_home):
    """What the page's examples begin with: drawings, labels, people, a table, and a recipe called first."""
    rows = pd.read_csv(frozen_run / "data/train.csv")
    pictures = []
    for path in rows["image_path"]:
        with Image.open(frozen_run / "data/train" / path) as image:
            pictures.append(image.copy())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first").write_text(RECIPE)
    labels, people = rows["class_name"].tolist(), [f"p{i % 9}" for i in range(len(rows))]
    frame = pd.DataFrame({"image": pictures, "species": labels, "who": people})
    titles = [f"drawing {i}" for i in range(len(rows))]
    return {"pictures": pictures, "labels": labels, "people": people, "titles": titles, "frame": frame, "inkfold": inkfold}


def test_the_pages_code_runs(names, capsys, monkeypatch):
    training, data, settings, serving = BLOCKS
    exec(compile(training, "python.md", "exec"), names)
    assert np.isfinite(float(capsys.readouterr().out))
    assert names["run"].path == Path("runs/first")
    exec(compile(data.replace("runs/first", "runs/second"), "python.md", "exec"), names)
    assert names["dataset"].grouping.key == "folds.group_column=group"
    seen = []
    monkeypatch.setattr("inkfold.auto.train.train_any", lambda *given, out, **options: seen.append(given))
    exec(compile(settings, "python.md", "exec"), names)
    epochs = {tuple(sorted(text for text in given if "epochs" in text or "seed" in text)) for given in seen}
    assert (len(seen), epochs) == (4, {("seed=3", "train_head.epochs=20")})
    assert "inkfold.serve(run)" in serving


def test_the_pages_errors_are_those_that_are_raised(names):
    page = (DOCS / "python.md").read_text(encoding="utf-8")
    for raises in (
        lambda: inkfold.load_run(names["run"].path).predict(
            [names["pictures"][0]] * 3 + [np.linspace(0, 255, 784).reshape(28, 28)]
        ),
        lambda: inkfold.train("first", data="drawings", epohcs=20),
    ):
        if "run" not in names:
            names["run"] = inkfold.train("first", data=(names["pictures"], names["labels"]))
        with pytest.raises(inkfold.InkfoldError) as caught:
            raises()
        assert str(caught.value).removeprefix("error: ") in page
