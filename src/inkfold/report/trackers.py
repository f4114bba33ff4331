"""Finished runs told to an experiment tracker that is installed: Weights & Biases or MLflow. Nothing is sent unasked."""

from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

from inkfold.errors import ExportError
from inkfold.evaluation.tensorboard import scalars
from inkfold.report.run_data import RunRecord, flat_recipe

PROJECT = "inkfold"
SUMMARY = ("accuracy", "top5_accuracy", "macro_recall", "nll", "ece")


class Tracker(Protocol):
    """What a tracker is asked to do, in this order."""

    def start(self, name: str, params: Mapping[str, str]) -> None:
        """Open a run with its recipe."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Tell an epoch's figures."""

    def finish(self, summary: Mapping[str, float]) -> None:
        """Tell what came of it, and close the run."""


class WandbTracker:
    """Weights & Biases; where and whether it uploads is its own settings' matter (`WANDB_MODE=offline`)."""

    def __init__(self, module: ModuleType) -> None:
        self._wandb = module
        self._run: Any = None

    def start(self, name: str, params: Mapping[str, str]) -> None:
        """Open a run with its recipe."""
        self._run = self._wandb.init(project=PROJECT, name=name, config=dict(params))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Tell an epoch's figures."""
        self._run.log(dict(figures), step=step)

    def finish(self, summary: Mapping[str, float]) -> None:
        """Tell what came of it, and close the run."""
        self._run.summary.update(dict(summary))
        self._run.finish()


class MlflowTracker:
    """MLflow; where it writes is its own settings' matter (`MLFLOW_TRACKING_URI`)."""

    def __init__(self, module: ModuleType) -> None:
        self._mlflow = module

    def start(self, name: str, params: Mapping[str, str]) -> None:
        """Open a run with its recipe."""
        self._mlflow.set_experiment(PROJECT)
        self._mlflow.start_run(run_name=name)
        self._mlflow.log_params(dict(params))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Tell an epoch's figures."""
        self._mlflow.log_metrics(dict(figures), step=step)

    def finish(self, summary: Mapping[str, float]) -> None:
        """Tell what came of it, and close the run."""
        self._mlflow.log_metrics(dict(summary))
        self._mlflow.end_run()


TRACKERS: dict[str, Callable[[ModuleType], Tracker]] = {"wandb": WandbTracker, "mlflow": MlflowTracker}


def open_tracker(name: str) -> Tracker:
    """Find a tracker; called before the work, so that one that is missing is told of at once.

    Args:
        name: `wandb` or `mlflow`.

    Returns:
        The tracker.

    Raises:
        ExportError: If it isn't known, or not installed.
    """
    if name not in TRACKERS:
        raise ExportError(f"--log: got '{name}', expected one of {', '.join(TRACKERS)}.")
    try:
        return TRACKERS[name](import_module(name))
    except ImportError as error:
        raise ExportError(f"--log {name}: can't be imported: {error}. Install it: pip install {name}.") from None


def log_run(tracker: Tracker, record: RunRecord) -> None:
    """Tell a tracker all of a finished run: its recipe, its curve, its figures and what it cost.

    Args:
        tracker: An open one.
        record: The run.
    """
    tracker.start(record.name, flat_recipe(record.recipe))
    for step, figures in scalars(record.curve or {"epochs": []}):
        tracker.log(step, figures)
    parts = {part: record.metrics.get(part, {}) for part in ("out_of_fold", "test")}
    summary = {f"{part}/{name}": float(found[name]) for part, found in parts.items() for name in SUMMARY if name in found}
    tracker.finish({**summary, "cost/seconds": record.cost["seconds"]["total"], "cost/forwards": record.cost["forwards"]})
