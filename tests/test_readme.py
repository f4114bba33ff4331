"""The README's own commands and code, run as they stand on a toy data set."""

import re
import shlex
from pathlib import Path

import pytest
from safetensors.torch import save_file

from inkfold.cli import main as cli
from inkfold.data.synthetic import write_sketches
from inkfold.models.torchvision_compat import declare_missing_operators

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SHORT = re.sub(r'(budget="?=?"?)[0-9.]+[smh]', r"\g<1>10s", README)  # a search takes all its time
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", SHORT, re.S))
PYTHON = "\n".join(re.findall(r"```python\n(.*?)```", SHORT, re.S))
COMMANDS = [line.partition("#")[0].strip() for line in SHELL.splitlines() if line.startswith("inkfold ")]


@pytest.fixture
def as_in_the_readme(tmp_path, monkeypatch):
    """Drawings, new drawings, and weights of the small backbones under the names that the README uses."""
    declare_missing_operators()
    import timm

    monkeypatch.chdir(tmp_path)
    write_sketches(tmp_path / "drawings", train_per_class=5, test_per_class=1, classes=["cat", "sun"])
    (tmp_path / "drawings" / "test").rename(tmp_path / "new-drawings")
    (tmp_path / "drawings" / "test.csv").unlink()
    (tmp_path / "drawings" / "sample_submission.csv").unlink()
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "cat.png").write_bytes((tmp_path / "new-drawings" / "0.png").read_bytes())
    for name in ("tf_efficientnet_lite0", "mobilenetv2_100"):
        model = timm.create_model(name, num_classes=0)
        save_file(model.state_dict(), tmp_path / f"{name}.safetensors")
        (tmp_path / f"{name}.json").write_text('{"image_size": 64}')  # a twelfth of the pixels
    monkeypatch.setenv("INKFOLD_WEIGHTS", str(tmp_path))
    return tmp_path


def test_the_readmes_commands_run_in_their_order(as_in_the_readme):
    assert len(COMMANDS) >= 3
    for command in COMMANDS:
        assert cli.main(shlex.split(command)[1:]) == 0, command
    assert (as_in_the_readme / "predictions.csv").is_file()


def test_the_readmes_python_code_runs(as_in_the_readme, capsys):
    scope: dict[str, object] = {}
    exec(compile(PYTHON, "README.md", "exec"), scope)
    assert scope["probs"].shape == (1, 2)
    assert capsys.readouterr().out


@pytest.mark.parametrize("target", ["demo", "test", "check", "install", "bench"])
def test_the_makefile_has_what_the_readme_and_ci_call(target):
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, re.M)


def test_every_benchmark_that_the_readme_names_is_there():
    for script in re.findall(r"`(benchmarks/\w+\.py)", README):
        assert (Path(__file__).parent.parent / script).is_file(), script


def test_every_file_and_package_that_the_guides_name_is_there():
    root = Path(__file__).parent.parent
    source = root / "src/inkfold"
    for guide in ("README.md", "CONTRIBUTING.md", "docs/architecture.md"):
        text = (root / guide).read_text(encoding="utf-8")
        for name in re.findall(r"`((?:[\w-]+/)+[\w-]+\.(?:py|j2|md|yaml))`", text):
            if not name.endswith("NAME.py") and not name.endswith("NAME.yaml"):
                assert (root / name).is_file() or (source / name).is_file(), f"{guide}: {name}"
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert (root / guide).parent.joinpath(link).exists(), f"{guide}: {link}"
    architecture = (root / "docs/architecture.md").read_text(encoding="utf-8")
    for package in source.glob("*/__init__.py"):
        assert f"| `{package.parent.name}` |" in architecture
