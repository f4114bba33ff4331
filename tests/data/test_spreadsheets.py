import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkfold.data.spreadsheets import PREDICTION_COLUMNS, as_text, from_text
from inkfold.data.tables import read_table


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=HYPERLINK()", "'=HYPERLINK()"),
        ("+1", "'+1"),
        ("-x.png", "-x.png"),
        ("=1+1.PNG", "=1+1.PNG"),
        ("=1+1", "'=1+1"),
        ("=f(1).png", "'=f(1).png"),
        ("=cmd|' /C calc'!A0.png", "'=cmd|' /C calc'!A0.png"),
        ("-a/x.png", "'-a/x.png"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("'=1", "''=1"),
        ("'s-Hertogenbosch", "'s-Hertogenbosch"),
        ("a=1", "a=1"),
        ("", ""),
    ],
)
def test_what_a_spreadsheet_would_compute_is_text(name, cell):
    assert as_text(name) == cell
    assert from_text(cell) == name


@given(st.text(alphabet="'=+-@\t\r\na"), st.booleans())
def test_every_cell_is_read_back_as_it_was(name, raw):
    assert from_text(as_text(name, raw=raw)) == name


def test_a_table_of_predict_is_read_as_it_was_written(tmp_path):
    names = ["=a.png", "'=b.png", "-c.png"]
    with (tmp_path / "p.csv").open("w", newline="") as file:
        csv.writer(file).writerows([PREDICTION_COLUMNS, *((as_text(name), as_text("=x"), 1, 0.5, "false") for name in names)])
    table = read_table(tmp_path / "p.csv", {"image_path": "", "class_name": ""})
    assert table.columns["image_path"].tolist() == names
    assert set(table.columns["class_name"].tolist()) == {"=x"}


def test_a_table_of_others_is_read_to_the_letter(tmp_path):
    (tmp_path / "t.csv").write_text("image_path,class_name\n'=a.png,=x\n")
    table = read_table(tmp_path / "t.csv", {"image_path": ""}, ["class_name"])
    assert np.array(list(table.columns.values())).tolist() == [["'=a.png"], ["=x"]]
