"""A study searches the best hyper-parameters for a data set, with Optuna on cached features, and measures what they gain.

Part of the training drawings is set aside first. Trials are drawn in batches that are fitted in one program, they are scored by
cross-validated accuracy on the other drawings, and only the recipe as it was and the best trial ever predict the part set
aside. Both figures are of drawings as they are: a recipe's `tta` is left alone, and best.yaml keeps it. The study is a journal
on disk: one that was killed is continued, several processes may work on one study at once, and it may be extended.
"""

import contextlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inkfold.config.load import dump_raw, dump_recipe, load_raw, load_recipe, merge_overrides, with_values
from inkfold.config.recipe import Recipe, expand_shorthand
from inkfold.data.dataset import read_dataset
from inkfold.errors import PredictionError, RecipeError
from inkfold.evaluation.plots import plot_history, plot_importance
from inkfold.features.executors import INLINE, Executor, open_executor
from inkfold.pipeline.build import build_plan, data_options, settle_recipe
from inkfold.pipeline.prepare import read_files
from inkfold.pipeline.run_dir import check_recipe
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.search.halving import RUNGS, Halving, rung_epoch
from inkfold.search.journal import AS_IT_IS, Batch, Draws, Journal, TrialResult
from inkfold.search.journal import FILE as STUDY
from inkfold.search.objective import Candidate, Objective
from inkfold.search.space import from_names, search_space, study_name
from inkfold.storage.files import TEMP_MARK, make_directory, write_text
from inkfold.storage.sealed import write_sealed

if TYPE_CHECKING:
    import optuna

log = logging.getLogger("inkfold.search")

SUMMARY, BEST, CANDIDATE = "tune.json", "best.yaml", "candidate.yaml"
HISTORY, IMPORTANCE = "history.svg", "importance.svg"
FEWEST_FOR_IMPORTANCE = 8
HEADERS = {
    BEST: "# The best trial of a study by inkfold tune; tune.json beside it says what it gains.\n",
    CANDIDATE: "# The best trial of a study by inkfold tune, but keep your recipe: on the drawings set aside this one is not\n"
    "# distinguishably better (tune.json).\n",
}


def tune(
    recipe: Mapping[str, Any] | str | Path,
    *overrides: str,
    data: str | Path | None = None,
    out: str | Path,
    progress: Progress = silent,
    on: str | Executor = INLINE,
) -> dict[str, Any]:
    """Search for better hyper-parameters.

    Args:
        recipe: Raw keys, a YAML file, or a shipped recipe's name; its `tune` section defines the search space.
        overrides: `dotted.key=value`: changes of the recipe.
        data: The folder of drawings; overrides the recipe's `data`.
        out: The study's directory. A study of the same recipe and drawings in it is continued, also with more trials.
        progress: Receives each stage's name, steps done and steps in total.
        on: Where features are computed; see `train`.

    Returns:
        The content of `tune.json`: the best values, cross-validated accuracies, and the gain on drawings never searched on.

    Raises:
        RecipeError: If the recipe or its space doesn't validate.
        DataError: With every problem of the data.
        PredictionError: If `out` holds anything else, or a study of another recipe or of other drawings.
    """
    opening = open_executor(on)
    raw, out = _raw(recipe, overrides), Path(out)
    settled = settle_recipe(raw, (), data)
    if settled.is_finetuned:
        raise RecipeError("finetune.part: tune searches heads on a frozen backbone's features. Set finetune.part=none.")
    raw = with_values(raw, {"backbone.name": settled.backbone.name})  # where inkfold chose it: once, for all trials
    draws = Draws(raw, settled, search_space(raw, settled))
    _claim(out, settled)
    dataset = replace(read_dataset(str(settled.data.root), data_options(settled, with_submission=False)), test=None)
    read = read_files(dataset, Cost(), progress)
    journal = Journal(out)
    journal.claim_drawings(read.fingerprint)
    journal.claim_weights({part.backbone.title: part.backbone.weights_digest for part in build_plan(settled).extractor.parts})
    if journal.ended():
        log.info("%s: continues a study of %d trials", out, len(journal.ended()))
    with opening as executor:
        objective = Objective(settled, read, progress, executor)
        _run_trials(journal, objective, draws, progress)
        return _conclude(journal, objective, draws)


def _run_trials(journal: Journal, objective: Objective, draws: Draws, progress: Progress) -> None:
    """Draw trials and fit them until there are enough, and wait for those of other processes."""
    wanted = draws.recipe.tune
    while True:
        with journal.next_batch(draws) as batch:
            if batch is None:
                return
            journal.write(batch, _evaluate(objective, batch, draws))
        progress("trials", min(len(journal.ended()), wanted.trials), wanted.trials)


def _candidate(draws: Draws, values: Mapping[str, Any]) -> Candidate:
    """Put a trial's values into the recipe."""
    return Candidate(values, settle_recipe(with_values(draws.raw, values), (), draws.recipe.data.root))


def _raw(recipe: Mapping[str, Any] | str | Path, overrides: tuple[str, ...]) -> dict[str, Any]:
    if isinstance(recipe, Mapping):
        raw = dict(recipe)
        merge_overrides(raw, overrides)
        return raw
    return load_raw(recipe, overrides)


def _claim(out: Path, recipe: Recipe) -> None:
    """Claim a directory for this recipe's study; the number of trials may change from call to call."""
    if out.exists() and not out.is_dir():
        raise PredictionError(f"{out}: is a file. Choose another out=.")
    make_directory(out)
    recipe_file = out / "recipe.yaml"
    own = {recipe_file.name, STUDY, SUMMARY, BEST, CANDIDATE, HISTORY, IMPORTANCE}
    others = [] if (out / STUDY).is_file() else [path.name for path in out.iterdir() if path.name not in own]
    foreign = sorted(name for name in others if TEMP_MARK not in name and not name.startswith((".", STUDY)))
    if foreign:
        raise PredictionError(f"{out}: holds no study but other files ({', '.join(foreign[:5])}). Choose another out=.")
    compared = recipe
    with contextlib.suppress(RecipeError):  # a file that isn't a recipe is reported below
        earlier = load_recipe(recipe_file).tune
        same_size = recipe.tune.model_copy(update={"trials": earlier.trials, "batch": earlier.batch})
        compared = recipe.model_copy(update={"tune": same_size})
    check_recipe(recipe_file, compared)
    if compared != recipe:
        write_text(recipe_file, dump_recipe(recipe))


def _evaluate(objective: Objective, batch: Batch, draws: Draws) -> list[TrialResult]:
    """Fit a batch's trials together, those to their end that don't fall behind on the way."""
    candidates = [_candidate(draws, from_names(draws.space, trial.params)) for trial in batch.trials]
    halving = None
    if draws.recipe.tune.prune:
        spared = [i for i, trial in enumerate(batch.trials) if AS_IT_IS in trial.user_attrs]
        halving = Halving([_reached(batch, rung) for rung in range(RUNGS)], spared)
    results = []
    for i, fitted in enumerate(objective.evaluate_trials(candidates, halving)):
        number, values = batch.trials[i].number, candidates[i].values
        epochs, reached = candidates[i].recipe.train_head.epochs, {} if halving is None else halving.reached.get(i, [])
        at_rungs = {rung_epoch(epochs, rung): accuracy for rung, accuracy in enumerate(reached)}
        if fitted.diverged is not None:
            log.info("trial %d: diverged in epoch %d: %s", number, fitted.diverged, values)
            results.append(TrialResult(objective.metric.worst, at_rungs, fitted.diverged))
        elif fitted.heads is None:
            log.info("trial %d: pruned: %s", number, values)
            results.append(TrialResult(None, at_rungs))
        else:
            log.info("trial %d: %s %.4f: %s", number, objective.metric.name, fitted.score, values)
            results.append(TrialResult(fitted.score, at_rungs))
    return results


def _reached(batch: Batch, rung: int) -> list[float]:
    """List the scores that trials of earlier batches had at a rung."""
    by_epoch = [sorted(trial.intermediate_values.items()) for trial in batch.earlier]
    return [values[rung][1] for values in by_epoch if len(values) > rung]


def _conclude(journal: Journal, objective: Objective, draws: Draws) -> dict[str, Any]:
    """Compare the best trial with the recipe as it was on the drawings set aside, and write everything down."""
    out, trials = journal.out, journal.ended()
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    best = max(complete, key=lambda trial: (_value(trial), -trial.number), default=None)
    as_it_was = Candidate({}, draws.recipe)
    baseline = _baseline(objective, as_it_was, complete)
    values, reached, keys = dict[str, Any](), baseline, {study_name(key): key for key in draws.space}
    if best is not None and _value(best) > baseline:
        values, reached = from_names(draws.space, best.params), _value(best)
    log.info(
        "the recipe as it was: %s %.4f; the best trial: %.4f with %s",
        objective.metric.name,
        baseline,
        reached,
        values or "the same values",
    )
    aside, metric = objective.compare(as_it_was, _candidate(draws, values)), objective.metric
    deciding = aside if metric.is_accuracy else aside["metric"]
    gains = bool(values) and deciding["distinguishable"] and metric.signed(deciding["difference"]) > 0
    summary: dict[str, Any] = {
        "trials": {"complete": len(complete), "given_up": len(trials) - len(complete)},
        "best": values,
        **metric.as_json(),
        "cross_validated": {
            "as_it_was": metric.signed(baseline),  # in the metric's own direction again
            "best": metric.signed(reached),
            "n": int((~objective.aside).sum()),
        },
        "set_aside": aside,
        "recommended": "best" if gains else "as_it_was",
        "importance": {keys.get(name, name): value for name, value in _importance(journal.study, complete).items()},
        "learnt_by_backbone": objective.seen_in_pretraining(),
    }
    _write_recipes(out, dump_raw(with_values(_without_root(draws.raw), values)), values, gains=gains)
    label = metric.title if metric.greater_is_better else f"less {metric.title}"
    plot_history(out / HISTORY, [_value(trial) if trial in complete else None for trial in trials], baseline, label)
    if summary["importance"]:
        plot_importance(out / IMPORTANCE, summary["importance"])
    write_sealed(out / SUMMARY, summary)
    return summary


def _baseline(objective: Objective, as_it_was: Candidate, complete: Sequence["optuna.trial.FrozenTrial"]) -> float:
    """Return the score of the recipe before the search: that of the trial which tried it, else it is tried now."""
    score = next((_value(trial) for trial in complete if AS_IT_IS in trial.user_attrs), None)
    if score is not None:
        return score
    [fitted] = objective.evaluate_trials([as_it_was])
    return objective.metric.worst if fitted.heads is None else fitted.score


def _write_recipes(out: Path, recipe: str, values: Mapping[str, Any], *, gains: bool) -> None:
    """Write the best trial's recipe under the name that says whether it is worth to continue with, and under no other."""
    names = {BEST: gains, CANDIDATE: bool(values) and not gains}
    for name, is_written in names.items():
        if is_written:
            write_text(out / name, HEADERS[name] + recipe)
        else:
            (out / name).unlink(missing_ok=True)


def _without_root(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the study's own keys and the place of the drawings; how they are read stays."""
    data = {key: value for key, value in (expand_shorthand("data", raw.get("data")) or {}).items() if key != "root"}
    rest = {key: value for key, value in raw.items() if key not in ("tune", "data")}
    return {**({"data": data} if data else {}), **rest}


def _value(trial: "optuna.trial.FrozenTrial") -> float:
    assert trial.value is not None
    return trial.value


def _importance(study: "optuna.Study", complete: Sequence["optuna.trial.FrozenTrial"]) -> dict[str, float]:
    """Measure each key's importance: PED-ANOVA, Watanabe et al., arXiv 2304.10255."""
    import optuna  # noqa: PLC0415

    if len(complete) < FEWEST_FOR_IMPORTANCE:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return {key: float(value) for key, value in optuna.importance.get_param_importances(study, evaluator=evaluator).items()}
