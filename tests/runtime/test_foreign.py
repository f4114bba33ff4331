import os

import pytest

from inkfold.runtime.foreign import parse_json, read_whole


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
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000 + "]" * 100_000)
    assert parse_json('{"a": [1]}') == {"a": [1]}
