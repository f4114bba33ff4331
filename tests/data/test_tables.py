import csv

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inkfold.data.tables import read_header, read_table
from inkfold.errors import DataError


def kinds(problems):
    return [problem.kind for problem in problems]


def refused(path, *columns):
    with pytest.raises(DataError) as caught:
        read_table(path, dict.fromkeys(columns or ("a",), "path_column"))
    return caught.value.problems


def test_csv_with_a_byte_order_mark_reads_its_first_column_by_name(tmp_path):
    (tmp_path / "t.csv").write_bytes("\ufeffa,b\r\n가,2\r\n".encode())
    table = read_table(tmp_path / "t.csv", {"a": ""}, ["b", "c"])
    assert table.columns["a"].tolist() == ["가"]
    assert sorted(table.columns) == ["a", "b"]
    assert table.available == ("a", "b")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_with_a_byte_order_mark_reads(tmp_path, encoding):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "t.csv").write_bytes((mark + "a,b\n가,2\n").encode(encoding))
    assert read_table(tmp_path / "t.csv", {"a": ""}).columns["a"].tolist() == ["가"]


def test_cp949_is_refused_with_its_line_and_a_guess(tmp_path):
    (tmp_path / "t.csv").write_bytes("a,b\nx,1\n고양이,2\n".encode("cp949"))
    (problem,) = refused(tmp_path / "t.csv")
    assert problem.kind == "not_utf8"
    assert problem.where == "t.csv line 3"
    assert "cp949" in problem.message


def test_broken_utf_16_is_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes("a,b\n1,2\n".encode("utf-16") + b"\x00")
    assert kinds(refused(tmp_path / "t.csv")) == ["not_utf8"]


def test_a_missing_column_is_told_with_the_columns_there_and_the_option(tmp_path):
    (tmp_path / "t.csv").write_text("file,label\n1,2\n")
    (problem,) = refused(tmp_path / "t.csv", "image_path")
    assert problem.kind == "missing_column"
    assert all(word in problem.message for word in ("'image_path'", "'file'", "'label'", "`path_column=NAME`"))


def test_semicolons_for_commas_are_pointed_out(tmp_path):
    (tmp_path / "t.csv").write_text("a;b\n1;2\n")
    assert "commas" in refused(tmp_path / "t.csv")[0].message


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,a\n1,2\n")
    assert kinds(refused(tmp_path / "t.csv")) == ["repeated_column"]


def test_ragged_rows_are_named_and_left_out_and_blank_lines_are_no_rows(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n\n1,2\n3\n4,5,6\n7,8\n\n")
    table = read_table(tmp_path / "t.csv", {"a": ""})
    assert [problem.where for problem in table.problems] == ["t.csv row 2", "t.csv row 3"]
    assert kinds(table.problems) == ["ragged_row"] * 2
    assert table.columns["a"].tolist() == ["1", "7"]
    assert table.where(1) == "t.csv row 4"


@pytest.mark.parametrize("text", ["", "a,b\n", "\n\n"])
def test_an_empty_table_is_refused(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    assert kinds(refused(tmp_path / "t.csv")) == ["empty_table"]


def test_nul_bytes_are_refused_with_their_line(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a,b\n1,\x002\n")
    (problem,) = refused(tmp_path / "t.csv")
    assert (problem.kind, problem.where) == ("nul_byte", "t.csv line 2")


def test_an_oversized_field_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1," + "x" * (csv.field_size_limit() + 1) + "\n")
    assert kinds(refused(tmp_path / "t.csv")) == ["broken_csv"]


def test_a_quotation_mark_that_is_never_closed_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text('a,b\n"1,2\n3,4\n')
    assert kinds(refused(tmp_path / "t.csv")) == ["broken_csv"]


@pytest.mark.parametrize(("name", "kind"), [("t.csv", "missing_table"), ("t.xlsx", "unknown_table_format")])
def test_a_table_that_is_not_there_or_of_another_format_is_refused(tmp_path, name, kind):
    assert kinds(refused(tmp_path / name)) == [kind]


def test_a_directory_in_a_tables_place_is_refused(tmp_path):
    (tmp_path / "t.csv").mkdir()
    assert kinds(refused(tmp_path / "t.csv")) == ["unreadable_table"]


def test_parquet_gives_text_whatever_its_column_types(tmp_path):
    columns = {"a": pa.array(["x", None]).dictionary_encode(), "b": [1, 2], "c": [1.5, 2.0], "d": [[1], [2]]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet", {"a": "", "b": ""}, ["c"])
    assert {name: column.tolist() for name, column in table.columns.items()} == {
        "a": ["x", ""],
        "b": ["1", "2"],
        "c": ["1.5", "2"],
    }
    assert read_header(tmp_path / "t.parquet") == ("a", "b", "c", "d")
    assert kinds(refused(tmp_path / "t.parquet", "d")) == ["broken_parquet"]


def test_broken_parquet_is_refused(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 nothing PAR1")
    assert kinds(refused(tmp_path / "t.parquet")) == ["broken_parquet"]


def test_a_parquet_file_cut_in_its_data_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [f"image {i}" for i in range(1000)]}), path)
    data = bytearray(path.read_bytes())
    data[4:200] = bytes(196)
    path.write_bytes(data)
    assert kinds(refused(path)) == ["broken_parquet"]
