"""What is built for others: the images' list of packages, and a release's notes."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from toy import environment

ROOT = Path(__file__).parents[1]
SERVED = [line for line in (ROOT / "docker/serve.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
LEFT_OUT = ("pyarrow", "scipy", "matplotlib", "torch", "timm")
SERVES = f"""
import sys


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {LEFT_OUT}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Missing())
import inkfold.serve.server, inkfold.serve.model, inkfold.serve.nearest, inkfold.images.preprocess, inkfold.images.strokes
from inkfold.cli.main import main

sys.exit(main(["serve", "no-such-model.onnx"]))
"""


@pytest.fixture(scope="module")
def release_notes():
    loader = SourceFileLoader("release_notes", str(ROOT / ".ci/release_notes"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("release_notes", loader))
    loader.exec_module(module)
    return module


def test_the_image_to_serve_has_packages_of_inkfold_alone_and_none_that_are_left_out():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}
    assert set(SERVED) == names - set(LEFT_OUT)


def test_a_server_starts_without_what_its_image_leaves_out(tmp_path):
    command = [sys.executable, "-W", "error", "-c", SERVES]
    env = environment(tmp_path / "home")
    done = subprocess.run(command, cwd=tmp_path, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "no-such-model.onnx: no such file or directory" in done.stderr


def test_the_notes_of_a_release_are_its_section_of_the_changelog(release_notes):
    changelog = (
        "# Changelog\n\n## [Unreleased]\n\n## [1.1.0] - 2026-12-24\n\n### Added\n- This.\n\n## [1.0.0] - 2026-12-01\n- That.\n"
    )
    assert release_notes.notes_of(changelog, "1.1.0") == "### Added\n- This."
    assert release_notes.notes_of(changelog, "1.0.0") == "- That."
    for version in ("Unreleased", "2.0.0"):
        with pytest.raises(
            SystemExit, match=rf"has no section {version}, or an empty one; it has Unreleased, 1\.1\.0, 1\.0\.0"
        ):
            release_notes.notes_of(changelog, version)
    assert "Added" in release_notes.notes_of((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), "Unreleased")
