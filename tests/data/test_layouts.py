import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inkfold.data.dataset import DataOptions, read_dataset
from inkfold.errors import DataError
from toy_tables import TRAIN, competition, errors, kinds, put


def test_paths_may_start_at_the_root(tmp_path):
    competition(
        tmp_path,
        "class_name,image_path\ncat,train/cat/1.png\ndog,train/dog/1.png\n",
        "image_path\ntest/a.png\n",
    )
    data = read_dataset(str(tmp_path))
    assert len(data.train) == 2
    assert data.test.image_paths.tolist() == ["test/a.png"]


def test_windows_paths_and_other_unicode_forms_are_found_and_kept_to_the_letter(tmp_path):
    name = unicodedata.normalize("NFD", "고양이")
    put(tmp_path, f"train/{unicodedata.normalize('NFC', name)}/1.PNG", "train/dog/1.png")
    (tmp_path / "train.csv").write_text(f"class_name,image_path\n{name},{name}\\1.PNG\ndog,dog\\1.png\n")
    data = read_dataset(tmp_path)
    assert data.class_names == ("dog", "고양이")
    assert data.train.image_paths[0] == f"{name}\\1.PNG"
    assert Path(data.train.files[0]).is_file()
    assert data.test is None


def test_without_a_test_table_the_test_folder_is_listed(tmp_path):
    data = read_dataset(competition(tmp_path, test=None))
    assert data.test.image_paths.tolist() == ["a.png", "b.png"]


@pytest.mark.parametrize("layout", ["competition", "folder"])
def test_a_file_for_a_layout_of_directories_is_refused(tmp_path, layout):
    (tmp_path / "t.csv").write_text(TRAIN)
    with pytest.raises(DataError, match="expected a directory"):
        read_dataset(tmp_path / "t.csv", DataOptions(layout=layout))


def test_the_layout_table_needs_a_table(tmp_path):
    with pytest.raises(DataError, match="which table"):
        read_dataset(tmp_path, DataOptions(layout="table"))


def test_a_file_that_is_no_table_is_refused(tmp_path):
    put(tmp_path, "a.zip")
    assert errors(tmp_path / "a.zip") == ["unknown_table_format"]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ("cat,cat/9.png,0", "missing_file"),
        ("cat,../../x.png,0", "outside_root"),
        ("dog,/etc/passwd,1", "outside_root"),
        ("cat,,0", "empty_cell"),
        (",cat/2.png,0", "empty_cell"),
        ("cat,cat/2.png,", "empty_cell"),
        ("cat,cat/2.png,x", "non_integer_target"),
        ("cat,cat/2.png,0.5", "non_integer_target"),
        ("cat,cat/2.png,-1", "negative_target"),
        ("cat,cat/2.png,7", "name_with_two_targets"),
        ("cow,cat/2.png,0", "target_with_two_names"),
        ("dog,cat/1.png,1", "conflicting_labels"),
        ("dog,cat/1.png", "ragged_row"),
    ],
)
def test_a_bad_training_row_is_an_error(tmp_path, row, kind):
    competition(tmp_path, "class_name,image_path,target\ncat,cat/1.png,0\ndog,dog/1.png,1\n" + row + "\n")
    assert errors(tmp_path) == [kind]


def test_class_names_and_targets_may_not_both_be_absent(tmp_path):
    competition(tmp_path, "label,image_path\ncat,cat/1.png\ndog,dog/1.png\n")
    assert errors(tmp_path) == ["missing_column"]
    assert read_dataset(tmp_path, DataOptions(label_column="label")).class_names == ("cat", "dog")


def test_gaps_in_targets_are_warned_of_and_kept_as_values(tmp_path):
    competition(tmp_path, "image_path,target\ncat/1.png,3\ndog/1.png,9\n")
    data = read_dataset(tmp_path)
    assert kinds(data.problems) == ["target_gaps"]
    assert data.class_targets.tolist() == [3, 9]
    assert data.train.targets.tolist() == [0, 1]


def test_repeated_training_rows_are_dropped_with_a_warning(tmp_path):
    data = read_dataset(competition(tmp_path, TRAIN + "cat,cat/1.png,0\ncat,cat\\1.png,0\n"))
    assert [(p.kind, p.where) for p in data.problems] == [
        ("duplicate_row", "train.csv row 4"),
        ("duplicate_row", "train.csv row 5"),
    ]
    assert len(data.train) == 3


def test_repeated_test_rows_are_kept_with_a_warning(tmp_path):
    test, sample = "image_path\nb.png\na.png\nb.png\n", "ID,image_path,target\n0,b.png,0\n1,a.png,0\n2,b.png,0\n"
    data = read_dataset(competition(tmp_path, test=test, sample=sample))
    assert kinds(data.problems) == ["duplicate_test_row"]
    assert data.test.image_paths.tolist() == ["b.png", "a.png", "b.png"]
    assert data.sample_submission.ids.tolist() == ["0", "1", "2"]


def test_skipping_drops_broken_training_rows_and_keeps_test_rows(tmp_path):
    competition(tmp_path, TRAIN + "cow,cow/1.png,2\n", "image_path\nz.png\na.png\n")
    assert errors(tmp_path) == ["missing_file", "missing_file"]
    data = read_dataset(tmp_path, DataOptions(on_broken="skip"))
    assert [(p.kind, p.severity) for p in data.problems] == [("missing_file", "warning")] * 2
    assert data.train.image_paths.tolist() == ["cat/1.png", "dog/1.png", "cat/2.png"]
    assert data.test.image_paths.tolist() == ["z.png", "a.png"]
    assert [bool(file) for file in data.test.files] == [False, True]
    assert data.class_names == ("cat", "dog", "cow")


def test_skipping_never_reads_outside_the_root(tmp_path):
    put(tmp_path, "out.png")
    competition(tmp_path / "in", test="image_path\n../../out.png\na.png\n")
    assert errors(tmp_path / "in", on_broken="skip") == ["outside_root"]


def test_any_parquet_table_reads_with_its_columns_named(tmp_path):
    put(tmp_path, "a.png", "b.png", "c.png")
    columns = {"file": ["a.png", "b.png", "c.png"], "label": [10, 2, 10], "artist": ["x", "y", "x"], "junk": [1, 2, 3]}
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    options = DataOptions(path_column="file", label_column="label", group_column="artist")
    data = read_dataset(tmp_path / "d.parquet", options)
    assert data.layout == "table"
    assert data.root == tmp_path.resolve()
    assert data.class_names == ("2", "10")
    assert data.class_targets.tolist() == [2, 10]
    assert data.train.groups.tolist() == ["x", "y", "x"]


def test_a_named_table_starts_at_its_own_folder_or_at_the_image_root(tmp_path):
    put(tmp_path, "meta/a.png", "meta/b.png", "images/c.png", "images/d.png")
    (tmp_path / "meta/t.csv").write_text("image_path,class_name\na.png,x\nb.png,y\n")
    (tmp_path / "u.csv").write_text("image_path,class_name\nd.png,x\nc.png,y\n")
    assert len(read_dataset(tmp_path, DataOptions(table="meta/t.csv")).train) == 2
    options = DataOptions(table="u.csv", test_table="u.csv", image_root="images")
    data = read_dataset(tmp_path, options)
    assert len(data.train) == 2
    assert data.test.targets.tolist() == [0, 1]


def test_a_named_table_is_read_in_a_competitions_root_too(tmp_path):
    competition(tmp_path)
    (tmp_path / "part.csv").write_text("class_name,image_path\nx,cat/1.png\ny,dog/1.png\n")
    assert read_dataset(tmp_path, DataOptions(table="part.csv")).class_names == ("x", "y")


def test_a_missing_or_empty_group_is_an_error(tmp_path):
    competition(tmp_path, "class_name,image_path,artist\ncat,cat/1.png,x\ndog,dog/1.png,y\ncat,cat/2.png, \n")
    assert errors(tmp_path, group_column="artist") == ["empty_cell"]
    assert errors(tmp_path, group_column="photo") == ["missing_column"]


def test_a_linked_table_starts_where_the_link_is(tmp_path):
    put(tmp_path, "data/a.png", "data/b.png")
    (tmp_path / "t.csv").write_text("image_path,class_name\na.png,x\nb.png,y\n")
    (tmp_path / "data/t.csv").symlink_to(tmp_path / "t.csv")
    assert len(read_dataset(tmp_path / "data/t.csv").train) == 2


def test_a_file_with_several_labels_in_three_rows_is_left_out_whole(tmp_path):
    competition(tmp_path, TRAIN + "dog,cat/1.png,1\ncat,cat/1.png,0\n")
    data = read_dataset(tmp_path, strict=False)
    assert kinds(data.problems) == ["conflicting_labels", "duplicate_row"]
    assert data.train.image_paths.tolist() == ["dog/1.png", "cat/2.png"]
