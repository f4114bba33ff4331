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
    from inkfold.errors import InkfoldError as InkfoldError
    from inkfold.pipeline import train as train
    from inkfold.run import Run as Run
    from inkfold.run import load_run as load_run

_HOMES = {
    "InkfoldError": "errors",
    "Run": "run",
    "load_run": "run",
    "read_dataset": "dataset",
    "train": "pipeline",
}
__all__ = ["InkfoldError", "Run", "load_run", "read_dataset", "train"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: `import inkfold` itself stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'inkfold' has no attribute {name!r}")
    return getattr(import_module(f"inkfold.{_HOMES[name]}"), name)
