import numpy as np
import pytest

from inkfold.auto.choice import Fitted, choose, compare_votes, measure_vote
from inkfold.evaluation.predictions import Predictions
from inkfold.evaluation.scores import ACCURACY, build_metric

CLASSES = ("a", "b")


def predictions(right, *, seen=None, groups=None, rows=None, confidence=0.9):
    """Predictions of drawings whose classes alternate, of which some are right."""
    right = np.asarray(right, bool)
    targets = np.arange(len(right)) % 2
    preds = np.where(right, targets, 1 - targets)
    probs = np.full((len(right), 2), 1 - confidence, np.float32)
    probs[np.arange(len(right)), preds] = confidence
    whole = Predictions(
        np.array([f"{row}.png" for row in range(len(right))], np.dtypes.StringDType()),
        probs,
        CLASSES,
        targets,
        seen=None if seen is None else np.asarray(seen, bool),
        groups=groups,
        digests=np.array([f"{row:04}" for row in range(len(right))], "S"),
    )
    return whole if rows is None else whole.select(rows)


def fitted(name, right, **options):
    backbone = options.pop("backbone", name)
    return Fitted(name, predictions(right, **options), backbone)


def wrong_at(n, rows):
    right = np.ones(n, bool)
    right[rows] = False
    return right


def test_a_single_model_is_the_choice_and_nothing_is_nested():
    choice = choose([fitted("only", wrong_at(20, [3]))], ACCURACY)
    assert (choice.members, choice.figure, choice.nested, choice.n) == (("only",), 0.95, None, 20)


def test_the_best_model_answers_where_a_vote_gains_nothing():
    choice = choose([fitted("good", wrong_at(100, range(10))), fitted("bad", wrong_at(100, range(40)))], ACCURACY)
    assert choice.members == ("good",)
    assert choice.figure == pytest.approx(0.9)
    assert choice.nested == pytest.approx(0.9), "every part of the drawings makes the same choice"


def test_models_that_mend_each_others_errors_vote():
    """Three models, each unsure where it errs: a fifth of the drawings, others than the others' fifths."""
    models = []
    for number in range(3):
        own = predictions(np.ones(300, bool))
        probs = own.probs.copy()
        errors = np.arange(300) % 5 == number
        probs[errors, own.targets[errors]] = 0.45
        probs[errors, 1 - own.targets[errors]] = 0.55
        models.append(Fitted(f"m{number}", Predictions(own.image_paths, probs, CLASSES, own.targets, digests=own.digests)))
    choice = choose(models, ACCURACY)
    assert choice.members == ("m0", "m1"), "a third one has nothing left to mend"
    assert (choice.figure, choice.gain) == (1.0, pytest.approx(0.2))
    assert choice.p_value < 1e-9
    assert choice.nested == 1.0


def test_a_vote_whose_gain_is_not_distinguishable_is_not_taken():
    right = wrong_at(40, [0, 1])
    one = fitted("one", right)
    probs = one.predictions.probs.copy()
    probs[0] = probs[0, ::-1]  # mends one drawing of 40
    other = Fitted("other", Predictions(one.predictions.image_paths, probs, CLASSES, one.predictions.targets))
    choice = choose([fitted("one", right, confidence=0.6), other], ACCURACY)
    assert choice.members == ("other",), "the better one by itself"


def test_a_backbone_that_was_trained_on_the_drawings_joins_without_deciding():
    models = [
        fitted("honest", wrong_at(60, range(20))),
        fitted("trained-on-them", np.ones(60, bool), seen=np.ones(60, bool), backbone="ink"),
        fitted("trained-on-them-too", np.ones(60, bool), seen=np.ones(60, bool), backbone="ink"),
    ]
    choice = choose(models, ACCURACY)
    assert choice.members == ("honest", "trained-on-them-too")
    assert choice.unjudged == ("trained-on-them-too",)
    assert choice.figure == pytest.approx(40 / 60), "the figure is of what can be judged"


def test_models_that_can_t_be_judged_are_chosen_among_where_there_are_no_others():
    seen = np.ones(60, bool)
    models = [fitted("worse", wrong_at(60, range(9)), seen=seen), fitted("better", wrong_at(60, [1]), seen=seen)]
    choice = choose(models, ACCURACY)
    assert (choice.members, choice.unjudged) == (("better",), ())


def test_drawings_that_a_backbone_was_trained_on_don_t_count():
    seen = np.arange(400) < 100
    flattered = fitted("flattered", wrong_at(400, range(200, 300)), seen=seen)  # 0.75 of all, 0.667 of the others
    other = fitted("other", wrong_at(400, range(110)))  # 0.725 of all, 0.967 of the others
    assert choose([flattered, other], ACCURACY).members == ("other",)
    value, (low, high), n = measure_vote([flattered, other], ["flattered"], ACCURACY)
    assert (value, n) == (pytest.approx(200 / 300), 300)
    assert low < value < high


def test_models_that_held_out_fewer_drawings_are_compared_on_those():
    rows = np.arange(40)
    models = [fitted("all", wrong_at(200, range(20))), fitted("part", wrong_at(200, [0]), rows=rows)]
    choice = choose(models, ACCURACY)
    assert (choice.members, choice.n) == (("part",), 40)
    gain, (low, high), p_value = compare_votes(models, ["all"], ["part"], ACCURACY)
    assert gain == pytest.approx(19 / 40)
    assert low < gain < high
    assert p_value == pytest.approx(2 * 0.5**19), "McNemar's test by hand: 19 drawings, all for one"


def test_the_choice_s_own_figure_is_lower_where_it_is_by_chance():
    """Twenty models that guess: the best of them is above 0.5, and what other drawings choose is not."""
    random = np.random.default_rng(3)
    models = [fitted(f"m{number}", random.random(200) < 0.5) for number in range(20)]
    choice = choose(models, ACCURACY)
    assert choice.figure > 0.55
    assert choice.nested < choice.figure - 0.03


def test_any_metric_decides():
    metric = build_metric("log_loss", CLASSES, np.arange(2))
    sure, unsure = fitted("sure", wrong_at(50, range(9)), confidence=0.999), fitted("unsure", wrong_at(50, range(10)))
    assert choose([sure, unsure], metric).members[0] == "unsure"
    gain, (low, high), _ = compare_votes([sure, unsure], ["sure"], ["unsure"], metric)
    assert low < gain < high
    assert gain > 0, "less loss is a gain"


def test_a_better_model_doesn_t_drive_out_a_vote_that_is_better_still():
    """The best single model errs where the third one does, so that only the second one's vote with it is a gain."""
    n = 400

    def model(name, wrong_rows):
        own = predictions(np.ones(n, bool))
        probs = own.probs.copy()
        probs[wrong_rows] = np.where(np.eye(2, dtype=bool)[own.targets[wrong_rows]], 0.45, 0.55)
        return Fitted(name, Predictions(own.image_paths, probs, CLASSES, own.targets, digests=own.digests))

    best, second, third = model("best", np.arange(30)), model("second", np.arange(100, 135)), model("third", np.arange(40))
    assert choose([second, third], ACCURACY).members == ("second", "third")
    choice = choose([best, second, third], ACCURACY)
    assert choice.figure == 1.0
    assert "second" in choice.members
