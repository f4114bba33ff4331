import errno
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from inkfold.errors import ExportError
from inkfold.storage.outputs import (
    check_added_file,
    check_output,
    is_special,
    is_standard_output,
    output_file,
    what_to_do,
    write_output,
)

needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root makes devices")


def names(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("existing", [None, "old"])
def test_a_link_stays_a_link_and_its_target_is_written(tmp_path, existing):
    real, first, second = tmp_path / "elsewhere" / "real.csv", tmp_path / "first.csv", tmp_path / "second.csv"
    if existing:
        real.parent.mkdir()
        real.write_text(existing)
    second.symlink_to("elsewhere/real.csv")  # relative to the link, not to the working directory
    first.symlink_to(second)
    check_output(first)
    write_output(first, "new")
    assert (first.is_symlink(), second.is_symlink(), real.is_symlink()) == (True, True, False)
    assert real.read_text() == "new"
    assert names(real.parent) == ["real.csv"]


def test_a_link_to_a_directory_that_is_missing_is_followed_too(tmp_path):
    (tmp_path / "runs").symlink_to("disk/runs")
    write_output(tmp_path / "runs" / "a.csv", "new")
    assert (tmp_path / "runs").is_symlink()
    assert (tmp_path / "disk" / "runs" / "a.csv").read_text() == "new"


def test_a_replaced_file_keeps_its_mode(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("old")
    path.chmod(0o640)
    write_output(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.read_text() == "new"


def test_a_pipe_gets_everything_once_it_is_whole(tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    check_output(pipe)
    assert is_special(pipe)
    with output_file(pipe) as file:
        file.write(b"tail")
        file.seek(0)
        file.write(b"head")
    reader.join()
    assert got == [b"head"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_pipe_whose_reader_has_gone_is_no_error_of_a_file(tmp_path):
    read, write = os.pipe()
    os.close(read)
    try:
        with pytest.raises(BrokenPipeError) as raised:
            write_output(Path(f"/dev/fd/{write}"), b"lost")
        assert raised.value.filename is None
    finally:
        os.close(write)


def test_an_open_file_of_this_process_is_written_where_it_stands(tmp_path):
    with (tmp_path / "log").open("wb", buffering=0) as file:
        file.write(b"before ")
        write_output(Path(f"/dev/fd/{file.fileno()}"), b"new ")
        file.write(b"after")
    assert (tmp_path / "log").read_bytes() == b"before new after"


def test_standard_output_is_written_after_what_was_printed_before(tmp_path):
    code = """
from pathlib import Path
from inkfold.storage.outputs import is_standard_output, write_output
print("printed")
write_output(Path("/dev/stdout"), b"written\\n")
print(is_standard_output(Path("/dev/stdout")), is_standard_output(Path("/dev/null")))
"""
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "printed\nwritten\nTrue False\n"


def test_what_is_no_standard_output_is_none(tmp_path):
    assert not is_standard_output(tmp_path / "absent")


@needs_root
def test_a_device_stays_one_and_a_full_one_is_named(tmp_path):
    null, full, disk = tmp_path / "null", tmp_path / "full", tmp_path / "disk"
    try:
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(full, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
        os.mknod(disk, 0o666 | stat.S_IFBLK, os.makedev(7, 200))
        null.open("wb").close()
    except PermissionError:
        pytest.skip("devices aren't allowed here")
    (tmp_path / "link").symlink_to("null")
    write_output(tmp_path / "link", b"gone")
    assert stat.S_ISCHR(null.lstat().st_mode)
    with pytest.raises(OSError, match=re.escape(f"No space left on device: '{full}'")):
        write_output(full, b"too much")
    with pytest.raises(ExportError, match="is a disk, all of which would be overwritten"):
        write_output(disk, b"never")


def test_what_can_not_be_written_is_refused_before_the_work_by_the_name_that_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").write_text("old")
    Path("link").symlink_to("folder")
    Path("a").symlink_to("b")
    Path("b").symlink_to("a")
    refused = {
        "folder": (errno.EISDIR, "folder"),
        "link": (errno.EISDIR, "link -> folder"),
        "a": (errno.ELOOP, "a"),
        "a/b.csv": (errno.ENOTDIR, "a/b.csv"),
        "file/x/y.csv": (errno.ENOTDIR, "file/x/y.csv"),
        "n" * 300: (errno.ENAMETOOLONG, "n" * 300),
    }
    for name, expected in refused.items():
        for refuse in (check_output, lambda path: write_output(path, b"")):
            with pytest.raises(OSError) as raised:  # noqa: PT011 - compared below
                refuse(Path(name))
            got = (raised.value.errno, raised.value.filename)
            assert got in (expected, (errno.ELOOP, expected[1])), name
    assert names(tmp_path) == ["a", "b", "file", "folder", "link"]
    check_output(Path("new/deep/file.csv"))
    assert not Path("new").exists()


def test_a_directory_without_permission_is_named_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match=r"a\.csv"):
        check_output(tmp_path / "a.csv")


def test_a_socket_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("here")
        with pytest.raises(ExportError, match="here: is a socket"):
            check_output(Path("here"))


def test_a_limit_of_size_leaves_the_old_file_and_names_the_link_and_where_it_leads(tmp_path):
    real, link = tmp_path / "real.csv", tmp_path / "link.csv"
    real.write_text("old")
    link.symlink_to("real.csv")
    code = """
import resource, sys
from pathlib import Path
from inkfold.storage.outputs import write_output
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    write_output(Path(sys.argv[1]), b"x" * 101)
except OSError as error:
    print(error.filename)
"""
    done = subprocess.run([sys.executable, "-c", code, link], capture_output=True, text=True, check=True)
    assert done.stdout == f"{link} -> {real}\n"
    assert real.read_text() == "old"
    assert names(tmp_path) == ["link.csv", "real.csv"]


def test_a_file_added_to_a_run_never_follows_a_link_out_of_it(tmp_path):
    path, outside = tmp_path / "run" / "report.html", tmp_path / "outside"
    path.parent.mkdir()
    check_added_file(path)
    path.symlink_to(outside)
    with pytest.raises(ExportError, match=r"report\.html: is a link to .*outside.*Remove it, or name another"):
        check_added_file(path, "name another")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ExportError, match=r"report\.html: is no plain file"):
        check_added_file(path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.ENAMETOOLONG])
def test_each_refusal_has_advice_of_its_own(code):
    advice = what_to_do(OSError(code, os.strerror(code), "a"))
    assert advice.endswith(".")
    assert advice != what_to_do(OSError("unknown"))
