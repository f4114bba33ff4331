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
    from inkfold.dataset import read_dataset as read_dataset
    from inkfold.ensemble import Ensemble as Ensemble
    from inkfold.ensemble import load_any as load_run
    from inkfold.errors import InkfoldError as InkfoldError
    from inkfold.exploration import explore as explore
    from inkfold.run import Run as Run
    from inkfold.tuning import tune as tune
    from inkfold.voting import train_any as train
    from inkfold.voting import vote as vote

_HOMES = {
    "Ensemble": ("ensemble", "Ensemble"),
    "InkfoldError": ("errors", "InkfoldError"),
    "Run": ("run", "Run"),
    "explore": ("exploration", "explore"),
    "load_run": ("ensemble", "load_any"),
    "read_dataset": ("dataset", "read_dataset"),
    "train": ("voting", "train_any"),
    "tune": ("tuning", "tune"),
    "vote": ("voting", "vote"),
}
__all__ = ["Ensemble", "InkfoldError", "Run", "explore", "load_run", "read_dataset", "train", "tune", "vote"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: `import inkfold` itself stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'inkfold' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(f"inkfold.{module}"), attribute)
