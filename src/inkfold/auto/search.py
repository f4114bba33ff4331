"""One call of a search: reads the drawings, trains candidates one by one, and publishes the best after each."""

import contextlib
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inkfold.auto.backbones import BackboneAtHand, backbones_at_hand, worth_trying
from inkfold.auto.best import BestSoFar, recipe_of
from inkfold.auto.clock import Clock, OutOfTime
from inkfold.auto.costs import Costs, Size
from inkfold.auto.finetuning import measure_time
from inkfold.auto.moves import Known, Move, first_move, possible_moves
from inkfold.auto.race import BackboneRace, RaceLimits, RaceResult
from inkfold.auto.reading import READING, choose_reading_once
from inkfold.auto.record import AutoRecord, Step
from inkfold.auto.status import Status
from inkfold.auto.throughput import MachineSpeed
from inkfold.config.load import validate_recipe, with_values
from inkfold.config.recipe import AutoRecipe, Recipe
from inkfold.ensemble.recipe import SHARED_KEYS
from inkfold.errors import InkfoldError, PredictionError, RecipeError, WeightsError
from inkfold.evaluation.formatting import duration
from inkfold.features.executors import Executor, InlineExecutor
from inkfold.models.backbone import choose_device, takes_any_size
from inkfold.pipeline.build import build_plan, metric_of, settle_recipe
from inkfold.pipeline.inputs import prepare_drawings
from inkfold.pipeline.manifest import MANIFEST, read_manifest
from inkfold.pipeline.prepare import Prepared, ReadData
from inkfold.pipeline.run import Run
from inkfold.pipeline.same_run import refuse_changes
from inkfold.pipeline.shared import SharedInputs
from inkfold.pipeline.train import train
from inkfold.pipeline.unfinished import early_end
from inkfold.runtime.cost import Cost
from inkfold.runtime.parallel import available_cores
from inkfold.runtime.progress import Progress

log = logging.getLogger("inkfold.auto")

OPEN = "none"  # the name of a backbone that the user leaves open
WITHOUT_BACKBONE: Mapping[str, Any] = {"backbone": {"name": OPEN}}
LEAST_GAIN = 1e-4  # steps that promise less aren't begun
RACE_SHARE, LEAST_RACE_S = 0.15, 10.0  # of the time that is left; a race isn't begun with less
READING_SHARE, LEAST_READING_S = 0.08, 1.0  # of the time that is left
GRACE_SHARE = 0.06  # of the budget, by which the end of a fine-tuning may exceed it
LOST_STEPS = 20  # since the last checkpoint, and of a cool-down
FEWEST_PAIRS, PAIRS_PER_S = 1000, 60.0  # compared to find copies: at 2 ms each, a tenth of two cores' time
DAMAGED = ".damaged"  # the end of the name that a candidate's directory gets which isn't as it was written
MOST_BACKBONES = 3  # beside those of the best vote


class Search:
    """A search in one directory, during one call.

    Args:
        recipe: The search's recipe, with the folder of drawings.
        out: The search's directory, which this process has claimed.
        record: What earlier calls did.
        clock: The time that is left.
        executor: Computes features; None computes them in this process.
        status: Shows the steps, and the stages of each.
        shared: Keeps what all trainings on the data have in common, the data among it.
    """

    def __init__(
        self,
        recipe: AutoRecipe,
        out: Path,
        record: AutoRecord,
        clock: Clock,
        *,
        executor: Executor | None,
        status: Status,
        shared: SharedInputs,
    ) -> None:
        self._request, self.recipe = recipe, recipe if recipe.auto.replay is not None else _with_limit(recipe, record)
        self.out, self.record, self.clock = out, record, clock
        self._executor, self._status = executor or InlineExecutor(), status
        self._shared = shared
        self._backbones: list[BackboneAtHand] = []
        self._best: BestSoFar
        self._known: Known

    def save(self) -> None:
        """Write the record, with the time that is spent by now."""
        self.record.spent_s = self.clock.spent_s
        self.record.save(self.out)

    def run(self) -> None:
        """Try what promises most per second, until the time is over or nothing is left to try."""
        read = self._read()
        known = self._known = self._at_start(read)
        begun = self._load_earlier(known)
        prepared = self._prepare(known, read)
        if not (self.out / MANIFEST).is_file():
            self._try(first_move(known), known, must=True)
        self._race(known, prepared)
        for step in begun:
            self._carry_out(step, self._settled(step.recipe or {}), known)
        while (move := self._next(known, prepared)) is not None:
            self._try(move, known)
        self._note_rest(known)
        self._best.complete(self._shared, self._executor)

    def refuse_changes(self) -> None:
        """Refuse to return a search whose time is over if its drawings, or the backbones of what it chose, have changed since.

        Raises:
            PredictionError: With everything that is different now.
        """
        self._read()
        for name in self._best.names:
            self._unchanged_run(name)

    def replay(self, record: AutoRecord) -> None:
        """Train what another search chose, and publish it.

        Raises:
            PredictionError: If the record has no choice, or is of other data.
        """
        read = self._read()
        if record.choice is None:
            raise PredictionError(f"{self.recipe.auto.replay}: has no choice, as that search published nothing.")
        if record.data.get("fingerprint") != read.fingerprint:
            raise PredictionError(f"{self.recipe.auto.replay}: is of other drawings, or they have changed since.")
        self.recipe = self._best.recipe = _with_limit(self._request, record)
        names = record.choice.get("members") or [record.choice["step"]]
        for name in names:
            self._train(self._settled(recipe_of(record, name)), name, self._status)
        self.record.steps, self.record.choice, self.record.best = record.steps, record.choice, record.best
        self.record.data |= {key: value for key, value in record.data.items() if key not in self.record.data}
        self._best.put_at_top()
        self._best.complete(self._shared, self._executor)

    # ------------------------------------------------------------------ what is known

    def _read(self) -> ReadData:
        """Read the drawings' files, and refuse other data than those of earlier calls."""
        base = self._settled(WITHOUT_BACKBONE)
        read = self._shared.read(base, Cost(), self._status)
        dataset = read.dataset
        metric = metric_of(base, dataset)
        self._best = BestSoFar(self.recipe, self.out, self.record, metric, self.clock, self._status)
        counts = {"n_train": len(dataset.train), "n_test": 0 if dataset.test is None else len(dataset.test)}
        known = self.record.data.get("fingerprint", read.fingerprint)
        if known != read.fingerprint:
            raise PredictionError(f"{self.out}: was searched with other drawings. Choose another out= for the new data.")
        self.record.data |= {"fingerprint": read.fingerprint, **counts, "num_classes": len(dataset.class_names)}
        if not metric.is_accuracy:
            self.record.metric = {
                "name": metric.name,
                "title": metric.title,
                "greater_is_better": metric.greater_is_better,
            }
        return read

    def _at_start(self, read: ReadData) -> Known:
        """Find the backbones at hand, and guess what each costs."""
        base, dataset = self._settled(WITHOUT_BACKBONE), read.dataset
        is_open, own = base.backbone.name == OPEN, base.backbone
        if is_open and (own.weights or own.mean or own.std or own.model_args):
            raise RecipeError(
                "backbone: weights, mean, std and model_args are of one backbone. Name it too: backbone.name=NAME."
            )
        self._backbones = backbones_at_hand(None if is_open else own.name)
        tried, left_out = worth_trying(self._backbones)
        if not tried:
            raise WeightsError("; ".join(f"{name}: {why}" for name, why in left_out.items()))
        size = Size(
            train=len(dataset.train),
            test=0 if dataset.test is None else len(dataset.test),
            classes=len(dataset.class_names),
            folds=base.folds.k if base.folds.split == "kfold" else 1,
        )
        costs = Costs(size, device=choose_device(base.backbone.device).type)
        speed = MachineSpeed(costs.device, available_cores())
        for backbone in tried:
            costs.images_per_s[backbone.name] = speed.images_per_s(backbone.gmacs)
        return Known([tried[0].name], costs, self.record.steps)

    def _prepare(self, known: Known, read: ReadData) -> Prepared:
        """Decode the drawings for the cheapest backbone, find copies, and decide how pages are read."""
        base = self._settled({"backbone": {"name": known.backbones[0]}})
        plan = build_plan(base, self._executor)
        prepared = prepare_drawings(plan, read, Cost(), self._status, self._shared)
        if not known.reading:
            step = Step(READING, "reading", why="how pages are read", began_s=self.clock.spent_s)
            self._status.begin(step)
            seconds = max(READING_SHARE * self.clock.left_s, LEAST_READING_S)
            chosen = choose_reading_once(plan, prepared, seconds, self._status)
            chosen.step.began_s = step.began_s
            chosen.step.seconds = self.clock.spent_s - step.began_s
            known.reading = chosen.keys
            self._replace(chosen.step)
            self._status.end(chosen.step)
        return prepared

    def _race(self, known: Known, prepared: Prepared) -> None:
        """Find out which backbones are worth training on, where there are several and there is time."""
        step = Step("backbones", "race", why="which backbones are worth training on", began_s=self.clock.spent_s)
        if len(self._backbones) < 2 or self.clock.left_s < LEAST_RACE_S:
            return
        self._replace(step)
        self._status.begin(step)
        name = known.backbones[0]
        base = self._settled({"backbone": {"name": name, "features": "layers"}, "image": dict(known.reading)})
        limits = RaceLimits(lambda: self.clock.left_s - self._best.reserve_s, RACE_SHARE)
        race = BackboneRace(base, prepared, self._backbones, limits, self._executor)
        with contextlib.suppress(OutOfTime):
            race.run(self.clock.watched(self._status, self.clock.budget_s - self._best.reserve_s))
        self._take(race.result(), known, step)
        step.seconds = self.clock.spent_s - step.began_s
        self._status.end(step)
        self.save()

    def _take(self, result: RaceResult, known: Known, step: Step) -> None:
        """Take the backbones that a race found to be worth training on."""
        names = {backbone.full_name: backbone.name for backbone in self._backbones}
        for entry in result.entries:
            if entry.found.images_per_s:
                known.costs.images_per_s[names[entry.name]] = entry.found.images_per_s
        others = [entry.name for entry in result.entries if entry.found.rounds and not entry.is_out]
        unjudged = [entry.name for entry in result.entries if not entry.is_judged and not entry.is_out]
        known.unjudged = {names[name] for name in unjudged}
        taken = [*dict.fromkeys([*result.voters, *others[:MOST_BACKBONES], *unjudged])]
        known.backbones = [*dict.fromkeys([*(names[name] for name in taken), *known.backbones])]
        for entry in result.entries:
            entry.found.taken = names[entry.name] in known.backbones
        self.record.backbones = result.backbones
        step.state, step.n, step.accuracy = "done", result.n or None, result.vote_accuracy
        step.why = f"{step.why}: {result.reason}" if result.reason else step.why

    # ------------------------------------------------------------------ steps

    def _next(self, known: Known, prepared: Prepared) -> Move | None:
        """Choose the step with the most expected gain per second, of those that end in time."""
        while True:
            left = self.clock.left_s - self._best.reserve_s
            fitting = [move for move in possible_moves(known, left) if move.seconds < left and move.gain > LEAST_GAIN]
            move = max(fitting, key=lambda move: (move.gain_per_s, move.name), default=None)
            time = None if move is None else known.finetune_times.get(move.backbone)
            if move is None or move.kind != "finetune" or time is None or time.is_measured:
                return move
            self._measure(move, known, prepared, left)

    def _measure(self, move: Move, known: Known, prepared: Prepared, left_s: float) -> None:
        """Measure how long a fine-tuning will take before it is decided on."""
        self._status.note(f"measuring how long training {move.backbone} takes")
        progress = self.clock.watched(self._status, self.clock.budget_s - self._best.reserve_s)
        try:
            plan = build_plan(self._settled(move.recipe), self._executor)
            known.finetune_times[move.backbone] = measure_time(plan, prepared, left_s, progress)
        except (InkfoldError, OutOfTime) as error:
            known.finetune_times[move.backbone] = None
            text = "the time was over" if isinstance(error, OutOfTime) else str(error).splitlines()[0]
            self._replace(Step(move.name, move.kind, "failed", f"{move.why}: {text}", began_s=self.clock.spent_s))

    def _try(self, move: Move, known: Known, *, must: bool = False) -> None:
        """Train a candidate, unless its time is over, and publish the best."""
        recipe = self._settled(move.recipe)
        raw = _without_shared(recipe)
        step = Step(move.name, move.kind, why=move.why, recipe=raw, expected_s=move.seconds, expected_gain=move.gain)
        self._carry_out(step, recipe, known, must=must)

    def _carry_out(self, step: Step, recipe: Recipe, known: Known, *, must: bool = False) -> None:
        """Train a step's model, to its end if it must be, and judge it."""
        step.state, step.began_s = "running", self.clock.spent_s
        self._replace(step)
        self._status.begin(step)
        try:
            end = float("inf") if must else self.clock.budget_s - self._best.reserve_s
            run = self._train_in_time(recipe, step, end)
        except OutOfTime:
            step.state, step.why = "stopped", f"{step.why}; stopped at the deadline"
        except InkfoldError as error:
            if must:
                raise
            step.state, step.why = "failed", str(error).splitlines()[0]
        else:
            self._note_costs(known, recipe.backbone.name, run)
            self._best.judge(step, run)
            known.wrong = self._best.wrong
        step.seconds = self.clock.spent_s - step.began_s
        self.save()
        self._status.end(step)

    def _train_in_time(self, recipe: Recipe, step: Step, end_s: float) -> Run:
        """Train a candidate; a fine-tuning whose time is over ends with what is trained by then."""
        directory, kept_s = self._best.directory(step.name), self._finish_s(recipe)
        try:
            return self._train(recipe, step.name, self.clock.watched(self._status, end_s - kept_s))
        except OutOfTime:
            end = early_end(directory) if recipe.is_finetuned else None
            if end is None:
                raise
        step.recipe, step.why = _without_shared(end.recipe), f"{step.why}; ended early, as the time was over"
        self.save()
        return self._train(end.recipe, step.name, self.clock.watched(self._status, end_s + GRACE_SHARE * self.clock.budget_s))

    def _train(self, recipe: Recipe, name: str, progress: Progress) -> Run:
        return train(
            recipe,
            out=self._best.directory(name),
            progress=progress,
            on=self._executor,
            shared=self._shared,
            measure_apart=False,
        )

    def _finish_s(self, recipe: Recipe) -> float:
        """Return the seconds to keep for what comes after a fine-tuning: predictions by each fold's own backbone."""
        time = self._known.finetune_times.get(recipe.backbone.name)
        if not recipe.is_finetuned or time is None:
            return 0.0
        size = self._known.costs.size
        forwards = (size.train / max(size.folds, 2) + size.test) * max(len(recipe.tta), 1) * recipe.folds.held_out_parts
        return forwards * time.step_time.predict_s + LOST_STEPS * time.step_time.step_s

    def _note_costs(self, known: Known, backbone: str, run: Run) -> None:
        """Learn from a run what steps take, and how pages are read."""
        recipe, width = run.recipe, next((tensor.shape[1] for name, tensor in run.heads.items() if name.endswith("weight")), 1)
        hidden = recipe.head.hidden[0] if recipe.head.kind == "mlp" and recipe.head.hidden else 0
        seen = None if run.files.out_of_fold is None else run.files.out_of_fold.seen
        if seen is not None and 2 * seen.sum() > len(seen):
            known.pretrained_here.add(backbone)
        known.costs.sizes.setdefault(backbone, run.manifest["backbone"]["image_size"])
        known.costs.resizable.setdefault(backbone, takes_any_size(backbone))
        known.costs.note(
            backbone,
            run.files.cost,
            epochs=recipe.train_head.epochs,
            hidden=hidden,
            width=int(width),
        )

    def _note_rest(self, known: Known) -> None:
        """Write down what was not begun, and why."""
        left = self.clock.left_s - self._best.reserve_s
        for move in possible_moves(known, left):
            if self.record.step(move.name) is None and move.seconds >= left:
                why = f"{move.why}: {duration(max(left, 0.0))} were left"
                self.record.steps.append(
                    Step(move.name, move.kind, "skipped", why, expected_s=move.seconds, expected_gain=move.gain)
                )

    # ------------------------------------------------------------------ helpers

    def _load_earlier(self, known: Known) -> list[Step]:
        """Load what earlier calls have finished; returns what comes first: what is damaged, and fine-tunings that can go on."""
        begun = [step for step in self.record.steps if step.state in ("running", "stopped") and step.kind == "finetune"]
        done = [step for step in self.record.steps if step.state == "done" and self._is_there(step)]
        damaged = [step for step in done if step.kind not in ("reading", "race") and self._is_set_aside(step.name)]
        self.record.steps = [step for step in done if step not in damaged]
        known.steps = self.record.steps
        reading = self.record.step(READING)
        if reading is not None and reading.recipe is not None:
            known.reading = reading.recipe["image"]
        for step in self.record.steps:
            if step.kind not in ("reading", "race"):
                run = self._unchanged_run(step.name)
                self._best.add(step.name, run)
                self._note_costs(known, run.recipe.backbone.name, run)
        self._best.forget_lost()
        known.wrong = self._best.wrong
        begun = [step for step in begun if self._best.directory(step.name).is_dir()]
        return [step for step in (*damaged, *begun) if step.recipe is not None]

    def _is_set_aside(self, name: str) -> bool:
        """Set a candidate's run aside if a file of it is damaged, so that it is fitted anew; return whether it was."""
        directory = self._best.directory(name)
        try:
            read_manifest(directory)
        except PredictionError as error:
            aside = directory.with_name(f"{name}{DAMAGED}")
            log.warning("%s; its run is kept as %s, and is fitted anew", str(error).splitlines()[0], aside)
            shutil.rmtree(aside, ignore_errors=True)
            directory.rename(aside)
            return True
        return False

    def _unchanged_run(self, name: str) -> Run:
        """Load a candidate that an earlier call finished, unless it would be another one now."""
        run = Run.load(self._best.directory(name))
        refuse_changes(run, run.recipe, None)
        return run

    def _is_there(self, step: Step) -> bool:
        """Return whether what a finished step left is still there; a race is always run again."""
        return step.kind == "reading" or (step.kind != "race" and (self._best.directory(step.name) / MANIFEST).is_file())

    def _replace(self, step: Step) -> None:
        """Write a step into the record, in place of an earlier one of its name."""
        self.record.steps[:] = [*(other for other in self.record.steps if other.name != step.name), step]
        self.save()

    def _settled(self, raw: Mapping[str, Any]) -> Recipe:
        return settle_candidate(self.recipe, raw)


def settle_candidate(request: AutoRecipe, raw: Mapping[str, Any], source: str = "candidate") -> Recipe:
    """Make a candidate's recipe: its own keys, what the user fixed, and what all candidates share.

    Args:
        request: The search's recipe, with the folder of drawings.
        raw: The candidate's own keys as nested mappings, such as its backbone.
        source: Name of the recipe in error messages.

    Raises:
        RecipeError: With every problem of the recipe, or if no data are named.
    """
    shared = request.model_dump(mode="json", include={*SHARED_KEYS})
    parts = (raw.get("folds") or {}).get("parts")
    values = {**shared, **request.set, **({} if parts is None else {"folds.parts": parts})}
    return settle_recipe(validate_recipe(with_values(raw, values), source))


def _with_limit(recipe: AutoRecipe, record: AutoRecord) -> AutoRecipe:
    """Limit the search for copies by the first call's budget, as it decides the folds; what a recipe says is kept."""
    if recipe.folds.copy_pairs is not None or not recipe.folds.group_duplicates:
        return recipe
    most = record.data.setdefault("copy_pairs", max(FEWEST_PAIRS, round(PAIRS_PER_S * recipe.auto.budget_s)))
    return recipe.model_copy(update={"folds": recipe.folds.model_copy(update={"copy_pairs": most})})


def _without_shared(recipe: Recipe) -> dict[str, Any]:
    """Write a candidate's recipe without what all candidates share."""
    raw = recipe.model_dump(mode="json", exclude={*SHARED_KEYS})
    return raw if recipe.folds.parts is None else {**raw, "folds": {"parts": recipe.folds.parts}}
