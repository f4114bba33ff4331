"""A study searches the best hyper-parameters for a data set, with Optuna on cached features, and measures what they gain.

Part of the training drawings is set aside first. Trials are drawn in batches that are fitted in one program, they are scored by
cross-validated accuracy on the other drawings, and only the recipe as it was and the best trial ever predict the part set
aside. Both figures are of drawings as they are: a recipe's `tta` is left alone, and best.yaml keeps it. The study is a journal
on disk: one that was killed is continued, several processes may work on one study at once, and it may be extended.
"""

import contextlib
import logging
import threading
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from inkfold.config.load import dump_raw, dump_recipe, load_raw, load_recipe, merge_overrides, with_values
from inkfold.config.recipe import Recipe, expand_shorthand
from inkfold.config.sections import SearchRange
from inkfold.data.dataset import read_dataset
from inkfold.errors import PredictionError, RecipeError
from inkfold.evaluation.plots import plot_history, plot_importance
from inkfold.features.executors import INLINE, Executor, open_executor
from inkfold.pipeline.build import data_options, settle_recipe
from inkfold.pipeline.prepare import read_files
from inkfold.pipeline.run_dir import check_recipe
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.search.objective import Candidate, Objective
from inkfold.search.space import default_values, from_names, search_space, study_name, suggest
from inkfold.storage.files import TEMP_MARK, write_json, write_text

if TYPE_CHECKING:
    import optuna

log = logging.getLogger("inkfold.search")

STUDY, SUMMARY, BEST = "study.journal", "tune.json", "best.yaml"
HISTORY, IMPORTANCE = "history.svg", "importance.svg"
FINGERPRINT = "data_fingerprint"
POLL_S = 0.5  # while other processes finish their trials
RUNGS = 4  # a trial may be pruned after a quarter and after half of the epochs
FEWEST_FOR_IMPORTANCE = 8
AS_IT_IS = "as_it_is"
BEST_HEADER = "# The best trial of a study by inkfold tune; tune.json beside it says what it gains.\n"


@dataclass(frozen=True, slots=True)
class _Search:
    """The recipe as written and as validated, and the range or choices of each dotted key that a study's trials come from."""

    raw: Mapping[str, Any]
    recipe: Recipe
    space: Mapping[str, SearchRange]

    def candidate(self, values: Mapping[str, Any], trial: "optuna.trial.Trial | None" = None) -> Candidate:
        """Put a trial's values into the recipe."""
        return Candidate(trial, values, settle_recipe(with_values(self.raw, values), (), self.recipe.data.root))


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
    search = _Search(raw, settled, search_space(raw, settled))
    _claim(out, settled)
    dataset = replace(read_dataset(str(settled.data.root), data_options(settled, with_submission=False)), test=None)
    read = read_files(dataset, Cost(), progress)
    with _alone(out):
        study = _open_study(out, settled, read.fingerprint)
        if (values := default_values(search.space, raw)) is not None:
            study.enqueue_trial(values, user_attrs={AS_IT_IS: True}, skip_if_exists=True)
    with opening as executor:
        objective = Objective(settled, read, progress, executor)
        _run_trials(out, study, objective, search, progress)
        return _conclude(out, study, objective, search)


def _run_trials(out: Path, study: "optuna.Study", objective: Objective, search: _Search, progress: Progress) -> None:
    """Draw trials and fit them until there are enough, and wait for those of other processes."""
    wanted = search.recipe.tune
    with _at_work(out) as worker:
        while True:
            with _alone(out):
                _take_over(study, out)
                candidates = _draw(study, min(wanted.batch, wanted.trials - _count(study)), worker, search)
            if candidates:
                _evaluate(study, objective, candidates, prune=wanted.prune)
            elif _count(study) > _count(study, running=False):
                time.sleep(POLL_S)  # the drawings set aside are predicted once, when all processes are done
            else:
                return
            progress("trials", min(_count(study, running=False), wanted.trials), wanted.trials)


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
    out.mkdir(parents=True, exist_ok=True)
    recipe_file = out / "recipe.yaml"
    own = {recipe_file.name, STUDY, SUMMARY, BEST, HISTORY, IMPORTANCE}
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


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other processes from the study: they would take a trial that has no worker yet for a dead process's."""
    with FileLock(out / ".study.lock"):
        yield


@contextlib.contextmanager
def _at_work(out: Path) -> Iterator[str]:
    """Hold a lock while this process works, by which others know its trials from those of a dead process."""
    worker = uuid.uuid4().hex
    lock = FileLock(_worker_lock(out, worker))
    with _alone(out):  # so that no process that removes dead ones' locks sees a lock that is made but not held yet
        lock.acquire()
    try:
        yield worker
    finally:
        _worker_lock(out, worker).unlink(missing_ok=True)  # while it is held
        lock.release()


def _worker_lock(out: Path, worker: str) -> Path:
    return out / f".worker-{worker}.lock"


def _open_study(out: Path, recipe: Recipe, fingerprint: str) -> "optuna.Study":
    """Open or begin a study; refuse one whose trials were scored on other drawings."""
    import optuna  # noqa: PLC0415 - a second that only studies need to pay
    from optuna.storages.journal import JournalFileBackend, JournalStorage  # noqa: PLC0415
    from optuna.trial import TrialState  # noqa: PLC0415

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(out / STUDY))),
        study_name="tune",
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.SuccessiveHalvingPruner(
            min_resource=max(1, recipe.train_head.epochs // RUNGS), reduction_factor=2
        ),
    )
    finished = _count(study, running=False)
    if finished:
        log.info("%s: continues a study of %d trials", out, finished)
    earlier = study.user_attrs.get(FINGERPRINT)
    if earlier != fingerprint:
        if any(trial.state != TrialState.WAITING for trial in study.get_trials(deepcopy=False)):
            raise PredictionError(
                f"{out}: holds trials on other drawings: their fingerprint is {earlier} there, {fingerprint} now. What is set "
                "aside now may have been searched on. Restore the drawings, or choose another out=."
            )
        study.set_user_attr(FINGERPRINT, fingerprint)
    return study


def _take_over(study: "optuna.Study", out: Path) -> None:
    """Fail the trials of processes that have died, and enqueue them again."""
    from optuna.trial import TrialState  # noqa: PLC0415

    for path in out.glob(_worker_lock(out, "*").name):
        _remove_if_dead(path)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _worker_lock(out, trial.user_attrs.get("worker", "")).is_file():
            continue
        log.info("trial %d: its process has died, so it is run again", trial.number)
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            kept = {key: value for key, value in trial.user_attrs.items() if key == AS_IT_IS}
            study.enqueue_trial(trial.params, user_attrs=kept)


def _remove_if_dead(path: Path) -> None:
    """Remove the lock of a process that died, whether during a trial or between two."""
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return
    path.unlink(missing_ok=True)
    lock.release()


def _count(study: "optuna.Study", *, running: bool = True) -> int:
    from optuna.trial import TrialState  # noqa: PLC0415

    states = (TrialState.COMPLETE, TrialState.PRUNED, *([TrialState.RUNNING] if running else []))
    return len(study.get_trials(deepcopy=False, states=states))


def _draw(study: "optuna.Study", count: int, worker: str, search: _Search) -> list[Candidate]:
    """Draw trials; the draws depend on the seed and on the number of trials so far, so that a study can be continued."""
    import optuna  # noqa: PLC0415

    candidates = []
    for _ in range(count):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            seed = (search.recipe.seed + 1_000_003 * len(study.get_trials(deepcopy=False))) % 2**32
            study.sampler = optuna.samplers.TPESampler(multivariate=True, group=True, constant_liar=True, seed=seed)
        trial = study.ask()
        trial.set_user_attr("worker", worker)
        candidates.append(search.candidate(suggest(trial, search.space, search.raw), trial))
    return candidates


def _evaluate(study: "optuna.Study", objective: Objective, candidates: Sequence[Candidate], *, prune: bool) -> None:
    """Fit trials together, prune those that fall behind, and store each one's accuracy."""
    from optuna.trial import TrialState  # noqa: PLC0415

    lock = threading.Lock()

    def report(index: int, epoch: int, accuracy: float) -> bool:
        trial, epochs = candidates[index].trial, candidates[index].recipe.train_head.epochs
        assert trial is not None
        if not prune or epoch + 1 not in {max(1, epochs // RUNGS), max(1, epochs // RUNGS) * 2}:
            return True  # the journal is on disk: a line per epoch would take longer than the epoch
        with lock:
            trial.report(accuracy, epoch + 1)
            return AS_IT_IS in trial.user_attrs or not trial.should_prune()

    for candidate, fitted in zip(candidates, objective.evaluate_trials(candidates, report), strict=True):
        trial = candidate.trial
        assert trial is not None
        if fitted.diverged is not None:
            log.info("trial %d: diverged in epoch %d: %s", trial.number, fitted.diverged, candidate.values)
            trial.set_user_attr("diverged", fitted.diverged)
            study.tell(trial, objective.metric.worst)
        elif fitted.heads is None:
            log.info("trial %d: pruned: %s", trial.number, candidate.values)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            log.info("trial %d: %s %.4f: %s", trial.number, objective.metric.name, fitted.score, candidate.values)
            study.tell(trial, fitted.score)


def _conclude(out: Path, study: "optuna.Study", objective: Objective, search: _Search) -> dict[str, Any]:
    """Compare the best trial with the recipe as it was on the drawings set aside, and write everything down."""
    from optuna.trial import TrialState  # noqa: PLC0415

    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    best = max(complete, key=lambda trial: (_value(trial), -trial.number), default=None)
    as_it_was = Candidate(None, {}, search.recipe)
    baseline = next((_value(trial) for trial in complete if AS_IT_IS in trial.user_attrs), None)
    if baseline is None:
        [fitted] = objective.evaluate_trials([as_it_was], lambda *_: True)
        baseline = objective.metric.worst if fitted.heads is None else fitted.score
    values, reached, keys = {}, baseline, {study_name(key): key for key in search.space}
    if best is not None and _value(best) > baseline:
        values, reached = from_names(search.space, best.params), _value(best)
    log.info(
        "the recipe as it was: %s %.4f; the best trial: %.4f with %s",
        objective.metric.name,
        baseline,
        reached,
        values or "the same values",
    )
    summary = {
        "trials": {"complete": len(complete), "given_up": len(trials) - len(complete)},
        "best": values,
        **objective.metric.as_json(),
        "cross_validated": {
            "as_it_was": objective.metric.signed(baseline),  # in the metric's own direction again
            "best": objective.metric.signed(reached),
            "n": int((~objective.aside).sum()),
        },
        "set_aside": objective.compare(as_it_was, search.candidate(values)),
        "importance": {keys.get(name, name): value for name, value in _importance(study, complete).items()},
        "learnt_by_backbone": objective.seen_in_pretraining(),
    }
    write_text(out / BEST, BEST_HEADER + dump_raw(with_values(_without_root(search.raw), values)))
    label = objective.metric.title if objective.metric.greater_is_better else f"less {objective.metric.title}"
    plot_history(out / HISTORY, [_value(trial) if trial in complete else None for trial in trials], baseline, label)
    if summary["importance"]:
        plot_importance(out / IMPORTANCE, summary["importance"])
    write_json(out / SUMMARY, summary)
    return summary


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
