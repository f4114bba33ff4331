import shutil

import pytest

from inkfold.pipeline.run import Run


@pytest.fixture
def run(trained, tmp_path, own_home):
    """A copy of the finished run, with a copy of its cache."""
    shutil.copytree(trained / "home", own_home)
    return Run.load(shutil.copytree(trained / "run", tmp_path / "run"))
