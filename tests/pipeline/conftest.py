import logging
import shutil

import pytest

from inkfold.pipeline.run import Run
from inkfold.pipeline.train import train
from toy import toy_recipe
from toy_results import VIEWS


@pytest.fixture
def with_views(tmp_path):
    """A recipe with a curriculum and test-time views."""
    return toy_recipe(tmp_path, VIEWS)


@pytest.fixture
def plain(frozen_run):
    """The finished run of `recipe` on `data`, shared with other tests."""
    return Run.load(frozen_run / "run")


@pytest.fixture
def viewed_run(shared_directories, frozen_run):
    def make(directory):
        train(toy_recipe(directory, VIEWS), data=frozen_run / "data", out=directory / "run")

    return shared_directories.get("run with views", make)


@pytest.fixture
def viewed(viewed_run):
    """The finished run of `with_views` on `data`, shared with other tests."""
    return Run.load(viewed_run / "run")


@pytest.fixture
def plain_features(frozen_run, own_home):
    """Put what the run `plain` computed into this test's home."""
    shutil.copytree(frozen_run / "home", own_home)


@pytest.fixture
def viewed_features(viewed_run, own_home):
    """Put what the run `viewed` computed into this test's home."""
    shutil.copytree(viewed_run / "home", own_home)


@pytest.fixture
def pipeline_log(caplog):
    """Return what this package has logged since the last call."""
    caplog.set_level(logging.INFO, "inkfold")

    def messages():
        logged = [record.getMessage() for record in caplog.records if record.name == "inkfold.pipeline"]
        caplog.clear()
        return logged

    return messages
