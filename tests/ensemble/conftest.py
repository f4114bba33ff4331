import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from inkfold.ensemble.build import train_any, vote
from inkfold.ensemble.model import Ensemble
from toy import toy_data
from toy_votes import ensemble_recipe, trained


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs and their data, to read only."""
    return trained(tmp_path_factory.mktemp("toys"))


@pytest.fixture(scope="session")
def voted(toys: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ensemble]:
    """Give the votes of the linear and the mlp run by any method, each made once, to read only."""
    made: dict[object, Ensemble] = {}

    def give(**vote_recipe: Any) -> Ensemble:
        key = tuple(sorted(vote_recipe.items()))
        if key not in made:
            out = tmp_path_factory.mktemp("votes") / "out"
            made[key] = vote([toys["linear"], toys["mlp"]], vote_recipe, out=out)
        return made[key]

    return give


@dataclass(frozen=True)
class Trained:
    """A finished ensemble, to read only, and where it comes from."""

    ensemble: Ensemble
    recipe: Path
    data: Path
    home: Path
    stages: list[str]

    def copy(self, directory: Path) -> Path:
        """Copy the ensemble's directory to write in."""
        return Path(shutil.copytree(self.ensemble.path, directory))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_data(tmp_path_factory.mktemp("data") / "data", test_per_class=5)


@pytest.fixture(scope="session")
def train_once(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trained]:
    """Give the ensembles that the toy recipe makes with any overrides, each trained once with features of its own."""
    made: dict[tuple[str, ...], Trained] = {}

    def give(*overrides: str) -> Trained:
        if overrides not in made:
            root, stages = tmp_path_factory.mktemp("ensemble"), list[str]()
            recipe = ensemble_recipe(root)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("INKFOLD_HOME", str(root / "home"))
                ensemble = train_any(
                    recipe, *overrides, data=data, out=root / "out", progress=lambda stage, done, total: stages.append(stage)
                )
            assert isinstance(ensemble, Ensemble)
            made[overrides] = Trained(ensemble, recipe, data, root / "home", stages)
        return made[overrides]

    return give
