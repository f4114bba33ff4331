"""Reading, checking, voting and reporting need no PyTorch: a stranger who only looks at drawings and runs waits for none."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from inkfold.errors import PARTS
from toy import environment

HIDDEN = """
import importlib.util
import sys


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "timm"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Missing())
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in {"torch", "torchvision", "timm"} else found(name, *more)
"""

COMMANDS = (
    HIDDEN
    + """
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
)


def test_check_vote_and_report_run_where_torch_is_not_installed(tmp_path: Path, frozen_run: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", COMMANDS, str(frozen_run)]
    env = environment(tmp_path / "home")
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    expected = [f"{name} 0" for name in ("recipes", "check", "report", "vote", "cache")]
    assert [line for line in done.stderr.splitlines() if line in expected] == expected, done.stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["train", "first", "data=data", "out=run"], "torch, torchvision, timm: not installed"),
        (["audit", "run"], "pip install 'inkfold[train]'"),
        (["predict", "{run}", "{data}/test", "--out", "answers.csv"], "pip install 'inkfold[train]'"),
        (["serve", "{run}", "--port", "0"], "torch, timm: pip install 'inkfold[export]'. A model that was exported elsewhere"),
    ],
)
def test_a_command_whose_part_is_missing_says_the_line_to_run(tmp_path, frozen_run, command, words):
    here = {"run": frozen_run / "run", "data": frozen_run / "data"}
    code = f"{HIDDEN}\nimport sys\nfrom inkfold.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    filled = [sys.executable, "-W", "error", "-c", code, *(word.format_map(here) for word in command)]
    env = environment(tmp_path / "home")
    done = subprocess.run(filled, check=False, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert words in line
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "home"]), "nothing was begun"


def test_each_package_is_brought_by_the_part_that_is_named_for_it():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {part: {re.match(r"[\w-]+", line)[0] for line in lines} for part, lines in project["optional-dependencies"].items()}
    base = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}
    for module, part in PARTS.items():
        package = {"sklearn": "scikit-learn"}.get(module, module)
        assert package in names[part], package
        assert package not in base, package
