import pytest

from inkfold.audit.fix import check_fix_file, propose
from inkfold.errors import DataError, ExportError
from inkfold.storage.hashing import digest_file


def group(*members, conflict=False, kind="within"):
    names = ("part", "image_path", "class_name")
    return {"kind": kind, "conflict": conflict, "members": [dict(zip(names, member, strict=True)) for member in members]}


def proposed(folder, groups=(), doubtful=()):
    issues = [{"image_path": path, "given": "fish", "suggested": "apple", "doubt": 0.987} for path in doubtful]
    files = {}
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(name.encode())
        files[name] = str(folder / name)
    return propose({"labels": {"doubtful": issues}, "duplicates": {"groups": list(groups)}}, files)


def test_a_doubtful_label_becomes_a_row_that_names_the_files_bytes(tmp_path):
    [row] = proposed(tmp_path, doubtful=["a"])
    assert (row["image_path"], row["class_name"], row["suggested"], row["doubt"]) == ("a", "fish", "apple", "0.99")
    assert row["proposal"] == "relabel"
    assert row["digest"] == f"b2:{digest_file(tmp_path / 'a')}"


def test_what_is_trained_on_and_evaluated_on_is_proposed_to_be_dropped(tmp_path):
    leak = group(("train", "a", "fish"), ("test", "t", None), kind="leak")
    [row] = proposed(tmp_path, [leak])
    assert (row["image_path"], row["proposal"]) == ("a", "drop")
    assert "copy of the test drawing t" in row["reason"]


def test_copies_with_different_labels_get_the_label_of_most_or_a_look(tmp_path):
    most = group(("train", "a", "fish"), ("train", "b", "fish"), ("train", "c", "apple"), conflict=True, kind="across")
    [row] = proposed(tmp_path, [most])
    assert (row["image_path"], row["suggested"], row["proposal"]) == ("c", "fish", "relabel")
    tie = group(("train", "a", "fish"), ("train", "c", "apple"), conflict=True, kind="across")
    rows = proposed(tmp_path, [tie])
    assert [(row["image_path"], row["suggested"], row["proposal"]) for row in rows] == [
        ("a", "apple", "look"),
        ("c", "fish", "look"),
    ]


def test_several_findings_of_a_drawing_stand_in_one_row(tmp_path):
    leak = group(("train", "a", "fish"), ("test", "t", None), kind="leak")
    [row] = proposed(tmp_path, [leak], ["a"])
    assert row["proposal"] == "drop"
    assert row["reason"].startswith("all models doubt the label; copy of the test drawing")


def test_a_file_that_can_not_be_a_table_of_decisions_is_refused_before_the_work(tmp_path):
    with pytest.raises(ExportError, match=r"ends in \.csv"):
        check_fix_file(tmp_path / "fix.xlsx")
    (tmp_path / "train.csv").write_text("image_path,target\n")
    with pytest.raises(DataError, match="'decision'"):
        check_fix_file(tmp_path / "train.csv")
