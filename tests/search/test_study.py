import json
import logging
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import optuna
import pytest
from filelock import FileLock, Timeout
from optuna.trial import TrialState

from forks import INKFOLD, Process
from inkfold.config.load import load_recipe
from inkfold.errors import DataError, PredictionError, RecipeError
from inkfold.pipeline.train import train
from inkfold.search import study
from inkfold.search.study import tune
from toy import RECIPE, files_below, job_of, toy_data, toy_recipe

TUNE = """
tune:
  trials: 10
  batch: 4
  judge_fraction: 0.3
  space:
    train_head.lr: {low: 1.0e-4, high: 1.0e-1, log: true}
    head: {choices: [{kind: linear}, {kind: mlp, hidden: [6]}, {kind: knn, neighbours: 3}]}
    head.dropout: {low: 0, high: 0.5}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_data(tmp_path_factory.mktemp("data") / "data", train_per_class=14)


@pytest.fixture
def recipe(tmp_path):
    return toy_recipe(tmp_path, RECIPE + TUNE)


def study_in(out):
    storage = optuna.storages.journal.JournalStorage(optuna.storages.journal.JournalFileBackend(str(out / "study.journal")))
    return optuna.load_study(study_name="tune", storage=storage)


def trials(out, states=None):
    return study_in(out).get_trials(states=states)


def test_a_study_leaves_the_best_recipe_the_figures_and_the_plots(tmp_path, data, recipe):
    summary = tune(recipe, data=data, out=tmp_path / "study")
    assert files_below(tmp_path / "study") == {
        "recipe.yaml",
        "study.journal",
        ".study.lock",
        "tune.json",
        "best.yaml",
        "history.svg",
        *(["importance.svg"] if summary["importance"] else []),
    }
    assert json.loads((tmp_path / "study/tune.json").read_text()) == summary
    assert summary["trials"]["complete"] + summary["trials"]["given_up"] == 10
    assert summary["set_aside"]["n"] + summary["cross_validated"]["n"] == 42
    assert 10 <= summary["set_aside"]["n"] <= 16
    best = load_recipe(tmp_path / "study/best.yaml")
    for key, value in summary["best"].items():
        section, _, name = key.partition(".")
        assert (getattr(getattr(best, section), name) if name else getattr(best, section).kind) == (
            value if name else value["kind"]
        )
    run = train(tmp_path / "study/best.yaml", data=data, out=tmp_path / "run")
    assert run.metrics["out_of_fold"]["n"] == 42


def test_the_recipe_as_it_is_is_the_first_trial_and_is_never_given_up(tmp_path, data, recipe, caplog):
    caplog.set_level(logging.INFO, "inkfold.search")
    summary = tune(recipe, data=data, out=tmp_path / "study")
    first = trials(tmp_path / "study")[0]
    assert f"trial 0: accuracy {first.value:.4f}: " in caplog.text
    assert caplog.text.count(": pruned: ") == summary["trials"]["given_up"]
    assert first.state == TrialState.COMPLETE
    assert first.params == {"fit.lr": 0.01, "head": '{"kind": "linear"}'}
    assert summary["cross_validated"]["as_it_was"] == first.value
    assert summary["cross_validated"]["best"] >= first.value


def test_a_recipe_outside_its_space_is_tried_beside_it(tmp_path, data, recipe):
    summary = tune(recipe, "train_head.lr=1e-5", "tune.trials=4", data=data, out=tmp_path / "study")
    assert len(trials(tmp_path / "study")) == 4
    assert 0 <= summary["cross_validated"]["as_it_was"] <= summary["cross_validated"]["best"] <= 1


def test_the_drawings_set_aside_decide_nothing(tmp_path, data, recipe, monkeypatch):
    evaluated = []
    real = study.Objective.evaluate_trials

    def watched(self, candidates, report):
        evaluated.append(self.aside.copy())
        from inkfold.search import objective

        real_build = objective.build_training_set

        def rebuilt(*arguments):
            made = real_build(*arguments)
            made.targets[self.aside] = 0  # what can't be seen can't matter
            return made

        with monkeypatch.context() as patch:
            patch.setattr(objective, "build_training_set", rebuilt)
            return real(self, candidates, report)

    monkeypatch.setattr(study.Objective, "evaluate_trials", watched)
    changed = tune(recipe, data=data, out=tmp_path / "changed")
    monkeypatch.undo()
    plain = tune(recipe, data=data, out=tmp_path / "plain")
    assert evaluated
    assert changed["best"] == plain["best"]
    assert changed["cross_validated"] == plain["cross_validated"]


def test_the_same_study_gives_the_same_answers(tmp_path, data, recipe):
    assert tune(recipe, data=data, out=tmp_path / "one") == tune(recipe, data=data, out=tmp_path / "two")
    assert (tmp_path / "one/best.yaml").read_bytes() == (tmp_path / "two/best.yaml").read_bytes()


def test_a_finished_study_runs_no_more_trials(tmp_path, data, recipe):
    first = tune(recipe, data=data, out=tmp_path / "study")
    count = len(trials(tmp_path / "study"))
    assert tune(recipe, data=data, out=tmp_path / "study") == first
    assert len(trials(tmp_path / "study")) == count


def test_a_study_of_another_recipe_is_refused(tmp_path, data, recipe):
    tune(recipe, "tune.trials=2", data=data, out=tmp_path / "study")
    with pytest.raises(PredictionError, match="seed"):
        tune(recipe, "tune.trials=2", "seed=9", data=data, out=tmp_path / "study")


def test_a_space_that_does_not_fit_is_reported_before_any_work(tmp_path, data, recipe):
    with pytest.raises(RecipeError, match="no such key"):
        tune(recipe, "tune.space={train_head.lrr: {low: 0.1, high: 1}}", data=data, out=tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_trials_that_diverge_count_as_the_worst(tmp_path, data, recipe):
    space = "tune.space={train_head.lr: {low: 9.0, high: 10.0}}"
    wild = (
        "train_head.optimiser=sgd",
        "train_head.weight_decay=10",
        "train_head.epochs=60",
        "train_head.scaling=none",
        "tune.trials=3",
        "tune.prune=false",
    )
    summary = tune(recipe, space, *wild, data=data, out=tmp_path / "study")
    assert {trial.value for trial in trials(tmp_path / "study")} == {0.0}
    assert summary["best"] == {}


def test_views_that_trials_share_are_computed_once(tmp_path, data, recipe, monkeypatch):
    from inkfold.search import objective

    prepared = []
    real = objective.prepare_inputs
    monkeypatch.setattr(
        objective, "prepare_inputs", lambda recipe, *rest: prepared.append(recipe.curriculum) or real(recipe, *rest)
    )
    space = "tune.space={curriculum: {choices: [null, [{augment: [hflip@0.5]}]]}, train_head.lr: {low: 0.001, high: 0.1}}"
    tune(recipe, space, data=data, out=tmp_path / "study")
    assert len(prepared) == len(set(map(str, prepared))) == 2


def test_the_trials_of_a_killed_process_are_run_again(tmp_path, data, recipe):
    out = tmp_path / "study"
    settings = "tune.trials=20", "train_head.epochs=120"
    with Process(job_of(INKFOLD, "tune", recipe, f"data={data}", f"out={out}", *settings)) as process:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and not (
            (out / "study.journal").is_file() and len([one for one in trials(out) if one.state.is_finished()]) >= 1
        ):
            time.sleep(0.05)
        process.kill()
    interrupted = trials(out, (TrialState.RUNNING,))
    summary = tune(recipe, *settings, data=data, out=out)
    assert not trials(out, (TrialState.RUNNING,))
    assert summary["trials"]["complete"] + summary["trials"]["given_up"] == 20
    again = [trial.params for trial in trials(out) if trial.state != TrialState.FAIL]
    for trial in interrupted:
        assert any(trial.params.items() <= params.items() for params in again), "all that it had been evaluated by then"
    assert not list(out.glob(".worker-*"))


def test_a_backbone_that_nobody_named_is_chosen_once_for_all_trials(tmp_path, data, monkeypatch):
    chosen = []
    monkeypatch.setattr("inkfold.pipeline.build.choose_backbone", lambda: chosen.append("ink-small") or "ink-small")
    tune({"folds": {"k": 3}, "train_head": {"epochs": 2}}, "tune.trials=3", data=data, out=tmp_path / "study")
    assert chosen == ["ink-small"]
    assert load_recipe(tmp_path / "study/best.yaml").backbone.name == "ink-small"


def test_the_lock_of_a_process_that_died_between_two_trials_is_swept_away(tmp_path, data, recipe):
    out = tmp_path / "study"
    tune(recipe, "tune.trials=2", data=data, out=out)
    (out / ".worker-dead.lock").touch()
    tune(recipe, "tune.trials=3", data=data, out=out)
    assert not list(out.glob(".worker-*"))


def test_two_processes_work_on_one_study(tmp_path, data, recipe):
    out = tmp_path / "study"
    results, seen = [], []

    def work():
        results.append(tune(recipe, "tune.trials=16", "train_head.epochs=40", data=data, out=out))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
        time.sleep(0.3)
    for thread in threads:
        thread.join()
    seen = trials(out)
    assert len(results) == 2
    assert len(seen) == 16
    assert all(trial.state.is_finished() for trial in seen)
    assert len({trial.user_attrs["worker"] for trial in seen}) == 2
    assert len({json.dumps(trial.params, sort_keys=True) for trial in seen}) >= 15
    assert np.isfinite(results[0]["set_aside"]["difference"])


def test_a_study_of_other_drawings_is_refused_but_test_drawings_have_no_say(tmp_path, recipe):
    data, out = toy_data(tmp_path / "own"), tmp_path / "study"
    tune(recipe, "tune.trials=2", data=data, out=out)
    (data / "test/0.png").write_bytes((data / "test/1.png").read_bytes())
    tune(recipe, "tune.trials=3", data=data, out=out)
    shutil.copy(data / "train/apple/sketch_0.png", data / "train/apple/sketch_1.png")
    with pytest.raises(PredictionError, match=r"trials on other drawings.*Restore the drawings, or choose another out="):
        tune(recipe, "tune.trials=4", data=data, out=out)
    assert len(trials(out)) == 3


def test_drawings_may_change_before_the_first_trial(tmp_path, recipe):
    data, out = toy_data(tmp_path / "own", train_per_class=2), tmp_path / "study"
    with pytest.raises(DataError):
        tune(recipe, "tune.trials=2", "folds.k=40", data=data, out=out)
    shutil.rmtree(data)
    toy_data(data, train_per_class=20)
    assert tune(recipe, "tune.trials=2", "folds.k=40", data=data, out=out)["trials"]["complete"] >= 1


def test_a_study_can_be_extended(tmp_path, data, recipe):
    out = tmp_path / "study"
    tune(recipe, "tune.trials=2", data=data, out=out)
    summary = tune(recipe, "tune.trials=5", "tune.batch=2", data=data, out=out)
    assert summary["trials"]["complete"] + summary["trials"]["given_up"] == len(trials(out)) == 5
    assert load_recipe(out / "recipe.yaml").tune.trials == 5
    with pytest.raises(PredictionError, match="judge_fraction"):
        tune(recipe, "tune.trials=5", "tune.judge_fraction=0.2", data=data, out=out)


def test_a_directory_that_holds_something_else_is_refused(tmp_path, data, recipe):
    train(recipe, data=data, out=tmp_path / "run")
    with pytest.raises(PredictionError, match=r"holds no study but other files.*cost.json"):
        tune(recipe, data=data, out=tmp_path / "run")
    with pytest.raises(PredictionError, match="is a file"):
        tune(recipe, data=data, out=recipe)


def test_a_process_waits_for_the_trials_of_others_before_it_concludes(tmp_path, data, recipe):
    out = tmp_path / "study"
    tune(recipe, "tune.trials=2", data=data, out=out)
    before = (out / "tune.json").read_bytes()
    study = study_in(out)
    trial = study.ask()
    trial.set_user_attr("worker", "other")
    with FileLock(out / ".worker-other.lock"), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(tune, recipe, "tune.trials=3", data=data, out=out)
        time.sleep(3)
        assert not waiting.done()
        assert (out / "tune.json").read_bytes() == before
        study.tell(trial, 0.0)
        assert waiting.result()["trials"]["complete"] == 3
    assert len(trials(out)) == 3


def test_no_trial_is_seen_before_it_has_a_worker(tmp_path, data, recipe, monkeypatch):
    out, locked = tmp_path / "study", []
    real = optuna.trial.Trial.set_user_attr

    def is_locked():
        try:
            with FileLock(out / ".study.lock", timeout=0):
                return False
        except Timeout:
            return True

    def watched(self, key, value):
        if key == "worker":
            with ThreadPoolExecutor(1) as pool:
                locked.append(pool.submit(is_locked).result())
        real(self, key, value)

    monkeypatch.setattr(optuna.trial.Trial, "set_user_attr", watched)
    tune(recipe, "tune.trials=2", data=data, out=out)
    assert locked == [True, True]


def test_the_best_recipe_keeps_how_the_data_are_read_but_not_where_they_are(tmp_path, data, recipe):
    tune(recipe, "data.on_broken=skip", "tta=[identity, hflip]", "tune.trials=2", data=data, out=tmp_path / "study")
    best = load_recipe(tmp_path / "study/best.yaml")
    assert (best.data.on_broken, best.data.root, len(best.tta)) == ("skip", None, 2)


def test_trials_of_a_process_that_dies_are_done_by_the_one_that_waits(tmp_path, data, recipe):
    out = tmp_path / "study"
    tune(recipe, "tune.trials=2", data=data, out=out)
    trial = study_in(out).ask()
    trial.set_user_attr("worker", "other")
    with ThreadPoolExecutor(1) as pool:
        with FileLock(out / ".worker-other.lock"):
            waiting = pool.submit(tune, recipe, "tune.trials=3", data=data, out=out)
            time.sleep(1)
        assert sum(waiting.result()["trials"].values()) == 3
    assert [one.number for one in trials(out, (TrialState.FAIL,))] == [trial.number]
