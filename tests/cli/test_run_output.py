from dataclasses import replace

import numpy as np
import pytest

from inkfold.cli.run_output import _print_decision, print_run, print_split_duplicates, print_split_groups
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
