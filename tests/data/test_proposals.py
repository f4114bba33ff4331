import re

import pytest

from inkfold.data.dataset import DataOptions, read_dataset
from toy_tables import put


def proposals(root, **options):
    problems = read_dataset(root, DataOptions(**options), strict=False).problems
    return [problem.message for problem in problems if problem.kind == "proposal"]


def write_table(path, rows, header="file,word"):
    path.write_text(header + "\n" + "".join(f"{a},{b}\n" for a, b in rows))


@pytest.mark.parametrize("folder", ["", "train/", "images/"])
def test_labels_in_file_names_are_proposed_and_the_proposal_reads_them(tmp_path, folder):
    put(tmp_path, *[f"{folder}{name}_{i}.png" for name in ("cat", "dog") for i in range(6)], "test/1.png")
    [message] = proposals(tmp_path)
    pattern = re.search("`data.label_pattern=(.*?)` for 2 classes", message).group(1)
    data = read_dataset(tmp_path, DataOptions(label_pattern=pattern))
    assert data.class_names == ("cat", "dog")
    assert len(data.train) == 12


@pytest.mark.parametrize("table", ["labels.csv", "images/labels.csv", "../labels.csv"])
def test_a_table_of_the_drawings_is_proposed_and_the_proposal_reads_it(tmp_path, table):
    root = tmp_path / "set"
    put(root, *[f"images/{i}.png" for i in range(8)])
    write_table(root / table, [(f"{i}.png", "ab"[i % 2]) for i in range(8)])
    messages = proposals(root if table[0] != "." else root / "images")
    if table[0] == ".":
        write_table(root / "labels.csv", [(f"{i}.png", "ab"[i % 2]) for i in range(8)])
        messages = proposals(root / "images")
    words = dict(word.split("=", 1) for word in re.search("`(.*)`", messages[0]).group(1).split())
    options = DataOptions(**{key.removeprefix("data."): value for key, value in words.items() if key != "data"})
    assert read_dataset(words["data"], options).class_names == ("a", "b")


def test_a_competition_in_a_subfolder_and_a_table_of_semicolons_are_pointed_out(tmp_path):
    put(tmp_path, "set/train/1.png", "set/train/2.png")
    write_table(tmp_path / "set/train.csv", [("1.png", "a"), ("2.png", "b")], "image_path,class_name")
    (tmp_path / "x.csv").write_text("file;word\n1.png;a\n")
    messages = proposals(tmp_path)
    assert f"holds a `train.csv`: `data={tmp_path / 'set'}`." in messages
    assert any("separated by commas" in message for message in messages)


def test_a_table_with_other_labels_than_the_folders_is_pointed_out(tmp_path):
    paths = [f"shard{k}/{i}.png" for k in "AB" for i in range(4)]
    put(tmp_path, *paths)
    write_table(tmp_path / "labels.csv", [(path, "xy"[i % 2]) for i, path in enumerate(paths)])
    [message] = proposals(tmp_path)
    assert "`data=" in message
    assert proposals(tmp_path, layout="folder") == []
    write_table(tmp_path / "labels.csv", [(path, path[:6]) for path in paths])
    assert proposals(tmp_path) == []


def test_words_in_the_files_of_peoples_folders_are_pointed_out(tmp_path):
    put(tmp_path, *[f"user{u}/{name}_{i}.png" for u in range(3) for name in ("cat", "dog") for i in range(3)])
    [message] = proposals(tmp_path)
    assert "for 2 classes ('cat', 'dog'), drawn by 3 ('user0', 'user1', 'user2')" in message
    assert proposals(tmp_path, class_level=1) == []


def test_ordinary_class_folders_get_no_proposal(tmp_path):
    put(tmp_path, *[f"{name}/train_{i}.png" for name in "0123" for i in range(4)])
    assert proposals(tmp_path) == []
