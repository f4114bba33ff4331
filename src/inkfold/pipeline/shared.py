"""What trainings of several recipes on the same data have in common, kept in memory between them."""

from collections.abc import Callable
from typing import Any, TypeVar, final

from inkfold.config.recipe import Recipe
from inkfold.data.dataset import Dataset, read_dataset
from inkfold.pipeline.build import data_options
from inkfold.pipeline.prepare import ReadData, read_files
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent

T = TypeVar("T")


@final
class SharedInputs:
    """What trainings in one process share: the first that needs something computes it, the others take it from here.

    Everything is found by all that decides it, so a recipe never gets what belongs to other options. The data are read once:
    what is changed in their folder afterwards doesn't reach later trainings, which are thus comparable with earlier ones. A
    drawing that has changed and still has to be decoded is an error.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Any] = {}

    def once(self, name: str, key: str, compute: Callable[[], T]) -> T:
        """Return what was computed under this name and key before, else compute and keep it.

        Args:
            name: What it is; one name always means the same type.
            key: A description, or its digest, of all that decides it besides its name.
            compute: Computes it; if that raises, nothing is kept.

        Returns:
            The result, the same object every time: don't change it.
        """
        place = (name, key)
        if place not in self._kept:
            self._kept[place] = compute()
        result: T = self._kept[place]
        return result

    def dataset(self, recipe: Recipe) -> Dataset:
        """Read the tables or folders that a settled recipe names; raises DataError with every problem of them."""
        options = data_options(recipe)
        return self.once("data set", _data_key(recipe), lambda: read_dataset(str(recipe.data.root), options))

    def read(self, recipe: Recipe, cost: Cost, progress: Progress = silent) -> ReadData:
        """Read a settled recipe's data set with all of its files.

        Args:
            recipe: A recipe as `settle_recipe` returns it, whose data are read.
            cost: Seconds are added to it.
            progress: Called after each thousand files.
        """
        return self.once("files", _data_key(recipe), lambda: read_files(self.dataset(recipe), cost, progress))


def _data_key(recipe: Recipe) -> str:
    return f"{recipe.data.root}: {data_options(recipe).model_dump_json()}"
