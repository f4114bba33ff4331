import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inkfold.data.dataset import DataOptions, read_dataset
from inkfold.errors import DataError
from toy_tables import TRAIN, competition, errors, kinds, put, warnings


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


def test_folders_are_classes_in_code_point_order(tmp_path):
    put(tmp_path, "b/1.png", "B/1.PNG", "é/deep/er/1.jpg", "._b/1.png", "b/._1.png", "b/Thumbs.db")
    data = read_dataset(tmp_path)
    assert data.layout == "folder"
    assert data.class_names == ("B", "b", "é")
    assert data.train.image_paths.tolist() == ["B/1.PNG", "b/1.png", "é/deep/er/1.jpg"]
    assert data.train.targets.tolist() == [0, 1, 2]
    assert all(Path(file).is_file() for file in data.train.files)
    assert (data.train.given_val, data.test, data.problems) == (None, None, ())


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_a_validation_part_joins_training_and_is_marked(tmp_path, val):
    put(tmp_path, "train/a/1.png", "train/b/1.png", f"{val}/a/2.png", f"{val}/b/1.png", "test/y.png", "test/x.png")
    data = read_dataset(tmp_path)
    assert data.train.image_paths.tolist() == ["a/1.png", "b/1.png", f"{val}/a/2.png", f"{val}/b/1.png"]
    assert data.train.given_val.tolist() == [False, False, True, True]
    assert data.train.targets.tolist() == [0, 1, 0, 1]
    assert data.test.image_paths.tolist() == ["x.png", "y.png"]
    assert data.test.targets is None
    assert data.problems == ()


def test_names_of_a_validation_part_are_its_own_where_all_of_them_differ(tmp_path):
    put(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/2.png", "val/b/3.png")
    assert read_dataset(tmp_path).train.image_paths.tolist() == ["a/1.png", "b/1.png", "a/2.png", "b/3.png"]


def test_test_class_folders_give_targets(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png", "test/b/1.png", "test/a/1.png")
    data = read_dataset(tmp_path)
    assert data.class_names == ("a", "b")
    assert data.test.targets.tolist() == [0, 1]


def test_test_folders_that_are_partly_classes_give_no_targets_and_a_warning(tmp_path):
    put(tmp_path, "train/a/1.png", "train/b/1.png", "test/b/1.png", "test/zebra/1.png")
    data = read_dataset(tmp_path)
    assert kinds(data.problems) == ["test_classes"]
    assert data.test.targets is None


def test_folder_names_that_are_whole_numbers_are_ordered_as_numbers(tmp_path):
    put(tmp_path, "0/1.png", "1/1.png", "2/1.png", *[f"{i}/1.png" for i in range(3, 11)])
    data = read_dataset(tmp_path)
    assert data.class_names == tuple(str(i) for i in range(11))


def test_folders_of_one_name_in_two_unicode_forms_merge_with_a_warning(tmp_path):
    put(tmp_path, "caf\u00e9/1.png", "cafe\u0301/2.png", "tea/1.png")
    data = read_dataset(tmp_path)
    assert kinds(data.problems) == ["merged_folders"]
    assert data.class_names == ("caf\u00e9", "tea")
    assert np.bincount(data.train.targets).tolist() == [2, 1]


def test_images_in_no_class_folder_and_other_files_are_each_one_warning(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png", "loose.png", "notes.txt", "empty/readme.md")
    assert warnings(tmp_path) == ["not_an_image", "image_without_class"]


def test_a_linked_class_folder_outside_is_refused(tmp_path):
    put(tmp_path, "out/1.png", "in/a/1.png", "in/b/1.png")
    (tmp_path / "in/c").symlink_to(tmp_path / "out")
    assert errors(tmp_path / "in") == ["outside_root"]


def test_a_group_column_is_refused_for_folders(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png")
    assert errors(tmp_path, group_column="artist") == ["missing_column"]
