from types import SimpleNamespace

import numpy as np
import pytest

from inkfold.data.dataset import read_dataset
from inkfold.data.types import DataOptions
from inkfold.ensemble.submission import SubmissionFormat, format_of_data, format_of_submission
from inkfold.errors import ExportError
from toy import read_rows, toy_data, write_rows
from toy_votes import texts

TARGETS = np.array([3, 7, 40])
PATHS = texts(["a.png", "b.png", "c.png"])
PREDS = np.array([2, 0, 1])


def test_the_usual_form_counts_from_0_in_the_drawings_order(tmp_path):
    SubmissionFormat(TARGETS).write(tmp_path / "s.csv", PATHS, PREDS)
    assert read_rows(tmp_path / "s.csv") == [
        ["ID", "image_path", "target"],
        ["0", "a.png", "40"],
        ["1", "b.png", "3"],
        ["2", "c.png", "7"],
    ]


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        (["nr", "file", "label"], {"nr": "id", "file": "path", "label": "target"}),
        (["label", "nr", "file"], {"label": "target", "nr": "id", "file": "path"}),
        (["file", "label"], {"file": "path", "label": "target"}),
    ],
)
def test_a_submissions_columns_rows_and_ids_are_followed(tmp_path, header, columns):
    cells = {"nr": ["x9", "x8", "x7"], "file": ["c.png", "a.png", "b.png"], "label": ["3", "3", "3"]}
    write_rows(tmp_path / "old.csv", [header, *zip(*(cells[name] for name in header), strict=True)])
    form = format_of_submission(tmp_path / "old.csv", "file", "label", TARGETS)
    assert form.columns == columns
    form.write(tmp_path / "new.csv", PATHS, PREDS)
    new = {**cells, "label": ["7", "40", "3"]}
    assert read_rows(tmp_path / "new.csv") == [header, *map(list, zip(*(new[name] for name in header), strict=True))]


@pytest.mark.parametrize("columns", [("image_path", "label"), ("file", "target"), ("file", "label")])
def test_without_a_sample_the_usual_names_say_what_is_what(tmp_path, columns):
    SubmissionFormat(TARGETS).write(tmp_path / "old.csv", PATHS, PREDS)
    format_of_submission(tmp_path / "old.csv", *columns, TARGETS).write(tmp_path / "new.csv", PATHS, PREDS)
    assert (tmp_path / "new.csv").read_bytes() == (tmp_path / "old.csv").read_bytes()


def test_a_drawing_that_occurs_twice_keeps_both_ids(tmp_path):
    write_rows(tmp_path / "old.csv", [["ID", "image_path", "target"], ["p", "a.png", 3], ["q", "b.png", 3], ["r", "a.png", 3]])
    form = format_of_submission(tmp_path / "old.csv", "image_path", "target", TARGETS)
    form.write(tmp_path / "new.csv", texts(["b.png", "a.png", "a.png"]), np.array([1, 2, 2]))
    assert read_rows(tmp_path / "new.csv")[1:] == [["p", "a.png", "40"], ["q", "b.png", "7"], ["r", "a.png", "40"]]


def test_without_a_submission_the_form_is_the_usual_one(tmp_path):
    form = format_of_submission(tmp_path / "none.csv", "image_path", "target", TARGETS)
    assert (form.paths, form.ids, form.class_targets.tolist()) == (None, None, [3, 7, 40])


def test_datas_sample_gives_columns_ids_and_rows(tmp_path):
    data = toy_data(tmp_path / "data")
    paths = [row[1] for row in read_rows(data / "sample_submission.csv")[1:]]
    write_rows(data / "sample_submission.csv", [["target", "nr", "image_path"], *([0, f"no {p}", p] for p in paths[::-1])])
    form = format_of_data(read_dataset(data), DataOptions(), ("house", "apple", "fish"))
    assert form.class_targets.tolist() == [2, 0, 1]
    assert [*form.columns.items()] == [("target", "target"), ("nr", "id"), ("image_path", "path")]
    assert form.paths == tuple(paths)
    assert form.ids == tuple(f"no {path}" for path in paths)
    spelled = texts(f"./{path}" for path in paths[::-1])
    form.write(tmp_path / "s.csv", spelled, np.arange(6) % 3)
    written = [[str([2, 0, 1][(5 - i) % 3]), f"no {path}", path] for i, path in enumerate(paths)]
    assert read_rows(tmp_path / "s.csv")[1:] == written


def test_data_without_a_sample_give_the_test_tables_rows(tmp_path):
    data = toy_data(tmp_path / "data")
    (data / "sample_submission.csv").unlink()
    dataset = read_dataset(data)
    form = format_of_data(dataset, DataOptions(), dataset.class_names)
    assert form.paths == tuple(dataset.test.image_paths.tolist())
    assert form.ids is None


def test_data_without_test_drawings_only_number_the_classes():
    dataset = SimpleNamespace(test=None, class_targets=TARGETS, class_names=("a", "b", "c"), sample_submission=None)
    form = format_of_data(dataset, DataOptions(), ("c", "b", "a"))
    assert (form.class_targets.tolist(), form.paths, form.ids) == ([40, 7, 3], None, None)


def test_a_form_without_a_column_of_paths_is_refused(tmp_path):
    with pytest.raises(ExportError, match="columns"):
        SubmissionFormat(TARGETS, {"ID": "id", "target": "target"}).write(tmp_path / "s.csv", PATHS, PREDS)
