import contextlib
import json
import logging
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import optuna
import pytest
import torch
from filelock import FileLock
from optuna.trial import TrialState

from forks import INKFOLD, Process
from inkfold.config.load import load_recipe
from inkfold.errors import DataError, PredictionError, RecipeError
from inkfold.pipeline.train import train
from inkfold.search import study
from inkfold.search.journal import Journal
from inkfold.search.study import tune
from inkfold.storage.sealed import read_sealed
from toy import RECIPE, files_below, job_of, toy_data, toy_recipe

pytestmark = pytest.mark.usefixtures("warm_home")

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


RECIPES = {"best": "best.yaml", "as_it_was": "candidate.yaml"}


@contextlib.contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


def study_in(out):
    storage = optuna.storages.journal.JournalStorage(optuna.storages.journal.JournalFileBackend(str(out / "study.journal")))
    return optuna.load_study(study_name="tune", storage=storage)


def trials(out, states=None):
    return study_in(out).get_trials(states=states)


def decisions(out):
    """What a study drew, stopped and measured."""
    return [(trial.number, trial.state, trial.value, trial.params, trial.intermediate_values) for trial in trials(out)]


def test_a_study_leaves_the_best_recipe_the_figures_and_the_plots(tmp_path, data, recipe):
    summary = tune(recipe, data=data, out=tmp_path / "study")
    assert files_below(tmp_path / "study") == {
        "recipe.yaml",
        "study.journal",
        ".study.lock",
        ".journal.lock",
        "tune.json",
        "history.svg",
        *([RECIPES[summary["recommended"]]] if summary["best"] else []),
        *(["importance.svg"] if summary["importance"] else []),
    }
    assert read_sealed(tmp_path / "study/tune.json", must_be_sealed=True) == summary
    assert summary["trials"]["complete"] + summary["trials"]["given_up"] == 10
    assert summary["set_aside"]["n"] + summary["cross_validated"]["n"] == 42
    assert 10 <= summary["set_aside"]["n"] <= 16


@pytest.fixture
def seen_better(monkeypatch):
    """Let the drawings set aside say that the best trial is distinguishably better, or that it isn't."""

    def say(difference, *, distinguishable):
        figures = {"accuracy": 0.5, "accuracy_ci95": [0.4, 0.6]}
        aside = {"n": 13, "as_it_was": figures, "best": figures, "difference": difference, "distinguishable": distinguishable}
        monkeypatch.setattr(study.Objective, "compare", lambda *_: aside)

    return say


BETTER = "tune.trials=4", "train_head.lr=1e-4", "tune.space={train_head.lr: {low: 0.02, high: 0.03}}"


def test_a_gain_that_is_distinguishable_leaves_a_recipe_to_continue_with(tmp_path, data, recipe, seen_better):
    seen_better(0.2, distinguishable=True)
    summary = tune(recipe, *BETTER, data=data, out=tmp_path / "study")
    assert summary["recommended"] == "best"
    best = load_recipe(tmp_path / "study/best.yaml")
    assert best.train_head.lr == summary["best"]["train_head.lr"] >= 0.02
    assert not (tmp_path / "study/candidate.yaml").exists()
    run = train(tmp_path / "study/best.yaml", data=data, out=tmp_path / "run")
    assert run.metrics["out_of_fold"]["n"] == 42


@pytest.mark.parametrize(("difference", "distinguishable"), [(0.1, False), (-0.2, True)])
def test_without_a_distinguishable_gain_the_recipe_as_it_was_is_recommended(
    tmp_path, data, recipe, seen_better, difference, distinguishable
):
    out = tmp_path / "study"
    out.mkdir()
    (out / "study.journal").touch()
    (out / "best.yaml").write_text("# of an earlier, smaller study")
    seen_better(difference, distinguishable=distinguishable)
    summary = tune(recipe, *BETTER, data=data, out=out)
    assert summary["recommended"] == "as_it_was"
    assert not (out / "best.yaml").exists()
    text = (out / "candidate.yaml").read_text()
    assert "keep your recipe" in text.splitlines()[0]
    assert load_recipe(out / "candidate.yaml").train_head.lr == summary["best"]["train_head.lr"]


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

    def watched(self, candidates, halving=None):
        evaluated.append(self.aside.copy())
        from inkfold.search import objective

        real_build = objective.build_training_set

        def rebuilt(*arguments):
            made = real_build(*arguments)
            made.targets[self.aside] = 0  # what can't be seen can't matter
            return made

        with monkeypatch.context() as patch:
            patch.setattr(objective, "build_training_set", rebuilt)
            return real(self, candidates, halving)

    monkeypatch.setattr(study.Objective, "evaluate_trials", watched)
    changed = tune(recipe, data=data, out=tmp_path / "changed")
    monkeypatch.undo()
    plain = tune(recipe, data=data, out=tmp_path / "plain")
    assert evaluated
    assert changed["best"] == plain["best"]
    assert changed["cross_validated"] == plain["cross_validated"]


def test_the_same_study_gives_the_same_answers(tmp_path, data, recipe):
    outs = [tmp_path / name for name in ("one", "two")]
    for out, count in zip(outs, (1, 2), strict=True):
        with threads(count):
            tune(recipe, data=data, out=out)
    files = [{name: (out / name).read_bytes() for name in files_below(out) - {"study.journal"}} for out in outs]
    assert files[0] == files[1]
    assert decisions(outs[0]) == decisions(outs[1])


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
        objective, "prepare_inputs", lambda plan, *rest, **more: prepared.append(plan.curriculum) or real(plan, *rest, **more)
    )
    space = "tune.space={curriculum: {choices: [null, [{augment: [hflip@0.5]}]]}, train_head.lr: {low: 0.001, high: 0.1}}"
    tune(recipe, space, data=data, out=tmp_path / "study")
    assert len(prepared) == len(set(map(str, prepared))) == 2


def test_a_study_killed_at_any_moment_ends_as_one_that_was_not(tmp_path, data, recipe, monkeypatch):
    out, names = tmp_path / "killed", {"tune.json", "history.svg", "recipe.yaml"}
    tune(recipe, data=data, out=tmp_path / "whole")
    for method in ("add_trial", "tell"):  # between the draws of a batch, and between its results
        real, calls = getattr(optuna.Study, method), []

        def killed(self, *arguments, real=real, calls=calls, **values):
            if isinstance(self._storage, optuna.storages.JournalStorage):
                calls.append(1)
                if len(calls) == 6:
                    raise KeyboardInterrupt
            return real(self, *arguments, **values)

        with monkeypatch.context() as patch:
            patch.setattr(optuna.Study, method, killed)
            with pytest.raises(KeyboardInterrupt):
                tune(recipe, data=data, out=out)
    assert trials(out, (TrialState.RUNNING,))
    tune(recipe, data=data, out=out)
    assert decisions(out) == decisions(tmp_path / "whole")
    assert all((out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes() for name in names)
    assert not list(out.glob(".batch-*"))


def drawn_trials(journal):
    return journal.read_text().count('"batch_size":') if journal.is_file() else 0


def test_a_study_killed_by_the_system_goes_on_where_it_was(tmp_path, data, recipe):
    out, settings = tmp_path / "study", ("tune.trials=6", "tune.batch=3", "train_head.epochs=40")
    with Process(job_of(INKFOLD, "tune", recipe, f"data={data}", f"out={out}", *settings)) as process:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and drawn_trials(out / "study.journal") <= 3:
            time.sleep(0.05)
        process.kill()
    drawn = [trial.params for trial in trials(out)]
    summary = tune(recipe, *settings, data=data, out=out)
    assert all(trial.state.is_finished() for trial in trials(out))
    assert sum(summary["trials"].values()) == len(trials(out)) == 6
    assert [trial.params for trial in trials(out)][: len(drawn)] == drawn


def test_a_backbone_that_nobody_named_is_the_same_for_all_trials(tmp_path, data, seen_better):
    seen_better(0.2, distinguishable=True)
    tune({"folds": {"k": 3}, "train_head": {"epochs": 2}}, *BETTER, data=data, out=tmp_path / "study")
    assert load_recipe(tmp_path / "study/best.yaml").backbone.name == "ink-small"


def test_two_processes_work_on_one_study(tmp_path, data, recipe, caplog):
    caplog.set_level(logging.INFO, "inkfold.search")
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
    assert caplog.text.count("another process works on this study") >= 1
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


def drawn_by_another(out, number):
    """A trial of another process, which holds its batch's lock."""
    attributes = {"batch": number, "batch_size": 1}
    distributions = trials(out)[0].distributions
    trial = optuna.trial.create_trial(
        state=TrialState.RUNNING, params=trials(out)[0].params, distributions=distributions, user_attrs=attributes
    )
    study_in(out).add_trial(trial)
    return FileLock(out / f".batch-{number}.lock")


def test_a_process_waits_for_the_trials_of_others_before_it_concludes(tmp_path, data, recipe):
    out = tmp_path / "study"
    tune(recipe, "tune.trials=2", data=data, out=out)
    before = (out / "tune.json").read_bytes()
    with drawn_by_another(out, 2), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(tune, recipe, "tune.trials=3", data=data, out=out)
        time.sleep(3)
        assert not waiting.done()
        assert (out / "tune.json").read_bytes() == before
        study_in(out).tell(2, 0.0)
        assert sum(waiting.result()["trials"].values()) == 3
    assert len(trials(out)) == 3


def test_the_best_recipe_keeps_how_the_data_are_read_but_not_where_they_are(tmp_path, data, recipe, seen_better):
    seen_better(0.2, distinguishable=True)
    tune(recipe, "data.on_broken=skip", "tta=[identity, hflip]", *BETTER, data=data, out=tmp_path / "study")
    best = load_recipe(tmp_path / "study/best.yaml")
    assert (best.data.on_broken, best.data.root, len(best.tta)) == ("skip", None, 2)


def test_trials_of_a_process_that_dies_are_done_by_the_one_that_waits(tmp_path, data, recipe):
    out = tmp_path / "study"
    tune(recipe, "tune.trials=2", data=data, out=out)
    with ThreadPoolExecutor(1) as pool:
        with drawn_by_another(out, 2):
            waiting = pool.submit(tune, recipe, "tune.trials=3", data=data, out=out)
            time.sleep(1)
        assert sum(waiting.result()["trials"].values()) == 3
    assert [trial.state.is_finished() for trial in trials(out)] == [True] * 3


def test_a_journal_whose_last_line_is_incomplete_is_read_without_it(tmp_path, data, recipe):
    out, journal = tmp_path / "study", tmp_path / "study/study.journal"
    tune(recipe, "tune.trials=2", data=data, out=out)
    whole = (decisions(out), (out / "tune.json").read_bytes())
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    tune(recipe, "tune.trials=2", data=data, out=out)
    assert (decisions(out), (out / "tune.json").read_bytes()) == whole


def test_a_study_of_an_earlier_version_goes_on(tmp_path, data, recipe):
    out = tmp_path / "study"
    tune(recipe, "tune.trials=2", data=data, out=out)
    study_in(out).ask().set_user_attr("worker", "its process has died")
    study_in(out).enqueue_trial({"fit.lr": 0.01}, user_attrs={"as_it_is": True})
    summary = tune(recipe, "tune.trials=4", data=data, out=out)
    assert sum(summary["trials"].values()) == 4
    assert [trial.state.name for trial in trials(out)[2:4]] == ["FAIL", "WAITING"]


def test_trials_with_other_weights_are_not_continued(tmp_path):
    journal = Journal(tmp_path)
    journal.claim_weights({"ink-small": "a", "lite0": "b"})
    journal.claim_weights({"ink-small": "a", "lite0": "b"})
    with pytest.raises(PredictionError, match=r"holds trials with other weights of lite0 than are found now.*Put the old"):
        Journal(tmp_path).claim_weights({"ink-small": "a", "lite0": "c"})
