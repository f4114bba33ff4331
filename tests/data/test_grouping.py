import pytest

from inkfold.data.dataset import read_dataset
from inkfold.data.types import DataOptions
from inkfold.errors import DataError

CLASSES = ("circle", "square")


def put(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")


@pytest.fixture
def photos(tmp_path):
    put(tmp_path, *[f"{name}/photo{p}-{j}.png" for name in CLASSES for p in range(6) for j in (1, 2)])
    return tmp_path


@pytest.fixture
def table(tmp_path):
    put(tmp_path, *[f"img/{i}.png" for i in range(24)])
    rows = [f"img/{i}.png,{CLASSES[i % 2]},person {i // 2 % 6} {i}" for i in range(24)]
    (tmp_path / "t.csv").write_text("\n".join(["image_path,class_name,drawn", *rows]) + "\n")
    return tmp_path / "t.csv"


def groups(data):
    return data.train.groups.tolist()


def named(data, **options):
    return read_dataset(data, DataOptions(**options))


def test_names_that_suggest_groups_are_used_without_a_key_and_said_with_it(photos):
    data = read_dataset(photos)
    assert data.train.groups is None
    assert len({*data.train.proposed_groups.tolist()}) == 12
    assert data.grouping.proposed
    [problem] = data.problems
    assert (problem.kind, problem.severity) == ("groups_suggested", "warning")
    assert f"`{data.grouping.key}`" in problem.message
    assert "12 groups of 24 drawings in all" in problem.message
    key, _, pattern = data.grouping.key.partition("=")
    assert key == "folds.group_pattern"
    again = named(photos, group_pattern=pattern)
    assert groups(again) == data.train.proposed_groups.tolist()
    assert again.problems == ()


def test_proposed_groups_can_be_declined(photos):
    data = named(photos, group_pattern="none")
    assert (data.train.all_groups, data.grouping, data.problems) == (None, None, ())


@pytest.mark.parametrize("pattern", ["(?P<group>photo[0-9])-(.)", "(photo[0-9])", "photo[0-9]"])
def test_a_named_group_the_first_group_or_the_whole_match_is_the_group(photos, pattern):
    data = named(photos, group_pattern=pattern)
    assert {*groups(data)} == {f"photo{i}" for i in range(6)}
    assert data.grouping.key == f"folds.group_pattern={pattern}"


def test_the_expression_sees_the_path_below_the_root_with_its_part(tmp_path):
    put(tmp_path, *[f"train/{name}/{who}-1.png" for name in CLASSES for who in "abc"])
    assert {*groups(named(tmp_path, group_pattern="^train/.*/(.)-"))} == {*"abc"}


def test_paths_without_a_match_are_groups_of_their_own_and_counted(photos):
    data = named(photos, group_pattern="(photo[0-4])-")
    [problem] = data.problems
    assert (problem.kind, problem.severity) == ("group_pattern", "warning")
    assert "finds no group in 4 of 24 paths, such as 'circle/photo5-1.png'" in problem.message
    assert len({*groups(data)}) == 5 + 4


def test_an_expression_that_fits_few_paths_is_an_error(photos):
    with pytest.raises(DataError, match="finds no group in 20 of 24 paths"):
        named(photos, group_pattern="(photo0)-")


def test_a_label_pattern_and_a_group_pattern_may_not_both_name_groups(photos):
    with pytest.raises(DataError, match="Leave one of them out"):
        named(photos, label_pattern="(?P<label>.*)/(?P<group>.*)-", group_pattern="(.*)-")
    both = named(photos, label_pattern="(?P<label>.*)/", group_pattern="/(.*)-")
    assert {*groups(both)} == {f"photo{i}" for i in range(6)}


def test_an_expression_is_applied_to_a_tables_paths(table):
    assert groups(named(table, group_pattern="([0-9])[.]"))[:3] == ["0", "1", "2"]


def test_an_expression_is_applied_to_the_columns_cells_where_one_is_named(table):
    data = named(table, group_column="drawn", group_pattern="^(person [0-9])")
    assert {*groups(data)} == {f"person {i}" for i in range(6)}
    assert data.grouping.key == "folds.group_column=drawn folds.group_pattern=^(person [0-9])"


def test_a_column_alone_is_taken_as_it_is_and_none_leaves_it(table):
    for pattern in ("auto", "none"):
        assert len({*groups(named(table, group_column="drawn", group_pattern=pattern))}) == 24


def test_a_column_named_as_people_are_is_used_without_a_key(tmp_path):
    put(tmp_path, *[f"img/{i}.png" for i in range(48)])
    rows = [f"img/{i}.png,{CLASSES[i % 2]},{'' if i == 7 else i // 2 % 8}" for i in range(48)]
    (tmp_path / "t.csv").write_text("\n".join(["image_path,class_name,who", *rows]) + "\n")
    data = read_dataset(tmp_path / "t.csv")
    assert data.grouping.key == "folds.group_column=who"
    assert len({*data.train.proposed_groups.tolist()}) == 9
    assert "such as '0' of 'img/0.png'" in data.problems[-1].message


def test_class_folders_take_a_column_of_a_table_beside_them(photos):
    rows = [f"{name}/photo{p}-{j}.png,{'anna' if p < 3 else 'ben'}" for name in CLASSES for p in range(6) for j in (1, 2)]
    (photos / "who.csv").write_text("\n".join(["file,artist", *rows[1:]]) + "\n")
    data = named(photos, group_column="artist")
    assert {*groups(data)} == {"anna", "ben", "without a group: circle/photo0-1.png"}
    assert [(problem.kind, problem.severity) for problem in data.problems if problem.kind == "missing_groups"] == [
        ("missing_groups", "warning")
    ]


def test_a_column_that_class_folders_lack_is_an_error_with_the_expression_that_would_do(photos, tmp_path):
    with pytest.raises(DataError, match=r"no table in or beside them has a column 'artist'") as caught:
        named(photos, group_column="artist")
    pattern = caught.value.problems[0].message.partition("`folds.group_pattern=")[2].partition("`")[0]
    assert len({*groups(named(photos, group_pattern=pattern))}) == 12
    bare = tmp_path / "bare"
    put(bare, "a/1.png", "b/1.png")
    with pytest.raises(DataError, match="find the group in the paths"):
        named(bare, group_column="artist")


def test_fewer_people_than_folds_are_pointed_out_with_the_number_of_folds_that_would_do(tmp_path):
    put(tmp_path, *[f"user{who}/{name}/{i}.png" for who in range(3) for name in CLASSES for i in range(4)])
    data = read_dataset(tmp_path)
    assert data.train.all_groups is None
    assert "`folds.k=3` keeps each in one fold" in data.problems[-1].message
    assert named(tmp_path, num_folds=3).grouping.key == "folds.group_pattern=^([^/]+)/"
