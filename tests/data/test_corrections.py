import csv

import numpy as np
import pytest

from inkfold.data.corrections import apply_corrections, merge_corrections, read_corrections
from inkfold.data.dataset import DataOptions, read_dataset
from inkfold.data.labels import Classes
from inkfold.data.tables import STRING
from inkfold.data.types import Drawings, Parts
from inkfold.errors import DataError
from inkfold.storage.hashing import digest_file
from toy import toy_data

HEADER = "image_path,class_name,suggested,doubt,proposal,reason,decision,note,digest"


def parts(paths=("a.png", "b.png", "c.png", "d.png"), targets=(0, 0, 1, 1), classes=("apple", "fish"), files=None):
    train = Drawings(np.array(paths, STRING), np.array(files or [""] * len(paths), STRING), np.array(targets, np.int64))
    test = Drawings(np.array(["t.png"], STRING), np.array([""], STRING))
    return Parts(train, Classes(classes, np.arange(len(classes))), test)


def applied(folder, text, data=None, encoding="utf-8"):
    """The labels by path after corrections, what was done, and the kinds of problems."""
    file = folder / "corrected.csv"
    file.write_bytes(text.encode(encoding))
    data, problems = data or parts(), []
    corrected, done = apply_corrections(file, data, problems)
    names = data.classes.names
    labels = {
        path: names[target]
        for path, target in zip(corrected.train.image_paths.tolist(), corrected.train.targets.tolist(), strict=True)
    }
    return labels, done, problems


def test_each_decision_does_what_it_says_and_an_open_row_does_nothing(tmp_path):
    text = "image_path,suggested,decision\na.png,fish,relabel\nb.png,fish,\nc.png,,drop\nd.png,apple,keep\n"
    labels, done, problems = applied(tmp_path, text)
    assert labels == {"a.png": "fish", "b.png": "apple", "d.png": "fish"}
    assert problems == []
    assert (done.dropped, done.relabelled, done.kept) == (1, 1, 1)
    assert done.settled == {"a.png", "c.png", "d.png"}


def test_a_class_name_is_a_decision_too(tmp_path):
    labels, done, _ = applied(tmp_path, "image_path,decision\na.png,fish\nb.png,apple\n")
    assert labels["a.png"] == "fish"
    assert done.relabelled == 1  # b.png has been an apple before


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Image_Path;Decision;Note\r\na.png;DROP;x, y\r\n;;\r\n", "utf-8-sig"),
        ("IMAGE PATH\tdecision\r\na.png\t Drop \r\n", "utf-16"),
        ("image_path,decision,,\r\n a.png ,dRop,,\r\n,,,\r\n", "utf-8-sig"),
        ("image_path;decision;note\na.png;drop;schön\n", "cp1252"),
    ],
)
def test_tables_are_read_as_spreadsheets_save_them(tmp_path, text, encoding):
    labels, _, problems = applied(tmp_path, text, encoding=encoding)
    assert [problem.message for problem in problems] == []
    assert sorted(labels) == ["b.png", "c.png", "d.png"]


def test_paths_with_backslashes_and_classes_in_capitals_or_without_zeros_are_found(tmp_path):
    data = parts(("x/a.png", "b.png"), (0, 1), ("001", "Fish"))
    labels, _, problems = applied(tmp_path, "image_path,decision\nx\\a.png,FISH\nb.png,1\n", data)
    assert problems == []
    assert labels == {"x/a.png": "Fish", "b.png": "001"}


def test_all_problems_are_reported_at_once_with_their_rows_and_nothing_is_applied(tmp_path):
    text = (
        "image_path,suggested,decision\nnone.png,,drop\na.png,,aple\nb.png,,relabel\nc.png,,drop\nc.png,,keep\nt.png,,drop\n"
        "gone.png,,\n"
    )
    labels, done, problems = applied(tmp_path, text)
    assert len(labels) == 4
    assert done is None
    assert [(problem.where, problem.kind) for problem in problems] == [
        ("corrected.csv row 1", "unknown_path"),
        ("corrected.csv row 2", "unknown_decision"),
        ("corrected.csv row 3", "unknown_decision"),
        ("corrected.csv row 5", "path_twice"),
        ("corrected.csv row 6", "unknown_path"),
    ]
    assert "Did you mean 'apple'?" in problems[1].message
    assert "is a test drawing" in problems[4].message


def test_a_decision_on_a_file_or_label_that_has_changed_since_is_not_applied(tmp_path):
    drawing = tmp_path / "a.png"
    drawing.write_bytes(b"first")
    old = digest_file(drawing)
    data = parts(files=[str(drawing), "", "", ""])
    text = f"image_path,class_name,decision,digest\na.png,apple,drop,b2:{old}\n"
    assert "a.png" not in applied(tmp_path, text, data)[0]
    drawing.write_bytes(b"second")
    labels, done, [problem] = applied(tmp_path, text, data)
    assert "a.png" in labels
    assert done.dropped == 0
    assert (problem.kind, problem.severity) == ("stale_correction", "warning")
    labels, _, [problem] = applied(tmp_path, "image_path,class_name,decision\na.png,fish,drop\n", data)
    assert "a.png" in labels
    assert "the data now have 'apple'" in problem.message


@pytest.mark.parametrize("text", ["", "image_path,class_name\na.png,apple\n", "image_path,decision,decision\na.png,,\n"])
def test_another_table_is_refused(tmp_path, text):
    _, done, [problem] = applied(tmp_path, text)
    assert done is None
    assert problem.kind == "no_corrections"


def test_a_spreadsheets_own_file_and_a_missing_one_are_refused_with_what_to_do(tmp_path):
    (tmp_path / "x.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match="Save the table as CSV"):
        read_corrections(tmp_path / "x.xlsx")
    with pytest.raises(DataError, match="inkfold audit RUN --fix"):
        read_corrections(tmp_path / "none.csv")


def proposal(path, **cells):
    return {
        "image_path": path,
        "class_name": "apple",
        "suggested": "fish",
        "doubt": "0.9",
        "reason": "r",
        "digest": "b2:0",
        **cells,
    }


def rows_of(file, delimiter=","):
    with file.open(newline="", encoding="utf-8-sig") as opened:
        return {row["image_path"]: row for row in csv.DictReader(opened, delimiter=delimiter)}


def test_a_new_table_has_all_columns_and_formulas_are_text(tmp_path):
    file = tmp_path / "new/corrected.csv"
    assert merge_corrections(file, [proposal("a.png"), proposal("=f(1).png")]) == {"decided": 0, "open": 2, "new": 2}
    assert file.read_bytes().decode("utf-8-sig").splitlines()[0] == HEADER
    assert "'=f(1).png" in rows_of(file)
    assert [row["image_path"] for row in read_corrections(file).rows] == ["a.png", "=f(1).png"]


@pytest.mark.parametrize("raw", [False, True])
def test_names_that_a_spreadsheet_would_compute_are_read_back_as_they_were(tmp_path, raw):
    file, names = (
        tmp_path / "corrected.csv",
        ["=f(1).png", "'=1.png", "-a.png", "@a.png", "+a.png", "\ta.png", "\ra.png", "'a.png"],
    )
    file.write_text("image_path,decision,'=who\nz.png,drop,=Ann\n")
    merge_corrections(file, [proposal(name) for name in names], raw=raw)
    table = read_corrections(file)
    assert [row["image_path"] for row in table.rows] == ["z.png", *names]
    assert table.rows[0]["=who"] == "=Ann"
    assert (b"\n=f(1).png" in file.read_bytes()) is raw


def test_decisions_and_notes_in_a_table_are_never_overwritten(tmp_path):
    file = tmp_path / "corrected.csv"
    file.write_text(
        "image_path;class_name;suggested;decision;note;who\na.png;apple;pear;drop;;Ann\nb.png;apple;pear;;seen;Bob\nc.png;apple;pear;;;\n"
    )
    counts = merge_corrections(file, [proposal("a.png"), proposal("d.png")])
    rows = rows_of(file, ";")
    assert counts == {"decided": 1, "open": 2, "new": 1}
    assert sorted(rows) == ["a.png", "b.png", "d.png"]  # c.png is neither decided nor noted nor doubted any more
    assert (rows["a.png"]["decision"], rows["a.png"]["suggested"], rows["a.png"]["who"]) == ("drop", "pear", "Ann")
    assert rows["b.png"]["note"] == "seen"
    assert rows["d.png"]["decision"] == ""


def test_a_file_that_is_no_table_of_decisions_is_not_overwritten(tmp_path):
    file = tmp_path / "train.csv"
    file.write_text("image_path,class_name\na.png,apple\n")
    with pytest.raises(DataError, match="'decision'"):
        merge_corrections(file, [proposal("a.png")])
    assert file.read_text() == "image_path,class_name\na.png,apple\n"


def test_a_new_table_starts_with_the_decisions_that_the_run_was_trained_with(tmp_path):
    (tmp_path / "old.csv").write_text("image_path,decision\nz.png,drop\n")
    merge_corrections(tmp_path / "new.csv", [proposal("a.png")], read_corrections(tmp_path / "old.csv"))
    assert rows_of(tmp_path / "new.csv")["z.png"]["decision"] == "drop"


def test_another_table_that_exists_gets_the_decisions_of_the_run_where_it_decides_nothing_itself(tmp_path):
    (tmp_path / "old.csv").write_text("image_path,decision\na.png,drop\nb.png,drop\nz.png,apple\n")
    file = tmp_path / "other.csv"
    file.write_text("image_path;decision\na.png;keep\nb.png;\n")
    counts = merge_corrections(file, [proposal("d.png")], read_corrections(tmp_path / "old.csv"))
    assert counts == {"decided": 3, "open": 1, "new": 1}
    decisions = {path: row["decision"] for path, row in rows_of(file, ";").items()}
    assert decisions == {"a.png": "keep", "b.png": "drop", "z.png": "apple", "d.png": ""}


def test_an_empty_file_is_said_to_be_empty(tmp_path):
    (tmp_path / "empty.csv").touch()
    with pytest.raises(DataError, match="got an empty file"):
        read_corrections(tmp_path / "empty.csv")


def test_a_dataset_is_read_with_its_corrections_in_tables_and_in_folders(tmp_path):
    root = toy_data(tmp_path / "data")
    plain = read_dataset(root)
    path = str(plain.train.image_paths[0])
    (root / "corrected.csv").write_text(f"image_path,decision\n{path},drop\n")
    corrected = read_dataset(root, DataOptions(corrections="corrected.csv"))
    assert len(corrected.train) == len(plain.train) - 1
    assert path not in corrected.train.image_paths.tolist()
    assert corrected.corrected.dropped == 1
    folder = read_dataset(root / "train")
    (tmp_path / "c.csv").write_text(f"image_path,decision\n{folder.train.image_paths[0]},{folder.class_names[-1]}\n")
    relabelled = read_dataset(root / "train", DataOptions(corrections=str(tmp_path / "c.csv")))
    assert relabelled.train.targets[0] == len(folder.class_names) - 1
    with pytest.raises(DataError, match="no such file"):
        read_dataset(root, DataOptions(corrections="none.csv"))
