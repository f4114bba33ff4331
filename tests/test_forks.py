import os
import signal
import subprocess
import sys

import pytest

import forks
from forks import Process, run_together
from toy import job_of, run_code


def test_a_fork_has_its_own_arguments_environment_directory_and_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "import os, sys; print(sys.argv[1:], os.environ['WHERE'], os.getcwd()); sys.exit('bad')"
    first, second = run_together(job_of(code, 1, WHERE="a"), job_of("raise OSError('full')"))
    assert (first.returncode, first.stdout, first.stderr) == (1, f"['1'] a {tmp_path}\n", "bad\n")
    assert second.returncode == 1
    assert second.stderr.endswith("OSError: full\n")


def test_a_killed_fork_is_seen_as_killed():
    assert run_together(job_of("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))[0].returncode == -9
    with pytest.raises(AssertionError):
        run_code("raise SystemExit(3)")


def test_warnings_are_errors_in_forks_too():
    assert "UserWarning: x" in run_together(job_of("import warnings; warnings.warn('x')"))[0].stderr


def test_the_parent_of_forks_has_one_thread():
    assert run_code("import os; print(len(os.listdir(f'/proc/{os.getppid()}/task')))") == "1"


def test_a_process_beside_the_test_is_heard_and_can_be_stopped():
    with Process(job_of("import os, time; print(os.getpid(), flush=True); time.sleep(300)")) as process:
        assert process.stdout.readline() == f"{process.pid}\n"
        assert run_code("print(1)") == "1", "others run beside it"
        assert process.kill() == -signal.SIGKILL
        assert process.stdout.read() == ""


def test_a_launchers_worker_runs_the_command_line_in_a_fork():
    done = subprocess.run(
        [sys.executable, forks.__file__, "--version"], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.startswith("inkfold ")


def test_the_server_outlives_users_that_leave_before_their_processes_end():
    for _ in range(3):
        with Process(job_of("import time; time.sleep(60)")):
            pass
    assert run_code("print(1)") == "1"
