import os

import pytest
import yaml

from inkfold.runtime.foreign import parse_json, parse_yaml, read_whole

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))


def test_a_file_is_read_whole_also_through_a_link(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 100)
    (tmp_path / "b").symlink_to("a")
    assert read_whole(tmp_path / "b") == b"x" * 100
    with pytest.raises(OSError, match="has 100 bytes, expected at most 99"):
        read_whole(tmp_path / "a", 99)


@pytest.mark.skipif(os.name == "nt", reason="there are no pipes and devices among files")
def test_what_never_ends_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(OSError, match="is no regular file"):
            read_whole(path)
    with pytest.raises(OSError, match="directory"):
        read_whole(tmp_path)


def test_nesting_without_bottom_is_refused():
    for parse in (parse_json, parse_yaml):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse("[" * 100_000 + "]" * 100_000)
    assert parse_json('{"a": [1]}') == parse_yaml("a: [1]") == {"a": [1]}


def test_names_that_stand_for_billions_of_values_are_refused():
    for text in (BOMB, "a: &a [*a]\n"):
        with pytest.raises(ValueError, match="stands for more than 1,000,000 values"):
            parse_yaml(text)
    assert parse_yaml("a: &a [1, 2]\nb: *a\n") == {"a": [1, 2], "b": [1, 2]}
    assert parse_yaml("") is None
    with pytest.raises(yaml.YAMLError):
        parse_yaml("!!python/object/apply:os.system [ls]")
