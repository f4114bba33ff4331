import pytest

from forks import run_together
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
