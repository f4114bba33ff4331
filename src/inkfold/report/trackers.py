"""Reports finished runs to an installed experiment tracker, Weights & Biases or MLflow, when the user wants it (`--log`)."""

import logging
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

from inkfold.errors import ExportError
from inkfold.evaluation.tensorboard import scalars
from inkfold.pipeline.run_files import RunFiles, flat_recipe

PROJECT = "inkfold"
SUMMARY = ("accuracy", "top5_accuracy", "macro_recall", "nll", "ece")
log = logging.getLogger("inkfold.report")


class Tracker(Protocol):
    """What a tracker does, in this order: start, log each epoch, finish."""

    def start(self, name: str, params: Mapping[str, str]) -> None:
        """Open a run of this name with the recipe's keys as parameters."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the values of one epoch by tag."""

    def finish(self, summary: Mapping[str, float]) -> None:
        """Log the final figures, and close the run."""


class WandbTracker:
    """Weights & Biases. Its own settings decide where and whether it uploads (`WANDB_MODE=offline`).

    Args:
        module: The imported package `wandb`.
    """

    def __init__(self, module: ModuleType) -> None:
        self._wandb = module
        self._run: Any = None

    def start(self, name: str, params: Mapping[str, str]) -> None:
        """Open a run of this name with the recipe's keys as parameters."""
        self._run = self._wandb.init(project=PROJECT, name=name, config=dict(params))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the values of one epoch by tag."""
        self._run.log(dict(figures), step=step)

    def finish(self, summary: Mapping[str, float]) -> None:
        """Log the final figures, and close the run."""
        self._run.summary.update(dict(summary))
        self._run.finish()


class MlflowTracker:
    """MLflow. Its own settings decide where it writes (`MLFLOW_TRACKING_URI`).

    Args:
        module: The imported package `mlflow`.
    """

    def __init__(self, module: ModuleType) -> None:
        self._mlflow = module

    def start(self, name: str, params: Mapping[str, str]) -> None:
        """Open a run of this name with the recipe's keys as parameters."""
        self._mlflow.set_experiment(PROJECT)
        self._mlflow.start_run(run_name=name)
        self._mlflow.log_params(dict(params))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the values of one epoch by tag."""
        self._mlflow.log_metrics(dict(figures), step=step)

    def finish(self, summary: Mapping[str, float]) -> None:
        """Log the final figures, and close the run."""
        self._mlflow.log_metrics(dict(summary))
        self._mlflow.end_run()


TRACKERS: dict[str, Callable[[ModuleType], Tracker]] = {"wandb": WandbTracker, "mlflow": MlflowTracker}


def open_tracker(name: str) -> Tracker:
    """Open a tracker. Commands call this before they start to work, so that a missing package is an error at once.

    Args:
        name: Which tracker: `wandb` or `mlflow`, which is also the package that must be installed.

    Raises:
        ExportError: If there is no such tracker, or it is not installed.
    """
    if name not in TRACKERS:
        raise ExportError(f"--log: got '{name}', expected one of {', '.join(TRACKERS)}.")
    try:
        return TRACKERS[name](import_module(name))
    except ImportError as error:
        raise ExportError(f"--log {name}: can't be imported: {error}. Install it: pip install {name}.") from None


def log_run(tracker: Tracker, run: RunFiles) -> None:
    """Report a finished run to a tracker that was just opened: its recipe, training curve, metrics and cost."""
    tracker.start(run.name, flat_recipe(run.recipe))
    for step, figures in scalars(run.curve or {"epochs": []}):
        tracker.log(step, figures)
    parts = {part: run.metrics.get(part, {}) for part in ("out_of_fold", "test")}
    summary = {f"{part}/{name}": float(figures[name]) for part, figures in parts.items() for name in SUMMARY if name in figures}
    by_metric = {part: figures["metric"] for part, figures in parts.items() if "metric" in figures}
    summary |= {f"{part}/{own['name']}": float(own["value"]) for part, own in by_metric.items()}
    tracker.finish({**summary, "cost/seconds": run.cost["seconds"]["total"], "cost/forwards": run.cost["forwards"]})
    log.info("run %s reported to %s", run.name, type(tracker).__name__)
