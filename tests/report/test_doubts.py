import numpy as np

from inkfold.pipeline.run_files import open_run_files
from inkfold.report.doubts import MOST_OPEN, doubts, open_and_folded
from inkfold.report.run_page import evaluation_view
from inkfold.storage.files import write_json
from toy_runs import audit, made_up, write_run

N, NAMES = 2000, ("a", "b")
FEW = "class {!r}: has {} usable training drawing(s), fewer than the 5 folds. Add some or take fewer folds."
OTHER = "submission.csv: rows are in another order. The data's order is kept."
COPIES = "12 of 90 test drawings are copies of drawings trained on: x.png"


def run(tmp_path, warnings=(), *, n=N, **more):
    predictions = made_up([f"{i}.png" for i in range(n)], np.arange(n) % 2, NAMES, folds=np.arange(n) % 5)
    return open_run_files(write_run(tmp_path / "run", "data", predictions, warnings=[*warnings], **more))


def texts(opened):
    return [doubt.text for doubt in doubts(opened, evaluation_view(opened))]


def test_the_gravest_come_first_and_those_of_one_kind_together(tmp_path):
    opened = run(tmp_path, [OTHER, FEW.format("x", 3), COPIES, FEW.format("it's y", 1)])
    found = doubts(opened, evaluation_view(opened))
    assert [doubt.text for doubt in found] == [COPIES, FEW.format("x", 3), OTHER]
    assert [doubt.more for doubt in found] == [(), (FEW.format("it's y", 1),), ()]
    assert [doubt.gravity for doubt in found] == [0, 1, 2]


def test_a_few_are_open_and_the_rest_is_folded(tmp_path):
    warnings = [f"data: {word} is odd." for word in ("first", "second", "third", "fourth")]
    opened = run(tmp_path, warnings)
    view = open_and_folded(opened, evaluation_view(opened))
    assert [doubt.text for doubt in view["open"]] == warnings[:MOST_OPEN]
    assert [doubt.text for doubt in view["folded"]] == warnings[MOST_OPEN:]


def test_what_an_audit_found_and_a_wide_interval_are_doubts(tmp_path):
    opened = run(tmp_path, n=100)
    assert [text.split(":")[0] for text in texts(opened)] == ["The interval is 16 points wide"]
    found = audit(["1.png", "2.png", "3.png"], NAMES)
    found["duplicates"]["counts"]["leak"] = 2
    write_json(tmp_path / "run" / "audit.json", found)
    first, second, _ = texts(open_run_files(tmp_path / "run"))
    assert first == "The audit found 2 groups of copies that are trained on and evaluated on: the figure is optimistic."
    assert second == "The audit found 1 group of copies with different labels: at most one of the labels is right."


def test_what_the_headline_says_with_figures_is_not_said_twice(tmp_path):
    warnings = [
        "the backbone's weights were trained on 90 of these 2,000 held-out drawings, and so on",
        "the epochs that are kept (keep=best) were chosen by the held-out drawings, whose accuracy is optimistic by 0.01",
    ]
    nested = {"accuracy": 0.5, "accuracy_ci95": [0.48, 0.52]}
    assert texts(run(tmp_path / "plain", warnings)) == warnings
    opened = run(tmp_path, warnings, metrics={"learnt_by_backbone": {"drawings": 90, "of": N, "new": None}})
    assert texts(opened) == warnings[1:]
    opened.metrics["out_of_fold"]["nested"] = nested
    assert texts(opened) == []
    view = evaluation_view(opened)
    assert (view["accuracy"], view["accuracy_ci95"]) == (0.5, [0.48, 0.52])
    assert view["kept"] == opened.metrics["out_of_fold"]["accuracy"]
