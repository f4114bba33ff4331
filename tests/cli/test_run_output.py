from dataclasses import replace

import numpy as np
import pytest

from inkfold.cli.run_output import (
    _print_decision,
    _print_prior,
    _print_propagation,
    print_run,
    print_split_duplicates,
    print_split_groups,
)
from inkfold.ensemble.model import load_run
from inkfold.evaluation.scores import Metric
from toy_printed import COST, cells, lines_with
from toy_votes import some_members


def test_counts_costs_and_places_are_printed(ensemble, capsys):
    run = ensemble(some_members(), skipped={"train": 2, "test": 0}, split="holdout")
    print_run(run)
    printed = capsys.readouterr().out
    assert "left out as broken: 2 train\n" in printed
    assert "3 forwards, 4 from the bank; 2.0 s (fit 1.2); peak 5 MiB\n" in printed
    assert f"run: {run.path}\nsubmission: {run.path / 'submission.csv'}\n" in printed
    assert lines_with(printed, "held out ")


@pytest.mark.parametrize("cost", [{**COST, "peak_memory_bytes": None}, {k: v for k, v in COST.items() if "peak" not in k}])
def test_a_peak_that_is_not_known_is_left_out(ensemble, capsys, cost):
    print_run(ensemble(some_members(), cost=cost))
    assert "2.0 s (fit 1.2)\n" in capsys.readouterr().out


@pytest.mark.parametrize("used", [True, False])
def test_the_rule_of_answers_is_said_with_its_gain(tmp_path, capsys, used):
    figures = {"value": 0.5, "ci95": [0.4, 0.6]}
    decision = {"used": used, "most_probable": figures, "nested": {**figures, "value": 0.55}, "rule": "weights by class"}
    decision |= {"difference": 0.05, "difference_ci95": [0.01, 0.09], "p_value": 0.01, "distinguishable": True}
    _print_decision({**Metric("macro_f1").as_json(), "decision": decision})
    out = capsys.readouterr().out
    assert ("answers: weights by class, for a better macro F1" in out) == used
    assert ("gain of the rule: +0.0500 (+0.0100 to +0.0900)" in out) == used
    assert ("answers: the most probable class, macro F1 0.500" in out) == (not used)


def test_what_was_resampled_is_said_below_the_table(ensemble, capsys):
    members = some_members()
    print_run(ensemble(members, method="soft"))
    assert "groups resampled" not in capsys.readouterr().out
    print_run(ensemble(replace(members, groups=np.arange(len(members.targets)) // 3), method="soft"))
    [line] = lines_with(capsys.readouterr().out, "groups resampled")
    assert line.startswith(
        f"intervals of held-out drawings: 95 %, {-(-len(members.targets) // 3)} groups resampled (cluster bootstrap)"
    )


def test_figures_without_copies_stand_below_those_with_them(frozen_run, capsys):
    run = load_run(frozen_run / "run")
    figures = run.metrics["out_of_fold"]
    run.metrics["test"] = {**figures, "without_copies": {**figures, "n": 4321}}
    print_run(run)
    lines = capsys.readouterr().out.splitlines()
    place = next(place for place, line in enumerate(lines) if cells(line)[0] == "test")
    assert cells(lines[place + 1])[:2] == ["without copies of drawings trained on", "4321"]


def test_the_grouped_figure_less_the_other_is_the_difference_that_is_printed(capsys):
    effect = {"groups": 10, "key": "KEY", "proposed": False, "drawings": 4}
    effect |= {
        name: {"accuracy": value, "accuracy_of_copies": value / 2} for name, value in (("parted", 0.9), ("grouped", 0.8))
    }
    effect |= {"difference": -0.1, "difference_ci95": [-0.2, 0.0], "p_value": 0.04, "distinguishable": True}
    print_split_groups(effect)
    print_split_duplicates(effect)
    groups, copies = capsys.readouterr().out.splitlines()
    assert "by `KEY`; accuracy 0.8000, and 0.9000 with folds that split them: -0.1000 (" in groups
    assert "accuracy 0.8000, and 0.9000 with folds that split them apart: -0.1000 (" in copies
    assert copies.endswith("on the 4 duplicates 0.4000, and 0.4500")


TRIED = {"difference": 0.02, "difference_ci95": [0.01, 0.03], "p_value": 0.001, "distinguishable": True}
TRIED |= {"accuracy_without": 0.6, "accuracy_without_ci95": [0.5, 0.7], "accuracy_with": 0.62, "accuracy_with_ci95": [0.5, 0.7]}


def test_label_propagation_is_said_with_its_gain_and_that_later_drawings_go_without(capsys):
    _print_propagation({"transductive": {**TRIED, "used": True, "nested": {"accuracy": 0.61, "accuracy_ci95": [0.5, 0.7]}}})
    out = capsys.readouterr().out
    assert "label propagation: used, as it is better on held-out drawings: accuracy +0.0200 (+0.0100 to +0.0300)" in out
    assert "accuracy without it 0.600 (0.500-0.700); where other folds decide whether to use it, 0.610 (0.500-0.700)" in out
    assert "predicted one by one, without it" in out
    _print_propagation({"transductive": {**TRIED, "used": True, "nested": {"accuracy": 0.62, "accuracy_ci95": [0.5, 0.7]}}})
    assert "other folds decide" not in capsys.readouterr().out


def test_label_propagation_that_is_not_used_says_why(capsys):
    _print_propagation({"transductive": {**TRIED, "used": False}, **Metric("log_loss").as_json()})
    assert capsys.readouterr().out.startswith("label propagation: tried on held-out drawings and not used: log loss +0.0200")
    _print_propagation({"transductive": {"used": False, "skipped": "no_test_drawings", "reason": "there are none"}})
    assert capsys.readouterr().out == "label propagation: not tried: there are none\n"
    _print_propagation({})
    assert capsys.readouterr().out == ""


def test_a_class_prior_is_said(capsys):
    _print_prior({"source": "uniform", "shares": [0.5, 0.5], "trained": [0.4, 0.6]})
    assert capsys.readouterr().out.startswith(
        "class prior: uniform: probabilities of test and new drawings are corrected for it;"
    )
    _print_prior(None)
    assert capsys.readouterr().out == ""
