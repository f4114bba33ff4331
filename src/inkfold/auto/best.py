"""The best that a search has found so far: which models answer, by which figure, and the run at the top of the directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inkfold.auto.choice import Choice, Fitted, choose, compare_votes, measure_vote
from inkfold.auto.clock import Clock
from inkfold.auto.publish import CANDIDATES, publish
from inkfold.auto.record import AutoRecord, Step
from inkfold.config.recipe import AutoRecipe
from inkfold.errors import PredictionError
from inkfold.evaluation.scores import Metric
from inkfold.features.executors import Executor
from inkfold.pipeline.frozen_heads import add_split_apart
from inkfold.pipeline.manifest import MANIFEST
from inkfold.pipeline.run import Run
from inkfold.pipeline.run_files import METRICS, open_run_files
from inkfold.pipeline.shared import SharedInputs
from inkfold.runtime.progress import Progress

PUBLISH_S = 2.0  # kept at the end for publishing, until it was done once


class BestSoFar:
    """All fitted models of a search, and what answers best of them.

    Args:
        recipe: The search's recipe, with the folder of drawings.
        out: The search's directory, at whose top the best lies.
        record: What is written down of the search; the choice and the figures over time are added to it.
        metric: What models are compared by.
        clock: The search's time.
        progress: Receives each stage's name, steps done and steps in total.
    """

    def __init__(
        self, recipe: AutoRecipe, out: Path, record: AutoRecord, metric: Metric, clock: Clock, progress: Progress
    ) -> None:
        self.recipe, self.out, self.record, self.metric, self.clock = recipe, out, record, metric, clock
        self._progress = progress
        self._models: list[Fitted] = []
        self._publish_s, self._complete_s = PUBLISH_S, 0.0

    @property
    def reserve_s(self) -> float:
        """The seconds to keep for what comes after the last step."""
        return self._publish_s + self._complete_s

    @property
    def wrong(self) -> float:
        """The share of drawings that the best so far answers wrongly; a half where that isn't what the metric says."""
        if not self._models or not self.names or not self.metric.greater_is_better:
            return 0.5
        return min(max(1 - measure_vote(self._models, self.names, self.metric)[0], 0.0), 1.0)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models that answer; none before the first."""
        choice = self.record.choice
        return () if choice is None else tuple(choice.get("members") or [choice["step"]])

    def directory(self, name: str) -> Path:
        """Return the directory of a candidate's run."""
        return self.out / CANDIDATES / name

    def add(self, name: str, run: Run) -> None:
        """Take a finished candidate into account, without choosing anew."""
        predictions = run.files.out_of_fold
        assert predictions is not None
        self._models.append(Fitted(name, predictions, run.recipe.backbone.name))

    def forget_lost(self) -> None:
        """Forget a choice of which a member is gone."""
        if not {*self.names} <= {model.name for model in self._models}:
            self.record.choice = None

    def judge(self, step: Step, run: Run) -> None:
        """Measure a candidate, choose anew what answers, and publish that if it is another choice."""
        chosen = self.names
        self.add(step.name, run)
        step.accuracy, step.accuracy_ci95, step.n = measure_vote(self._models, [step.name], self.metric)
        if chosen:
            gain, interval, p_value = compare_votes(self._models, chosen, (step.name,), self.metric)
            step.gain, step.gain_ci95, step.p_value = gain, [*interval], p_value
        step.state = "done"
        choice = choose(self._models, self.metric, self.recipe.seed)
        if {*choice.members} != {*chosen} or not (self.out / MANIFEST).is_file():
            self._publish(choice, step)

    def complete(self, shared: SharedInputs, executor: Executor) -> None:
        """Measure of what answers how optimistic folds are that split copies or groups, as training it alone would."""
        metrics = [self.directory(name) / METRICS for name in self.names]
        before = [file.read_bytes() for file in metrics]
        for name in self.names:
            add_split_apart(self.directory(name), shared, self._progress, executor)
        if before != [file.read_bytes() for file in metrics]:
            self.put_at_top()

    def put_at_top(self) -> None:
        """Make what answers the run at the top of the search's directory."""
        publish(self.out, self.recipe, {name: recipe_of(self.record, name) for name in self.names}, self._progress)

    def _publish(self, choice: Choice, step: Step) -> None:
        """Put a choice at the top of the directory, and write down its figure."""
        members = [*choice.members]
        self.record.choice = {
            "step": step.name if len(members) > 1 else members[0],
            "members": members,
            "why": _reason(choice, len(self._models)),
            "nested": choice.nested,
        }
        step.is_best, began = True, self.clock.spent_s
        self.put_at_top()
        self._publish_s = max(self._publish_s, 1.5 * (self.clock.spent_s - began))
        fits = [open_run_files(self.directory(name)).cost["seconds"].get("fit", 0.0) for name in members]
        self._complete_s = self._publish_s + 1.5 * sum(fits)
        accuracy, interval, _ = measure_vote(self._models, members, self.metric)
        test = open_run_files(self.out).metrics.get("test")
        self.record.best.append(
            {
                "seconds": self.clock.spent_s,
                "step": step.name,
                "accuracy": accuracy,
                "accuracy_ci95": interval,
                "test": None if test is None else _value(test, self.metric),
            }
        )


def recipe_of(record: AutoRecord, name: str) -> dict[str, Any]:
    """Return the raw recipe of a step that a search recorded.

    Raises:
        PredictionError: If the record has none.
    """
    step = record.step(name)
    if step is None or step.recipe is None:
        raise PredictionError(f"auto.json: has no recipe of {name!r}. Choose another out= and search again.")
    return step.recipe


def _value(figures: Mapping[str, Any], metric: Metric) -> float:
    """Read the metric's value from a part of a run's metrics."""
    return float(figures["accuracy"] if metric.is_accuracy else figures["metric"]["value"])


def _reason(choice: Choice, tried: int) -> str:
    """Say why a choice was made."""
    if len(choice.members) == 1:
        words = f"the best of {tried} models" if tried > 1 else "the only model"
    else:
        words = f"an equal vote of {len(choice.members)} models"
        if choice.gain is not None and choice.p_value is not None:
            words += f", {choice.gain:+.3f} over the best of them (p = {choice.p_value:.2g})"
    if choice.unjudged:
        words += f"; {', '.join(choice.unjudged)} can't be judged here: their weights were trained on these drawings"
    if choice.nested is not None:
        words += f"; {choice.nested:.3f} where other drawings make the choice"
    return words
