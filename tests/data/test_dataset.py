import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkfold.data.dataset import few_drawings, read_dataset
from inkfold.errors import DataError
from toy_tables import TRAIN, competition, errors, put, warnings


def test_a_competition_reads_whole(tmp_path):
    competition(tmp_path, sample="ID,image_path,target\nT0,b.png,0\nT1,a.png,0\n")
    data = read_dataset(tmp_path)
    assert data.layout == "competition"
    assert data.class_names == ("cat", "dog")
    assert data.class_targets.tolist() == [0, 1]
    assert data.train.image_paths.tolist() == ["cat/1.png", "dog/1.png", "cat/2.png"]
    assert data.train.files[0] == str(tmp_path.resolve() / "train/cat/1.png")
    assert data.train.targets.tolist() == [0, 1, 0]
    assert data.test.image_paths.tolist() == ["b.png", "a.png"]
    assert data.test.targets is data.train.given_val is data.train.groups is None
    assert data.sample_submission.columns == ("ID", "image_path", "target")
    assert data.sample_submission.ids.tolist() == ["T0", "T1"]
    assert data.problems == ()


def test_a_root_that_does_not_exist_is_told(tmp_path):
    with pytest.raises(DataError, match="no such file or directory"):
        read_dataset(tmp_path / "nowhere")


def test_all_errors_are_reported_together_with_their_rows(tmp_path):
    competition(tmp_path, TRAIN + "cat,cat/9.png,0\ncat,cat/1.png,-4\n", "image_path\nz.png\n")
    with pytest.raises(DataError) as caught:
        read_dataset(tmp_path)
    assert [(p.kind, p.where) for p in caught.value.problems] == [
        ("missing_file", "train.csv row 4"),
        ("negative_target", "train.csv row 5"),
        ("missing_file", "test.csv row 1"),
    ]
    assert "cat/9.png" in str(caught.value)


def test_two_unreadable_tables_are_reported_together(tmp_path):
    assert errors(competition(tmp_path, "a,b\n1,2\n", "c\n1\n")) == ["missing_column"] * 3


def test_no_images_and_a_single_class_are_errors(tmp_path):
    assert errors(tmp_path) == ["no_images"]
    put(tmp_path, "a/1.png")
    assert errors(tmp_path) == ["single_class"]


def test_file_names_that_suggest_groups_are_pointed_out(tmp_path):
    put(tmp_path, *[f"{c}/n02_{photo}-{k}.png" for c in "ab" for photo in range(3) for k in (1, 2)])
    assert warnings(tmp_path) == ["groups_suggested"]


def test_plain_sketch_numbers_suggest_no_groups(tmp_path):
    put(tmp_path, *[f"{c}/sketch_{k}.png" for c in "ab" for k in range(6)])
    assert warnings(tmp_path) == []


def test_classes_with_fewer_drawings_than_folds_are_warned_of(tmp_path):
    put(tmp_path, "train/a/1.png", "train/a/2.png", "train/b/1.png", "val/b/1.png", "val/c/1.png")
    data = read_dataset(tmp_path)
    problems = few_drawings(data, 2)
    assert [(p.kind, p.where, p.severity) for p in problems] == [
        ("few_drawings", "class 'b'", "warning"),
        ("class_without_drawings", "class 'c'", "warning"),
    ]


def test_test_targets_without_a_test_part_are_an_error(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png")
    assert errors(tmp_path, test_targets="truth.csv") == ["missing_test"]


@given(order=st.permutations(range(6)))
def test_the_order_of_rows_does_not_change_the_classes(tmp_path_factory, order):
    root = tmp_path_factory.mktemp("rows")
    rows = [f"{name},{name}{k}.png" for name in ("b", "a", "가") for k in (0, 1)]
    put(root, *[row.partition(",")[2] for row in rows])
    (root / "t.csv").write_text("class_name,image_path\n" + "\n".join(rows[i] for i in order) + "\n")
    data = read_dataset(root / "t.csv")
    assert data.class_names == ("a", "b", "가")
    assert [data.class_names[t] for t in data.train.targets] == [path[0] for path in data.train.image_paths]


@given(names=st.sets(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8), min_size=2, max_size=5))
def test_reading_a_reading_written_as_a_table_gives_the_same(tmp_path_factory, names):
    root = tmp_path_factory.mktemp("names")
    rows = [f"{name},{i}.png" for i, name in enumerate(sorted(names))]
    put(root, *[f"{i}.png" for i in range(len(names))])
    (root / "t.csv").write_text("class_name,image_path\n" + "\n".join(rows) + "\n", encoding="utf-8")
    first = read_dataset(root / "t.csv", strict=False)
    written = zip(first.train.image_paths, first.train.targets, strict=True)
    lines = [f"{path},{first.class_names[target]},{first.class_targets[target]}" for path, target in written]
    (root / "u.csv").write_text("image_path,class_name,target\n" + "\n".join(lines) + "\n", encoding="utf-8")
    second = read_dataset(root / "u.csv", strict=False)
    assert second.class_names == first.class_names
    assert second.class_targets.tolist() == first.class_targets.tolist()
    assert second.train.targets.tolist() == first.train.targets.tolist()
