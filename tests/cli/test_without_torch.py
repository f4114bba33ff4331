"""Reading, checking, voting and reporting need no PyTorch: a stranger who only looks at drawings and runs waits for none."""

import subprocess
import sys
from pathlib import Path

from toy import environment

COMMANDS = """
import sys


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "timm"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Missing())
from inkfold.cli.main import main

here = sys.argv[1]
run = f"{here}/run"
for command in (
    ["recipes"],
    ["check", f"{here}/data"],
    ["report", run, "--out", "report.html"],
    ["vote", run, f"{run}/predictions", "--out", "vote"],
    ["cache"],
):
    print(command[0], main(command), file=sys.stderr)
"""


def test_check_vote_and_report_run_where_torch_is_not_installed(tmp_path: Path, frozen_run: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", COMMANDS, str(frozen_run)]
    env = environment(tmp_path / "home")
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    expected = [f"{name} 0" for name in ("recipes", "check", "report", "vote", "cache")]
    assert [line for line in done.stderr.splitlines() if line in expected] == expected, done.stderr
