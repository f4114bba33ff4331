import gc
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from forks import share_server
from shared import SharedDirectories

os.environ["HF_HUB_OFFLINE"] = "1"  # the hub's client reads it once, at its import
os.environ.setdefault("OMP_NUM_THREADS", "1")  # toy steps on two threads wait for a busy core: a hundred times as long
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # on shared cores, threads that spin made the tests seven times slower

# The same examples in every run; `make test-all` explores with others each time.
settings.register_profile("suite", derandomize=True, database=None, deadline=None)
settings.register_profile("explore", max_examples=300, database=None, deadline=None, print_blob=True)
settings.load_profile("suite")

# Files whose tests take longest, so that no worker is left alone with one of them at the end. The others follow by name.
LONGEST = (
    "serve/test_site.py",
    "finetune/test_train_fold.py",
    "ensemble/test_build.py",
    "export/test_export.py",
    "test_readme.py",
    "features/test_process_pool.py",
    "heads/test_fit.py",
    "pipeline/test_train.py",
    "search/test_study.py",
    "pipeline/test_predict.py",
    "features/test_ray_cluster.py",
    "pipeline/test_run_dir.py",
    "audit/test_robustness.py",
    "ensemble/test_model.py",
    "ensemble/test_selection.py",
    "finetune/test_network.py",
    "cli/test_main.py",
)


TESTS = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    """Let each worker begin with other files: pytest rewrites a file's assertions once, not as often as there are workers."""
    worker = getattr(config, "workerinput", None)
    if worker and [Path(path).resolve() for path in config.args] == [TESTS]:
        files = sorted(map(str, TESTS.rglob("test_*.py")))
        first = len(files) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
        config.args = files[first:] + files[:first]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {file: place for place, file in enumerate(LONGEST)}

    def place(item: pytest.Item) -> tuple[int, str]:
        file = item.path.relative_to(TESTS).as_posix()
        return places.get(file, len(LONGEST)), file

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def home_of_module_fixtures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is made outside of a single test away from the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INKFOLD_HOME", str(tmp_path_factory.mktemp("home")))
        yield


homes = itertools.count()


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test's own cache, which is made when it is used: `tmp_path` would be made for each of thousands of tests."""
    place = tmp_path_factory.getbasetemp() / "homes" / str(next(homes))
    home = place / "inkfold-home"
    monkeypatch.setenv("INKFOLD_HOME", str(home))
    monkeypatch.setenv("HF_HOME", str(place / "hub"))
    monkeypatch.delenv("INKFOLD_WEIGHTS", raising=False)
    return home


@pytest.fixture(scope="module")
def home_of_this_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def warm_home(own_home: Path, home_of_this_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Share features among the tests of a file that neither count nor lose them: two thirds of a toy training's time."""
    monkeypatch.setenv("INKFOLD_HOME", str(home_of_this_file))


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out fsync, a quarter of a toy training's time: no test cuts the power. Only the tests of `storage` keep it."""
    if request.path.parent.name != "storage":
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> None:
    """Hide what was imported so far from the garbage collector: fine-tuning collects after each fold, 0.3 s with PyTorch."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_directories(tmp_path_factory: pytest.TempPathFactory) -> SharedDirectories:
    """Give what several tests read; each directory is made once per test run, also with several workers."""
    own = tmp_path_factory.getbasetemp()
    directories = SharedDirectories((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared")
    share_server(directories.root)
    return directories


@pytest.fixture(scope="session")
def frozen_run(shared_directories: SharedDirectories) -> Path:
    """Give a directory with `data`, its recipe `toy.yaml`, the finished run `run` and the `home` that holds its features."""

    def make(directory: Path) -> None:
        from inkfold.pipeline.train import train
        from toy import toy_data, toy_recipe

        train(toy_recipe(directory), data=toy_data(directory / "data"), out=directory / "run")

    return shared_directories.get("frozen run", make)


@pytest.fixture
def data(tmp_path: Path, frozen_run: Path) -> Path:
    """Give a copy of the toy data that a test may change."""
    return shutil.copytree(frozen_run / "data", tmp_path / "data")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Give the toy recipe, as a file that a test may change."""
    from toy import toy_recipe

    return toy_recipe(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def shared_directories_stay_as_they_are(shared_directories: SharedDirectories) -> Iterator[None]:
    yield
    shared_directories.check()


@pytest.fixture
def write_weights() -> Callable[..., Path]:
    """Save a seeded timm model, classifier included, whose batch norms have seen noise."""

    def write(path: Path, name: str, seed: int = 0, **arguments: object) -> Path:
        from inkfold.models.torchvision_compat import declare_missing_operators

        declare_missing_operators()
        import timm
        import torch
        from safetensors.torch import save_file

        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            model = timm.create_model(name, **arguments)
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.momentum = None
            side_px = arguments.get("img_size", model.pretrained_cfg["input_size"][-1])
            model.train()(torch.randn(4, 3, side_px, side_px))
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            save_file(model.state_dict(), path)
        else:
            torch.save(model.state_dict(), path)
        return path

    return write
