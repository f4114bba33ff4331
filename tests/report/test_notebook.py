import re
from pathlib import Path

import pytest
from PIL import Image

from inkfold.data.dataset import Dataset, read_dataset
from inkfold.ensemble.model import load_run
from inkfold.pipeline.run import Run

HOSTILE = "<script>alert(1)</script>&"


@pytest.fixture(scope="module")
def run(frozen_run: Path) -> Run:
    loaded = load_run(frozen_run / "run")
    assert isinstance(loaded, Run)
    return loaded


@pytest.fixture
def hostile(tmp_path: Path) -> Dataset:
    table = ["image_path,class_name"]
    for number in range(4):
        Image.new("L", (20, 20), 10 * number).save(tmp_path / f"{number}.png")
        table.append(f"{number}.png,{HOSTILE if number % 2 else 'b'}")
    (tmp_path / "t.csv").write_text("\n".join(table), encoding="utf-8")
    return read_dataset(tmp_path / "t.csv")


def _check_html(html: str) -> None:
    assert len(html) < 300_000
    assert "<script" not in html
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    assert html.count("<img") == len(re.findall(r'<img [^>]*alt="[^"]+"', html))


def test_a_dataset_shows_its_classes_with_drawings_and_escapes_their_names(hostile: Dataset) -> None:
    html = hostile._repr_html_()
    _check_html(html)
    assert "&lt;script&gt;" in html
    assert html.count("<img") == 4


def test_a_dataset_without_its_files_shows_counts_alone(hostile: Dataset) -> None:
    for file in hostile.train.files.tolist():
        Path(file).unlink()
    html = hostile._repr_html_()
    assert "<img" not in html
    assert "4 training drawings of 2 classes" in html


def test_a_run_shows_its_accuracy_with_the_interval_and_its_curve(run: Run) -> None:
    html = run._repr_html_()
    _check_html(html)
    low, high = run.metrics["out_of_fold"]["accuracy_ci95"]
    assert f"({low:.3f}-{high:.3f})" in html
    assert "<svg" in html


def test_answers_show_each_drawing_beside_its_classes(run: Run, frozen_run: Path) -> None:
    files = sorted(str(path) for path in (frozen_run / "data").rglob("*.png"))[:3]
    answers = run.answers(files)
    html = answers._repr_html_()
    _check_html(html)
    assert html.count("<img") == 3
    assert answers.classes == run.predict(files)


def test_representations_have_at_most_five_lines(run: Run, hostile: Dataset) -> None:
    out_of_fold = run.files.out_of_fold
    for value in (run, hostile, hostile.train, out_of_fold):
        assert len(repr(value).splitlines()) <= 5
        assert len(repr(value)) < 600
