"""inkfold: the best drawing classifier that your machine can afford, and proof of how good it is.

Example:
    >>> import inkfold
    >>> dataset = inkfold.read_dataset("drawings")
    >>> run = inkfold.train("cpu-small", data="drawings", out="runs/first")
    >>> run.metrics["out_of_fold"]["accuracy"]
    >>> inkfold.load_run("runs/first").predict_proba(["new.png"])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inkfold.data.dataset import read_dataset as read_dataset
    from inkfold.ensemble.build import train_any as train
    from inkfold.ensemble.build import vote as vote
    from inkfold.ensemble.model import Ensemble as Ensemble
    from inkfold.ensemble.model import load_run as load_run
    from inkfold.errors import InkfoldError as InkfoldError
    from inkfold.pipeline.run import Run as Run
    from inkfold.search.backbones import explore as explore
    from inkfold.search.study import tune as tune

_HOMES = {
    "Ensemble": ("ensemble.model", "Ensemble"),
    "InkfoldError": ("errors", "InkfoldError"),
    "Run": ("pipeline.run", "Run"),
    "explore": ("search.backbones", "explore"),
    "load_run": ("ensemble.model", "load_run"),
    "read_dataset": ("data.dataset", "read_dataset"),
    "train": ("ensemble.build", "train_any"),
    "tune": ("search.study", "tune"),
    "vote": ("ensemble.build", "vote"),
}
__all__ = ["Ensemble", "InkfoldError", "Run", "explore", "load_run", "read_dataset", "train", "tune", "vote"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import inkfold` itself takes no time."""
    if name not in _HOMES:
        raise AttributeError(f"module 'inkfold' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(f"inkfold.{module}"), attribute)
