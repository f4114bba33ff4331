"""A search's record as the main loop writes it: five steps on 400 drawings, the best figure after three of them."""

from inkfold.auto.record import AutoRecord, RacedBackbone, Step

FROZEN = {"name": "ink-small-linear", "kind": "frozen", "why": "quick, and made for drawings"}

LAYERS = {"name": "lite0-layers", "kind": "frozen", "why": "the race's winner", "recipe": {"backbone": {"name": "lite0"}}}
MEMBERS = ["ink-small-linear", "lite0-layers"]
VOTE = {"name": "vote", "kind": "vote", "why": "both are wrong on different drawings", "members": MEMBERS}


def ci(accuracy, half=0.04):
    return [round(accuracy - half, 4), round(accuracy + half, 4)]


def measured(accuracy, **values):
    """Give a step that is done and became the best."""
    return Step(**values, state="done", accuracy=accuracy, accuracy_ci95=ci(accuracy), n=400, is_best=True)


def search_record():
    """Give a record of a search of one minute that is over."""
    steps = [
        Step("reading", "reading", "done", "pages are cropped to the drawing", seconds=1.5),
        measured(0.50, **FROZEN, recipe={"backbone": {"name": "ink-small"}}, expected_s=4.0, began_s=1.5, seconds=5.0),
        Step("race", "race", "done", "two backbones are at hand", began_s=6.5, seconds=4.0),
        measured(0.54, **LAYERS, began_s=10.5, seconds=12.0, gain=0.04, gain_ci95=[0.01, 0.07], p_value=0.004),
        Step(
            "lite0-finetuned", "finetune", "skipped", "it would take 25 min of 31 s left", expected_s=1500.0, expected_gain=0.05
        ),
        Step("views", "views", "failed", "mirrored drawings", began_s=22.5, seconds=3.0),
        measured(0.57, **VOTE, began_s=25.5, seconds=0.5, gain=0.03, gain_ci95=[0.005, 0.055], p_value=0.02),
    ]
    best = [
        {"seconds": 6.5, "step": "ink-small-linear", "accuracy": 0.50, "accuracy_ci95": ci(0.50), "test": None},
        {"seconds": 22.5, "step": "lite0-layers", "accuracy": 0.54, "accuracy_ci95": ci(0.54), "test": 0.53},
        {"seconds": 26.0, "step": "vote", "accuracy": 0.57, "accuracy_ci95": ci(0.57), "test": 0.56},
    ]
    backbones = [
        RacedBackbone("ink-small", "comes with inkfold", 2700.0, 0.41, 100, 2, None, True, "small and quick"),
        RacedBackbone("lite0", "INKFOLD_WEIGHTS", 110.5, 0.46, 100, 2, 24.4, True, "the best of the race"),
        RacedBackbone("eva02", "hub", 0.2, None, None, 0, 70.7, False, "its features would take 40 min"),
    ]
    return AutoRecord(
        budget_s=60.0,
        spent_s=28.0,
        calls=[{"budget_s": 60.0, "spent_s": 28.0}],
        machine={"device": "cpu", "cores": 2, "precision": "float32"},
        data={"n_train": 400, "num_classes": 8},
        backbones=backbones,
        steps=steps,
        best=best,
        choice={"step": "vote", "members": MEMBERS, "why": "more than chance better than the best"},
    )
