import sys
from types import SimpleNamespace

import pytest

from inkfold.cli.output import print_backbones, print_search
from toy_printed import cells, lines_with


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


def test_backbones_say_how_many_groups_were_resampled(capsys):
    print_backbones([explored("best", 1.0, groups=1200)])
    assert "intervals and p-values resample 1,200 groups of drawings that belong together" in capsys.readouterr().out


@pytest.mark.parametrize("decided", [0, 1])
def test_a_table_without_rows_names_no_command_to_train_with_it(capsys, tmp_path, decided):
    from inkfold.audit.fix import FixTable
    from inkfold.cli.output import print_fix_table

    print_fix_table(FixTable(tmp_path / "c.csv", decided, 0, 0, tmp_path / "recipe.yaml"), sys.stdout)
    assert ("inkfold train" in capsys.readouterr().out) == bool(decided)
