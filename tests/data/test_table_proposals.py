import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inkfold.data.dataset import DataOptions, read_dataset
from inkfold.data.table_proposals import propose_table, tables_near
from toy_tables import put


@pytest.fixture
def root(tmp_path):
    put(tmp_path, *[f"images/{i:02d}.png" for i in range(12)])
    return tmp_path


def rows(suffix=".png"):
    return [(f"{i:02d}{suffix}", "cat dog owl".split()[i % 3], f"user{i % 4}", i) for i in range(12)]  # noqa: SIM905


def write(path, header="file,word,who,n", suffix=".png"):
    path.write_text(header + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows(suffix)))
    return path


def test_the_columns_of_paths_and_labels_are_found_by_their_cells(root):
    table = write(root / "list.csv", "a,b,c,d")
    proposal = propose_table(table, (root, root / "images"), root)
    assert (proposal.path, proposal.label, proposal.labels) == ("a", "b", ("cat", "dog", "owl"))
    assert (proposal.found, proposal.probed) == (12, 12)
    assert proposal.settings() == f"data={table} data.path_column=a data.label_column=b data.image_root=images"


def test_a_labels_name_counts_more_than_its_place_and_a_groups_less(root):
    assert propose_table(write(root / "t.csv", "file,x,category,n"), (root / "images",), root).label == "category"
    table = root / "u.csv"
    table.write_text("user,file,thing\n" + "".join(f"u{i % 2},{i:02d}.png,t{i % 3}\n" for i in range(12)))
    assert propose_table(table, (root / "images",), root).label == "thing"


def test_parquet_is_proposed_too_and_odd_columns_are_left_out(root):
    paths, labels, *_ = zip(*rows(), strict=True)
    columns = {"bytes": [b"\xff"] * 12, "nested": [{"a": 1}] * 12, "img": list(paths), "label": list(labels)}
    pq.write_table(pa.table(columns), root / "d.parquet")
    proposal = propose_table(root / "d.parquet", (root / "images",), root)
    assert (proposal.path, proposal.label) == ("img", "label")


def test_a_file_that_is_no_table_proposes_nothing(root):
    (root / "x.parquet").write_bytes(b"no")
    (root / "y.csv").write_bytes(b"\xff\x00\x81")
    assert propose_table(root / "x.parquet", (root,), root) is None
    assert propose_table(root / "y.csv", (root,), root) is None


def test_tables_are_looked_for_in_the_folder_below_it_and_beside_it(root):
    for name in ("a.csv", "images/b.csv", "images/.hidden.csv"):
        (root / name).write_text("x\n")
    assert [table.name for table, _, _ in tables_near(root)][:2] == ["a.csv", "b.csv"]
    assert "a.csv" in [table.name for table, _, _ in tables_near(root / "images")]


def test_all_missing_columns_are_named_at_once_each_with_the_one_that_is_meant(root):
    data = read_dataset(write(root / "t.csv"), DataOptions(group_column="artist"), strict=False)
    messages = [problem.message for problem in data.problems if problem.kind == "missing_column"]
    assert [message.partition(";")[0] for message in messages] == [
        "no column 'image_path'",
        "no column 'artist'",
        "no column 'class_name' or 'target'",
    ]
    assert "`data.path_column=file`, 12 of the first 12 paths" in messages[0]
    assert "`data.image_root=images`" in messages[0]
    assert "`folds.group_column=who`" in messages[1]
    assert "`data.label_column=word`, 3 values in its first rows ('cat', 'dog', 'owl')" in messages[2]


def test_ids_without_a_suffix_are_recognised(root):
    data = read_dataset(write(root / "t.csv", "id,class_name,who,n", suffix=""), strict=False)
    assert "`data.path_column=id`, whose values are files' names without '.png'" in data.problems[0].message


def test_the_folder_that_paths_start_from_is_proposed(root):
    data = read_dataset(write(root / "t.csv", "image_path,class_name,who,n"), strict=False)
    assert "`data.image_root=images`" in next(p for p in data.problems if p.kind == "proposal").message
