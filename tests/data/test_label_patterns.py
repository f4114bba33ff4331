import numpy as np
import pytest

from inkfold.data import label_patterns
from inkfold.data.label_patterns import missing_groups, read_fields, unmatched_paths
from inkfold.data.tables import STRING
from inkfold.errors import DataError


def texts(*values):
    return np.array(values, dtype=STRING)


def test_labels_groups_and_ids_are_found_anywhere_in_the_path():
    paths = texts("a/cat-x-1.png", "b/dog-y-2.png", "c/none.png", "d/-z-3.png")
    fields = read_fields(r"/(?P<label>[a-z]*)-(?P<group>.)-(?P<id>\d)", paths)
    assert fields.matched.tolist() == [True, True, False, False]
    assert fields.labels.tolist() == ["cat", "dog", "", ""]
    assert fields.groups.tolist() == ["x", "y", "", "z"]
    assert fields.ids.tolist() == ["1", "2", "", "3"]


def test_groups_that_the_expression_lacks_are_none():
    fields = read_fields("(?P<label>.)", texts("a", "\u00e9\n"))
    assert fields.labels.tolist() == ["a", "\u00e9"]
    assert (fields.groups, fields.ids) == (None, None)


def test_paths_of_several_chunks_and_overlong_ones_keep_their_rows(monkeypatch):
    monkeypatch.setattr(label_patterns, "CHUNK_PATHS", 2)
    fields = read_fields("(?P<label>^.)", texts("a", "b", "c" * 5000, "d", "e"))
    assert fields.labels.tolist() == ["a", "b", "", "d", "e"]


def test_an_expression_that_takes_for_ever_is_stopped(monkeypatch):
    monkeypatch.setattr(label_patterns, "PATIENCE_S", 0.5)
    with pytest.raises(DataError, match=r"took more than 0.5 s .* Repetitions inside repetitions"):
        read_fields("(?P<label>(a+)+)$", texts("a" * 60 + "b"))


def test_paths_without_a_label_are_a_warning_where_they_are_few():
    paths = texts("a-1", "b-2", "c")
    fields = read_fields("(?P<label>.)-", paths)
    [problem] = unmatched_paths("P", fields, paths, "data")
    assert problem.severity == "warning"
    assert "no label in 1 of 3 paths, such as 'c'" in problem.message
    [problem] = unmatched_paths("P", read_fields("(?P<label>a)", paths), paths, "data")
    assert problem.severity == "error"
    assert unmatched_paths("P", read_fields("(?P<label>.)", paths), paths, "data") == []


def test_paths_with_a_label_and_no_group_are_an_error():
    paths = texts("a-x", "b-", "-y")
    [problem] = missing_groups(read_fields("(?P<label>[ab]?)-(?P<group>.?)", paths), paths, "data")
    assert (problem.severity, "1 of 3 paths, such as 'b-'" in problem.message) == ("error", True)
    assert missing_groups(read_fields("(?P<label>.)", paths), paths, "data") == []
