"""Processes of their own without the five seconds of computing that importing PyTorch and timm costs each time.

A parent process imports them once per worker and starts no thread; each job is a fork of it with its own arguments,
environment, working directory and output.
"""

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

INKFOLD = "import runpy; runpy.run_module('inkfold', run_name='__main__', alter_sys=True)"
LIMIT_S = 300
PARENT = """
import json, os, signal, sys
from inkfold.models.torchvision_compat import declare_missing_operators
declare_missing_operators()
import timm, torch._dynamo, torch.distributed.tensor
import inkfold.cli.main, inkfold.pipeline.train, inkfold.finetune.train_folds, inkfold.ensemble.build

def run(job):
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    for descriptor, path in ((1, job["out"]), (2, job["err"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.alarm(job["limit_s"])
    sys.argv = job["argv"]
    exec(compile(job["code"], "<job>", "exec"), {"__name__": "__main__"})

for line in sys.stdin:
    children = []
    for job in json.loads(line):
        children.append(os.fork())
        if not children[-1]:
            run(job)  # the interpreter then ends as it would after a script, or with SystemExit or a traceback
            sys.exit()
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True)
"""


@dataclass(frozen=True)
class Done:
    """How a process ended and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


@functools.cache
def _parent() -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", PARENT]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    atexit.register(parent.communicate)
    return parent


def run_together(*jobs: dict[str, object]) -> list[Done]:
    """Run jobs at once, each a dictionary of `code`, its `argv`, `env` and `cwd`, and wait for all of them."""
    with tempfile.TemporaryDirectory() as place:
        outputs = [{name: str(Path(place, f"{name}{i}")) for name in ("out", "err")} for i in range(len(jobs))]
        lines = [{"limit_s": LIMIT_S, **job, **output} for job, output in zip(jobs, outputs, strict=True)]
        parent = _parent()
        parent.stdin.write(json.dumps(lines) + "\n")
        parent.stdin.flush()
        codes = json.loads(parent.stdout.readline())
        return [
            Done(code, *(Path(path).read_text(encoding="utf-8") for path in output.values()))
            for code, output in zip(codes, outputs, strict=True)
        ]
