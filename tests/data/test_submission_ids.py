from pathlib import Path

import numpy as np
import pytest

from inkfold.data.submission_form import CsvStyle
from inkfold.data.submission_ids import find_ids, id_kinds
from inkfold.data.submission_sample import Sample
from inkfold.data.tables import STRING
from inkfold.data.types import Drawings
from toy_tables import kinds


def drawings(*paths):
    return Drawings(np.array(paths, STRING), np.array([f"/d/test/{path}" for path in paths], STRING))


def names(*paths, **columns):
    return {kind.setting: kind.names for kind in id_kinds(drawings(*paths), Path("/d"), columns)}


def sample(*columns):
    return Sample("s.csv", tuple(f"h{i}" for i in range(len(columns))), columns, CsvStyle(), len(columns[0]))


def find(test, *columns, named=None, has_order=True, **more):
    problems = []
    own = sample(*columns)
    ids = find_ids(own, range(len(columns)), id_kinds(test, Path("/d"), more), named, has_order=has_order, problems=problems)
    return ids, problems


def test_drawings_are_named_in_every_way():
    assert names("x/img_07.png", "x/img_9.b.png", key=["K", "L"]) == {
        "key": ("K", "L"),
        "name": ("img_07.png", "img_9.b.png"),
        "stem": ("img_07", "img_9.b"),
        "path": ("x/img_07.png", "x/img_9.b.png"),
        "root_path": ("test/x/img_07.png", "test/x/img_9.b.png"),
        "number": ("7", "9"),
        "row": ("0", "1"),
        "row1": ("1", "2"),
    }


def test_ways_that_do_not_tell_drawings_apart_are_left_out():
    assert [*names("x/a.png", "y/a.png", key=["K", "K"])] == ["path", "root_path", "row", "row1"]
    assert "name" in names("x/a.png", "x/a.png"), "one drawing that is there twice"


@pytest.mark.parametrize(
    ("cells", "setting"),
    [
        (("./x\\b2.png", "x/a1.png"), "path"),
        (("002", "1"), "number"),
        (("1", "0"), "row"),
        (("0002", "0001"), "number"),
    ],
)
def test_cells_are_compared_in_one_spelling(cells, setting):
    test = drawings("x/a1.png", "x/b2.png") if setting != "row" else drawings("x/a.png", "x/b.png")
    ids, problems = find(test, cells, ("cat", "cat"))
    assert not problems
    assert (ids.place, ids.kind.setting, ids.rows.tolist()) == (0, setting, [1, 0])


def test_composed_and_decomposed_names_are_one():
    ids, problems = find(drawings("é.png", "b.png"), ("e\u0301", "b"))
    assert not problems
    assert ids.rows.tolist() == [0, 1]


def test_a_name_is_worth_more_than_a_row_number_beside_it():
    ids, problems = find(drawings("a.png", "b.png"), ("0", "1"), ("b.png", "a.png"))
    assert not problems
    assert (ids.place, ids.rows.tolist(), ids.row_numbers) == (1, [1, 0], (0,))


def test_numbered_files_in_a_folder_are_named_by_their_numbers_and_in_a_table_it_is_asked():
    test = drawings("10.png", "0.png", "1.png")
    ids, problems = find(drawings("1.png", "0.png"), ("0", "1"), has_order=False)
    assert not problems
    assert ids.rows.tolist() == [1, 0]
    _, problems = find(drawings("1.png", "0.png"), ("0", "1"))
    assert kinds(problems) == ["unclear_ids"]
    _, problems = find(test, ("0", "1", "2"), has_order=False)
    assert kinds(problems) == ["unclear_ids"], "rows of a folder"
    ids, problems = find(test, ("0", "1", "2"), has_order=False, named="row")
    assert not problems
    assert ids.rows.tolist() == [0, 1, 2]


def test_a_column_of_the_test_table_wins_by_its_heading():
    ids, problems = find(drawings("1.png", "0.png"), ("0", "1"), h0=["0", "1"])
    assert not problems
    assert (ids.kind.words, ids.rows.tolist()) == ("column 'h0' of the test table", [0, 1])


def test_an_unknown_way_is_refused_with_the_known_ones():
    ids, problems = find(drawings("a.png", "b.png"), ("a", "b"), named="key")
    assert ids is None
    assert kinds(problems) == ["unknown_id"]
    assert "name, stem, path, root_path, row, row1" in str(problems[0])


def test_an_id_that_is_there_twice_is_named_beside_the_drawing_without_a_row():
    ids, problems = find(drawings("a.png", "b.png"), ("a", "a"))
    assert ids is None
    assert kinds(problems) == ["test_rows_differ"] * 2
    assert "no row for 1 of the test drawings: 'b'" in str(problems[0])
    assert "names 1 drawing(s) more often than the test part: 'a'" in str(problems[1])
