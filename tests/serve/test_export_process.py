import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from inkfold.serve import export_process
from inkfold.serve.export_process import EXIT_TERMINATED, run_export

EXPORT = """
import sys
print("a warning", file=sys.stderr)
for done in range(1, 4):
    print(f"decoding: {done}/3", file=sys.stderr)
print(*sys.argv[2:], file=sys.stderr)
sys.exit(3)
"""
WAITING = """
import sys
from pathlib import Path
from inkfold.serve import export_process
export_process.sys.executable = sys.argv[1]
export_process.run_export([], lambda *report: print(*report, flush=True))
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Stands in for Python, whose `-m inkfold export` takes seconds to start."""

    def write(text):
        file = tmp_path / "program"
        file.write_text(f"#!{sys.executable}\n{text}")
        file.chmod(0o755)
        monkeypatch.setattr(export_process.sys, "executable", str(file))
        return file

    return write


@pytest.mark.skipif(os.name == "nt", reason="a text file can't stand in for Python there")
def test_progress_is_passed_on_and_other_lines_are_kept(program):
    program(EXPORT)
    reports = []
    done = run_export(["RUN"], lambda *report: reports.append(report))
    assert reports == [("decoding", done, 3) for done in (1, 2, 3)]
    assert (done.returncode, done.stderr) == (3, "a warning\ninkfold export RUN\n")


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM ends a process at once there")
def test_sigterm_ends_the_export_too(program):
    python = sys.executable
    file = program("import os, sys, time\nprint(f'{os.getpid()}: 1/2', file=sys.stderr, flush=True)\ntime.sleep(600)\n")
    with subprocess.Popen([python, "-c", WAITING, str(file)], stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline().split()[0])
        process.terminate()
        assert process.wait(60) == EXIT_TERMINATED
    with contextlib.suppress(ProcessLookupError):
        for _ in range(600):
            os.kill(child, 0)
            time.sleep(0.1)
        pytest.fail("the export still runs")


def test_the_usual_handling_of_sigterm_comes_back(program):
    program("")
    before = signal.getsignal(signal.SIGTERM)
    run_export([], print)
    assert signal.getsignal(signal.SIGTERM) is before
