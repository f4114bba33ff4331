import json

import numpy as np
import pytest

from inkfold.cli.run_output import print_run
from inkfold.evaluation.formatting import p_equation
from inkfold.evaluation.scores import Metric
from toy_printed import cells, lines_with, row_of
from toy_votes import some_members, some_probs, without_out_of_fold


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


@pytest.mark.parametrize("names", [("[red]a[/red]", "run [bold]", "x[/]"), (":apple:", "사과", "a\\b"), ("a" * 150, "b", "c")])
def test_names_are_shown_to_the_letter(ensemble, capsys, names):
    print_run(ensemble(some_members(names=names)))
    printed = capsys.readouterr().out
    shown = "".join(cells(line)[-1] for line in printed.splitlines() if "│" in line)
    for name in names:
        assert name in shown


def test_an_ensemble_of_another_metric_shows_it_first_with_accuracy_beside(ensemble, capsys):
    print_run(ensemble(some_members(), metric=Metric("log_loss")))
    out = capsys.readouterr().out
    heading = next(line for line in out.splitlines() if "drawings" in line)
    assert heading.index("log loss (95 %)") < heading.index("accuracy (95 %)")
    assert "log loss: lower is better" in out
    assert out.index("candidates by log loss") < out.index("candidates by accuracy")
    assert "log loss out of fold, each part by the vote that the other parts chose" in out
    assert "out of fold, in accuracy: " in next(line for line in out.splitlines() if "best single member" in line)
