import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from inkfold.cli.output import print_backbones, print_run, print_search, print_table
from inkfold.config.sections import VoteSettings
from inkfold.ensemble.model import load_run
from inkfold.ensemble.selection import DataSummary, select_vote, write_selection
from inkfold.ensemble.submission import SubmissionFormat
from inkfold.evaluation.formatting import p_equation
from inkfold.evaluation.scores import Metric
from inkfold.pipeline.run_files import RunFiles
from toy_votes import some_members, some_probs, without_out_of_fold

COST = {"forwards": 3, "forwards_cached": 4, "decoded": 1, "seconds": {"fit": 1.25, "total": 2.0}, "peak_memory_bytes": 5 << 20}


@pytest.fixture
def ensemble(tmp_path):
    """A directory as an ensemble leaves it, of a panel."""

    def build(panel, warnings=(), cost=COST, skipped=None, split="kfold", **how):
        recipe = VoteSettings(**how)
        facts = DataSummary(60, skipped or {"train": 0, "test": 0}, split)
        written = write_selection(tmp_path, panel, select_vote(panel, recipe), recipe, SubmissionFormat(np.arange(3)), facts)
        (tmp_path / "cost.json").write_text(json.dumps(cost))
        metrics = json.loads((tmp_path / "metrics.json").read_text())
        manifest = {"warnings": [*warnings], "files": dict.fromkeys([*written, "cost.json"], "")}
        return SimpleNamespace(path=tmp_path, metrics=metrics, manifest=manifest, files=RunFiles(tmp_path, manifest))

    return build


def lines_with(text, word):
    return [line for line in text.splitlines() if word in line]


def cells(line):
    return [cell.strip() for cell in line.strip("│").split("│")]


def row_of(text, name):
    [line] = [line for line in text.splitlines() if "│" in line and cells(line)[-1] == name]
    return cells(line)


def test_every_candidate_is_shown_beside_the_vote_taken(ensemble, capsys):
    print_run(ensemble(some_members(), method="soft"))
    printed = capsys.readouterr().out
    found = json.loads((ensemble(some_members(), method="soft").path / "vote.json").read_text())
    assert row_of(printed, "soft")[2] == row_of(printed, "soft")[4] == "taken"
    for one in found["candidates"]:
        row = row_of(printed, one["name"])
        assert row[0] == one["kind"]
        assert row[1].startswith(f"{one['accuracy']:.3f} (")
        assert row[3].startswith(f"{one['test']['accuracy']:.3f} (")
    for key, column in (("pairs", 2), ("test_pairs", 4)):
        for pair in found[key]:
            if "soft" in (pair["first"], pair["second"]):
                other = pair["second"] if pair["first"] == "soft" else pair["first"]
                expected = p_equation(pair["p_value"]) if pair["p_value"] < 0.05 else "not distinguishable"
                assert row_of(printed, other)[column] == expected
    assert "not distinguishable" in printed
    assert "can't be judged out of fold" in printed
    assert "soft-soft" in printed
    assert "hard-hard" in printed
    assert len(lines_with(printed, "answer differently on")) == 3


def test_the_vote_is_compared_with_the_best_single_member(ensemble, capsys):
    run = ensemble(some_members(), method="soft")
    found = json.loads((run.path / "vote.json").read_text())
    members = {one["name"]: one["accuracy"] for one in found["candidates"] if one["kind"] == "member"}
    best = max(members, key=members.get)
    gain = next(one["accuracy"] for one in found["candidates"] if one["name"] == "soft") - members[best]
    print_run(run)
    [line] = lines_with(capsys.readouterr().out, "best single member")
    assert line.startswith(f"soft against the best single member, {best}, out of fold: {gain:+.4f} (")


def test_what_can_be_told_apart_has_its_p_value(ensemble, capsys):
    targets = np.arange(60) % 3
    wrong = np.roll(np.eye(3, dtype=np.float32)[targets], 1, axis=1)
    panel = some_members(out_of_fold=np.stack([some_probs(targets, 3, 0, 4.0), some_probs(targets, 3, 1, 4.0), wrong]))
    print_run(ensemble(panel, method="soft"))
    assert row_of(capsys.readouterr().out, "model 2")[2].startswith("p < 1e-6")


def test_what_choosing_is_worth_is_shown_where_it_was_chosen(ensemble, capsys):
    print_run(ensemble(some_members()))
    assert "each part by the vote that the other parts chose: 0." in capsys.readouterr().out
    print_run(ensemble(some_members(), method="rank"))
    assert "the other parts chose" not in capsys.readouterr().out


def test_without_test_labels_there_is_no_column_of_them(ensemble, capsys):
    print_run(ensemble(some_members(test_targets=None)))
    printed = capsys.readouterr().out
    assert "test (95 %)" not in printed
    assert "soft-soft" not in printed
    assert len(row_of(printed, "rank")) == 4


def test_without_out_of_fold_predictions_the_test_drawings_are_left(ensemble, capsys):
    print_run(ensemble(without_out_of_fold(), warnings=["b: has test predictions only"]))
    printed = capsys.readouterr()
    assert "out of fold (95 %)" not in printed.out
    assert row_of(printed.out, "soft")[2] == "taken"
    assert "no vote could be judged" in printed.out
    assert printed.err == "warning: b: has test predictions only\n"


def test_with_neither_the_vote_is_named(ensemble, capsys):
    print_run(ensemble(without_out_of_fold({"test_targets": None}), method="rank"))
    printed = capsys.readouterr().out
    assert "vote: rank\n" in printed
    assert "candidates" not in printed


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


@pytest.mark.parametrize("names", [("[red]a[/red]", "run [bold]", "x[/]"), (":apple:", "사과", "a\\b"), ("a" * 150, "b", "c")])
def test_names_are_shown_to_the_letter(ensemble, capsys, names):
    print_run(ensemble(some_members(names=names)))
    printed = capsys.readouterr().out
    shown = "".join(cells(line)[-1] for line in printed.splitlines() if "│" in line)
    for name in names:
        assert name in shown


def test_tables_are_aligned_by_their_title(capsys):
    print_table("", ("a", "b"), [("1", "2"), ("100", "200")])
    print_table("things", ("a", "b", "name"), [("1", "2", "x"), ("100", "200", "yy")])
    plain, titled = capsys.readouterr().out.split("things")
    assert "│   1 │   2 │" in plain
    assert "│ 1   │   2 │ x    │" in titled


def test_a_search_shows_which_of_its_figures_is_optimistic(capsys):
    share = {"accuracy": 0.5, "accuracy_ci95": [0.4, 0.6]}
    aside = {
        **{"n": 40, "as_it_was": share, "best": {**share, "accuracy": 0.52}, "difference": 0.02},
        **{"difference_ci95": [-0.01, 0.05], "p_value": 0.4, "distinguishable": False},
    }
    summary = {
        **{"cross_validated": {"n": 160, "as_it_was": 0.5, "best": 0.61}, "set_aside": aside},
        **{"trials": {"complete": 9, "given_up": 3}, "best": {"train_head.lr": 0.1}, "learnt_by_backbone": None},
        "recommended": "as_it_was",
    }
    print_search(summary, "study")
    printed = capsys.readouterr().out
    assert "0.610 (optimistic)" in printed
    assert "gain on drawings set aside: +0.0200 (-0.0100 to +0.0500), p = 0.400: not distinguishable from chance" in printed
    assert "9 trials, 3 given up early" in printed
    assert "best values: train_head.lr=0.1" in printed
    assert "keep your recipe: the best trial is not distinguishably better on the drawings set aside" in printed
    assert "best.yaml" not in printed
    print_search({**summary, "recommended": "best"}, "study")
    printed = capsys.readouterr().out
    assert "recipe: study/best.yaml" in printed
    assert "keep your recipe" not in printed
    print_search({**summary, "best": {}, "set_aside": {**aside, "distinguishable": True}}, "study")
    printed = capsys.readouterr().out
    assert "best values: the recipe as it was" in printed
    assert "keep your recipe: no trial was better" in printed
    assert "more than chance" in printed
    assert "optimistic" not in printed.replace("(optimistic)", "")
    nothing = {**aside, "difference": -0.00004, "difference_ci95": [-0.00006, 0.00001]}
    print_search({**summary, "set_aside": nothing}, "study")
    assert "gain on drawings set aside: 0.0000 (-0.0001 to 0.0000), p = 0.400" in capsys.readouterr().out
    print_search({**summary, "learnt_by_backbone": {"drawings": 1200, "of": 4000}}, "study")
    printed = capsys.readouterr().out
    assert "weights of a backbone were trained on 1,200 of these 4,000 drawings: all accuracies are optimistic" in printed


def explored(name, p_value, **changes):
    figures = {"accuracy": 0.5, "accuracy_ci95": [0.4, 0.6]}
    given = {
        **{"name": name, "p_value": p_value, "images_per_s": 12.3, "parameters": 2_000_000, "weights_bytes": 3 << 20},
        **{"image_size": 224, "imagenet_sketch_top1": 33.3, "as_json": lambda: figures},
        **{"n": 60, "learnt": 0, "groups": None},
    }
    return SimpleNamespace(**{**given, **changes})


def test_backbones_say_whether_they_can_be_told_from_the_best(capsys):
    print_backbones(
        [explored("best", 1.0), explored("near", 0.2), explored("far", 0.01, images_per_s=None, imagenet_sketch_top1=None)]
    )
    printed = capsys.readouterr().out
    rows = {
        name: [cells(line) for line in lines_with(printed, f" {name} ") if "│" in line][-1] for name in ("best", "near", "far")
    }
    assert [rows[name][1] for name in ("best", "near", "far")] == ["", "not distinguishable", "p = 0.010"]
    assert (rows["near"][2], rows["far"][2]) == ("12", "")
    assert "trained on" not in printed
    print_backbones([explored("best", 1.0), explored("near", 0.2, learnt=40)])
    assert "the weights of near were trained on 40 of these drawings; all rows are about 60" in capsys.readouterr().out


def test_an_ensemble_of_another_metric_shows_it_first_with_accuracy_beside(tmp_path, capsys):
    aligned, recipe, metric = some_members(), VoteSettings(), Metric("log_loss")
    selection = select_vote(aligned, recipe, metric=metric)
    facts = DataSummary(60, {"train": 0, "test": 0}, "kfold")
    written = write_selection(tmp_path, aligned, selection, recipe, SubmissionFormat(np.arange(3)), facts)
    (tmp_path / "cost.json").write_text(json.dumps(COST))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    manifest = {"warnings": [], "files": dict.fromkeys([*written, "cost.json"], "")}
    print_run(SimpleNamespace(path=tmp_path, metrics=metrics, manifest=manifest, files=RunFiles(tmp_path, manifest)))
    out = capsys.readouterr().out
    heading = next(line for line in out.splitlines() if "drawings" in line)
    assert heading.index("log loss (95 %)") < heading.index("accuracy (95 %)")
    assert "log loss: lower is better" in out
    assert out.index("candidates by log loss") < out.index("candidates by accuracy")
    assert "log loss out of fold, each part by the vote that the other parts chose" in out
    assert "out of fold, in accuracy: " in next(line for line in out.splitlines() if "best single member" in line)


@pytest.mark.parametrize("used", [True, False])
def test_the_rule_of_answers_is_said_with_its_gain(tmp_path, capsys, used):
    from inkfold.cli.output import _print_decision

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


def test_backbones_say_how_many_groups_were_resampled(capsys):
    print_backbones([explored("best", 1.0, groups=1200)])
    assert "intervals and p-values resample 1,200 groups of drawings that belong together" in capsys.readouterr().out


def test_figures_without_copies_stand_below_those_with_them(frozen_run, capsys):
    run = load_run(frozen_run / "run")
    figures = run.metrics["out_of_fold"]
    run.metrics["test"] = {**figures, "without_copies": {**figures, "n": 4321}}
    print_run(run)
    lines = capsys.readouterr().out.splitlines()
    place = next(place for place, line in enumerate(lines) if cells(line)[0] == "test")
    assert cells(lines[place + 1])[:2] == ["without copies of drawings trained on", "4321"]


def test_an_interval_from_below_zero_has_no_dash():
    from inkfold.cli.output import _with_interval

    assert _with_interval(0.1, [-0.2, 0.4]) == "0.100 (-0.200 to 0.400)"
    assert _with_interval(0.1, [0.0, 0.4]) == "0.100 (0.000-0.400)"


def test_the_grouped_figure_less_the_other_is_the_difference_that_is_printed(capsys):
    from inkfold.cli.output import _print_split_duplicates, _print_split_groups

    effect = {"groups": 10, "key": "KEY", "proposed": False, "drawings": 4}
    effect |= {
        name: {"accuracy": value, "accuracy_of_copies": value / 2} for name, value in (("parted", 0.9), ("grouped", 0.8))
    }
    effect |= {"difference": -0.1, "difference_ci95": [-0.2, 0.0], "p_value": 0.04, "distinguishable": True}
    _print_split_groups(effect)
    _print_split_duplicates(effect)
    groups, copies = capsys.readouterr().out.splitlines()
    assert "by `KEY`; accuracy 0.8000, and 0.9000 with folds that split them: -0.1000 (" in groups
    assert "accuracy 0.8000, and 0.9000 with folds that split them apart: -0.1000 (" in copies
    assert copies.endswith("on the 4 duplicates 0.4000, and 0.4500")


@pytest.mark.parametrize("decided", [0, 1])
def test_a_table_without_rows_names_no_command_to_train_with_it(capsys, tmp_path, decided):
    from inkfold.audit.fix import FixTable
    from inkfold.cli.output import print_fix_table

    print_fix_table(FixTable(tmp_path / "c.csv", decided, 0, 0, tmp_path / "recipe.yaml"), sys.stdout)
    assert ("inkfold train" in capsys.readouterr().out) == bool(decided)
