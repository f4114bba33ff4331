import os
import subprocess
import sys
import time

from inkfold.storage.temporary import PREFIX, is_temporary, temporary_directory

MAKE = """
import os, sys
from pathlib import Path
from inkfold.storage.temporary import temporary_directory

place = temporary_directory()
(place / "file").write_text("x")
if not os.fork():
    sys.exit()
os.wait()
assert place.is_dir(), "a child leaves its parent's directories alone"
print(place)
"""


def test_a_directory_goes_with_its_process(tmp_path):
    variables = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", MAKE], capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith(str(tmp_path / PREFIX))
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_goes_a_week_later(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    old, new = tmp_path / f"{PREFIX}old", tmp_path / f"{PREFIX}new"
    old.mkdir()
    new.mkdir()
    then = time.time() - 8 * 24 * 3600
    os.utime(old, (then, then))
    place = temporary_directory()
    assert (old.exists(), new.exists()) == (False, True)
    assert is_temporary(place / "run")
    assert not is_temporary(tmp_path)
