import pytest

from inkfold.cli.main import main
from toy_cli import words


@pytest.fixture
def runs(tmp_path, data, recipe):
    """Two finished runs on the same drawings."""
    changes = {"one": (), "two": ("head={kind: mlp, hidden: [4]}",)}
    for name, settings in changes.items():
        assert main(words("train", recipe, f"data={data}", f"out={tmp_path / name}", *settings)) == 0
    return [tmp_path / name for name in changes]
