"""A finished ensemble: a directory like a run's, with its members' runs inside. Loaded, it predicts new drawings."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from pydantic import ValidationError

from inkfold.config.sections import VoteRecipe
from inkfold.ensemble.methods import FittedMethod
from inkfold.ensemble.voting import vote_of_folds
from inkfold.errors import PredictionError, Problem
from inkfold.pipeline.manifest import MANIFEST, is_below, read_manifest
from inkfold.pipeline.run import Model, Run, files_of, load_run
from inkfold.pipeline.run_files import VOTE
from inkfold.runtime.progress import Progress, silent

ENSEMBLE = "ensemble"


@dataclass(frozen=True, slots=True)
class Ensemble(Model):
    """A finished ensemble, which answers as a run does.

    Attributes:
        path: Its directory.
        manifest: Files with digests, classes, members.
        metrics: What `metrics.json` holds.
        members: The runs; None for one that is a mere file of predictions.
        vote: How the folds of a member vote, and ties.
        way: How the members vote, with all that was fitted.
    """

    path: Path
    manifest: dict[str, Any]
    metrics: dict[str, Any]
    members: tuple[Run | None, ...]
    vote: VoteRecipe
    way: FittedMethod

    def predict_proba(
        self, images: str | Path | Sequence[Any], progress: Progress = silent, on_broken: str = "error"
    ) -> Float32[np.ndarray, "n classes"]:
        """Predict drawings by the members' vote; see `Run.predict_proba`.

        Args:
            images: A directory, a file, or a sequence of files, arrays or Pillow images.
            progress: Told of each stage of each member.
            on_broken: `skip` gives a file that can't be read a row of NaN.

        Returns:
            Class probabilities, or shares of votes; a row a drawing.

        Raises:
            PredictionError: If a member is a mere file.
            DataError: With every drawing that can't be read.
        """
        missing = [one["name"] for one, run in zip(self.manifest["members"], self.members, strict=True) if run is None]
        if missing:
            raise PredictionError(
                f"{self.path}: can't answer for new drawings, as it has mere files of predictions for {', '.join(missing)}. "
                "Let runs vote instead."
            )
        if isinstance(images, str | Path):
            images = files_of(Path(images))[1]
        answers = []
        for one, run in zip(self.manifest["members"], self.members, strict=True):
            assert run is not None
            columns = [run.classes_.index(name) for name in self.classes_]
            answers.append(run.predict_fold_proba(images, named(progress, one["name"]), on_broken)[:, :, columns])
        whole = np.all([np.isfinite(folds).all((0, 2)) for folds in answers], axis=0)  # members may differ in what is too large
        voted = np.stack([vote_of_folds(folds[:, whole], self.vote.within, self.vote.ties) for folds in answers])
        probs = np.full((len(whole), len(self.classes_)), np.nan, np.float32)
        probs[whole] = single_precision(self.way.pool(voted))
        return probs


def load_any(path: str | Path) -> Run | Ensemble:
    """Load a finished run, of one model or of several.

    Args:
        path: Its directory.

    Returns:
        What predicts.

    Raises:
        PredictionError: If it is not finished, or with every file that is missing or not as it was written, members' among
            them.
    """
    path = Path(path)
    manifest, problems = _checked(path)
    if manifest.get("kind") != ENSEMBLE:
        if problems:
            raise PredictionError(problems)
        return load_run(path)
    members = _seats(path, manifest)
    for member in members:
        if member is not None and (path / member / MANIFEST).is_file():  # one that is gone is told of by the ensemble's own
            problems += _checked(path / member)[1]
    if problems:
        raise PredictionError(problems)
    runs = tuple(None if member is None else load_run(path / member) for member in members)
    try:
        raw = json.loads((path / VOTE).read_text(encoding="utf-8"))
        metrics = json.loads((path / "metrics.json").read_text(encoding="utf-8"))
        vote, way = VoteRecipe(**raw["vote"]), raw["way"]
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise PredictionError(f"{path / VOTE}: not an ensemble's vote: {error}. Vote again into another directory.") from None
    return Ensemble(path, manifest, metrics, runs, vote, FittedMethod.from_json(way, str(path / VOTE)))


def first_run(model: Run | Ensemble, consequence: str) -> Run:
    """Return a run itself, or the first member of an ensemble that is a run: all members share one data set.

    Args:
        model: The run or ensemble.
        consequence: What can't be done without a run; ends the error message.

    Returns:
        The run.

    Raises:
        PredictionError: If every member of the ensemble is a mere file of predictions.
    """
    run = model if isinstance(model, Run) else next((member for member in model.members if member is not None), None)
    if run is None:
        raise PredictionError(f"{model.path}: has mere files of predictions for members, so {consequence}")
    return run


def named(progress: Progress, name: str) -> Progress:
    """Put a member's name before each stage."""

    def report(stage: str, done: int, total: int) -> None:
        progress(f"{name}: {stage}", done, total)

    return report


def single_precision(shares: Float[np.ndarray, "n classes"]) -> Float32[np.ndarray, "n classes"]:
    """Round shares to single precision without changing any answer.

    Args:
        shares: A tie may have been decided by less than single precision can tell.

    Returns:
        The same shares, with the same largest entry in each row.
    """
    rounded = shares.astype(np.float32)
    winners = shares.argmax(1)
    lost = np.flatnonzero(rounded.argmax(1) != winners)
    rounded[lost, winners[lost]] = np.nextafter(rounded[lost].max(1), np.float32(np.inf))
    return rounded


def _checked(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    """Read a run's manifest, and tell which of its files aren't as they were written."""
    try:
        return read_manifest(path), []
    except PredictionError as error:
        if not error.problems:
            raise
        return dict(json.loads((path / MANIFEST).read_text(encoding="utf-8"))), [*error.problems]


def _seats(path: Path, manifest: dict[str, Any]) -> list[str | None]:
    """Give each member's directory below the ensemble's; None for a mere file."""
    try:
        seats = [(one["name"], one["run"]) for one in manifest["members"]]
        targets = [*map(int, manifest["class_targets"])]
    except (KeyError, TypeError, ValueError):
        seats, targets = [], []
    sound = all(isinstance(name, str) and (run is None or is_below(run)) for name, run in seats)
    if not seats or not sound or len(targets) != len(manifest["class_names"]):
        raise PredictionError(f"{path / MANIFEST}: not an ensemble's manifest. Vote again into another directory.")
    return [run for _, run in seats]
