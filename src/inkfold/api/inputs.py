"""From what a caller names as data and runs to the paths and settings that the pipeline reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from inkfold.api.settings import as_overrides
from inkfold.data.dataset import Dataset
from inkfold.data.given import read_any_dataset, settings_of

if TYPE_CHECKING:
    from inkfold.ensemble.model import Ensemble
    from inkfold.pipeline.run import Run

Data: TypeAlias = Any  # a path, a Dataset, drawings with labels, or the keys of a recipe's section `data`
RunLike: TypeAlias = "str | Path | Run | Ensemble"


def data_overrides(data: Data) -> tuple[str, ...]:
    """Turn data into the recipe's keys that read them.

    Args:
        data: Path of a folder or table; a dataset as `inkfold.read_dataset` returns it; the pair `(drawings, labels)` or the
            triple with groups; the keys of the recipe's section `data` as a mapping; or None, which leaves it to the recipe.

    Returns:
        Texts `dotted.key=value`. Drawings in memory are kept as files for it; see `data.given`.

    Raises:
        DataError: With everything that is wrong with drawings or labels that are in memory.
    """
    if data is None:
        return ()
    if isinstance(data, str | Path):
        return as_overrides({"data": {"root": str(data)}})
    if isinstance(data, Mapping):
        return as_overrides({"data": dict(data)})
    return as_overrides(settings_of(as_dataset(data)))


def as_dataset(data: Data) -> Dataset:
    """Return data as a dataset; see `data.given.read_any_dataset`."""
    return data if isinstance(data, Dataset) else read_any_dataset(data)


def path_of(run: RunLike) -> Path:
    """Return a run's directory, whether the run itself or its path is given."""
    return Path(run) if isinstance(run, str | Path) else run.path
