"""What is published holds all that the package needs: the wheel is built of the sdist, as installers do without a wheel."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="pip install 'inkfold[dev]'")
ROOT = Path(__file__).resolve().parents[1]


def build(kind: str, project: Path, out: Path) -> Path:
    """Build one archive of a project and return it."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    (archive,) = out.iterdir()
    return archive


def test_a_wheel_made_of_the_sdist_has_every_file_of_the_package(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", ROOT, tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (project,) = (tmp_path / "unpacked").iterdir()
    with zipfile.ZipFile(build("wheel", project, tmp_path / "wheel")) as wheel:
        packed = {name for name in wheel.namelist() if name.startswith("inkfold/")}
    source = ROOT / "src"
    there = {path.relative_to(source).as_posix() for path in (source / "inkfold").rglob("*") if path.is_file()}
    assert packed == {name for name in there if "__pycache__" not in name}
    assert "inkfold/recipes/first.yaml" in packed
