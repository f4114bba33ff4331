import pytest

from shared import SharedDirectories


def fill(directory):
    (directory / "a").write_text("whole")


def test_a_shared_directory_is_made_once_and_again_where_making_it_failed(tmp_path):
    def fail(directory):
        (directory / "half").write_text("")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        SharedDirectories(tmp_path).get("x", fail)
    directory = SharedDirectories(tmp_path).get("x", fill)
    assert [path.name for path in directory.iterdir()] == ["a"]
    assert SharedDirectories(tmp_path).get("x", fail) == directory, "another worker finds it"


@pytest.mark.parametrize(
    "change", [lambda d: (d / "a").write_text("other"), lambda d: (d / "b").touch(), lambda d: (d / "a").unlink()]
)
def test_a_test_that_writes_into_a_shared_directory_is_found(tmp_path, change):
    shared = SharedDirectories(tmp_path)
    directory = shared.get("x", fill)
    shared.check()
    change(directory)
    with pytest.raises(AssertionError, match="changed"):
        shared.check()
