"""A finished ensemble: a directory like a run's, with its members' runs inside. Loaded, it predicts new drawings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from pydantic import ValidationError

from inkfold.config.sections import VoteSettings
from inkfold.ensemble.methods import FittedMethod
from inkfold.ensemble.voting import vote_of_folds
from inkfold.errors import PredictionError, Problem
from inkfold.pipeline.manifest import MANIFEST, changed_files, is_below, load_manifest
from inkfold.pipeline.predict import predict_folds
from inkfold.pipeline.run import Images, Model, Run
from inkfold.pipeline.run_files import VOTE, RunFiles
from inkfold.runtime.progress import Progress, silent

ENSEMBLE = "ensemble"


@dataclass(frozen=True, slots=True, repr=False)
class Ensemble(Model):
    """A finished ensemble, which predicts as a run does.

    Attributes:
        path: The directory that training or voting wrote, in which all files of the ensemble lie.
        manifest: Content of manifest.json: files with digests, classes, members.
        metrics: Content of metrics.json: accuracies of the vote, by part of the data.
        members: The members' runs; None for a member that is a file of predictions.
        vote: The voting method's settings; `within` and `ties` decide how a member's folds vote.
        fitted: The voting method with the numbers that were fitted for it.
    """

    path: Path
    manifest: dict[str, Any]
    metrics: dict[str, Any]
    members: tuple[Run | None, ...]
    vote: VoteSettings
    fitted: FittedMethod

    def predict_proba(
        self,
        images: Images,
        progress: Progress = silent,
        on_broken: str = "error",
        *,
        cache: bool = False,
        blank: list[int] | None = None,
    ) -> Float32[np.ndarray, "n classes"]:
        """Predict drawings by the members' vote, as probabilities or shares of votes; see `Model.predict_proba`.

        Every drawing is read once for all members. One that any member can't read gets no vote.
        """
        runs = self.member_runs()
        return self.pool_folds(predict_folds(runs, images, progress, on_broken, cache=cache, blank=blank))

    def member_runs(self) -> tuple[Run, ...]:
        """Return the members, all of which must be runs."""
        runs = tuple(run for run in self.members if run is not None)
        if len(runs) < len(self.members):
            names = (one["name"] for one, run in zip(self.manifest["members"], self.members, strict=True) if run is None)
            raise PredictionError(
                f"{self.path}: can't predict new drawings, as it has only files of predictions for {', '.join(names)}. "
                "Let runs vote instead."
            )
        return runs

    def pool_folds(self, fold_probs: list[Float32[np.ndarray, "folds n classes"]]) -> Float32[np.ndarray, "n classes"]:
        """Let the members vote; a drawing that any member can't read gets a row of NaN."""
        answers = [
            folds[:, :, [run.classes_.index(name) for name in self.classes_]]
            for folds, run in zip(fold_probs, self.member_runs(), strict=True)
        ]
        whole = np.all([np.isfinite(folds).all((0, 2)) for folds in answers], axis=0)  # members may differ in what is too large
        voted = np.stack([vote_of_folds(folds[:, whole], self.vote.within, self.vote.ties) for folds in answers])
        probs = np.full((len(whole), len(self.classes_)), np.nan, np.float32)
        probs[whole] = single_precision(self.fitted.pool(voted))
        return probs

    def _loaded(self, path: Path) -> "Ensemble":
        loaded = load_run(path)
        assert isinstance(loaded, Ensemble)
        return loaded


def load_run(path: str | Path) -> Run | Ensemble:
    """Load a finished run, whether it is one model or an ensemble of several.

    Args:
        path: The directory that training or voting wrote.

    Returns:
        The model, ready to predict.

    Raises:
        PredictionError: If it is not finished, or with every file, the members' too, that is missing or has changed.
    """
    path = Path(path)
    manifest, problems = _checked(path)
    if manifest.get("kind") != ENSEMBLE:
        if problems:
            raise PredictionError(problems)
        return Run.from_checked(path, manifest)
    directories = _member_directories(path, manifest)
    manifests: dict[str, dict[str, Any]] = {}
    for directory in directories:  # the ensemble's own manifest lists a member that is gone
        if directory is not None and (path / directory / MANIFEST).is_file():
            manifests[directory], own = _checked(path / directory)
            problems += own
        elif directory is not None and not problems:
            problems.append(Problem("changed_file", str(path / directory / MANIFEST), "is missing. Vote again."))
    if problems:
        raise PredictionError(problems)
    runs = tuple(
        None if directory is None else Run.from_checked(path / directory, manifests[directory]) for directory in directories
    )
    files = RunFiles(path, manifest)
    raw = files.vote or {}
    try:
        vote, fitted = VoteSettings(**raw["vote"]), raw["way"]
    except (KeyError, TypeError, ValidationError) as error:
        raise PredictionError(f"{path / VOTE}: not an ensemble's vote: {error}. Vote again into another directory.") from None
    return Ensemble(path, manifest, files.metrics, runs, vote, FittedMethod.from_json(fitted, str(path / VOTE)))


def first_run(model: Run | Ensemble) -> Run:
    """Give a run itself, or the first member of an ensemble that is a run: all members were trained on the same drawings.

    Args:
        model: A run of one model, or an ensemble of runs and files of predictions.

    Raises:
        PredictionError: If all members are files of predictions.
    """
    own = model if isinstance(model, Run) else next((member for member in model.members if member is not None), None)
    if own is None:
        raise PredictionError(
            f"{model.path}: has only files of predictions as members, so neither its drawings nor their features are known. "
            "Name a run."
        )
    return own


def named(progress: Progress, name: str) -> Progress:
    """Make a progress callback that puts a member's name before each stage's."""

    def report(stage: str, done: int, total: int) -> None:
        progress(f"{name}: {stage}", done, total)

    return report


def single_precision(shares: Float[np.ndarray, "n classes"]) -> Float32[np.ndarray, "n classes"]:
    """Round shares to single precision without changing any row's predicted class.

    Args:
        shares: Class probabilities or shares of votes. A tie may have been decided by less than single precision holds.

    Returns:
        The same shares, with the same largest entry in each row.
    """
    rounded = shares.astype(np.float32)
    winners = shares.argmax(1)
    lost = np.flatnonzero(rounded.argmax(1) != winners)
    rounded[lost, winners[lost]] = np.nextafter(rounded[lost].max(1), np.float32(np.inf))
    return rounded


def _checked(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    """Read a run's manifest, and find the files that aren't as they were written."""
    manifest = load_manifest(path)
    return manifest, changed_files(path, manifest)


def _member_directories(path: Path, manifest: dict[str, Any]) -> list[str | None]:
    """Give each member's directory, relative to the ensemble's; None for a file of predictions."""
    try:
        members = [(member["name"], member["run"]) for member in manifest["members"]]
        targets = [*map(int, manifest["class_targets"])]
    except (KeyError, TypeError, ValueError):
        members, targets = [], []
    sound = all(isinstance(name, str) and (run is None or is_below(run)) for name, run in members)
    if not members or not sound or len(targets) != len(manifest["class_names"]):
        raise PredictionError(f"{path / MANIFEST}: not an ensemble's manifest. Vote again into another directory.")
    return [run for _, run in members]
