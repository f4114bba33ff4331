import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from inkfold.ensemble.methods import (
    CHUNK_ROWS,
    FITTED,
    METHODS,
    FittedMethod,
    MethodScore,
    VotingMethod,
    choose,
    compare,
    fit_method,
    score_choice,
    score_method,
)
from inkfold.ensemble.stacking import fit_temperature, tempered
from inkfold.ensemble.voting import geometric_vote, hard_vote, rank_vote, soft_vote
from inkfold.errors import PredictionError
from inkfold.evaluation.paired import paired_difference
from inkfold.evaluation.predictions import softmax
from toy import python

CLASSES = 4
ALL_METHODS = [
    VotingMethod(kind, calibrated, "mean_probability") for kind, calibrated in itertools.product(METHODS, (False, True))
]
every_method = pytest.mark.parametrize("method", ALL_METHODS, ids=lambda method: method.name)
FITTED_METHODS = [method for method in ALL_METHODS if method.is_fitted]
every_fitted_method = pytest.mark.parametrize("method", FITTED_METHODS, ids=lambda method: method.name)


def toy_members(skills=(1.5, 1.0, 0.3), n=120, seed=0):
    """Members whose scores are noise and, by their skill, the truth; and the part of each drawing."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, CLASSES, n)
    scores = [skill * np.eye(CLASSES)[targets] + generator.normal(0, 1, (n, CLASSES)) for skill in skills]
    return np.stack([softmax(2 * one) for one in scores]), targets, generator.permutation(n) % 4


def votes(members):
    """Every vote that has nothing to fit, by its name."""
    return {
        "soft": soft_vote(members),
        "hard": hard_vote(members.argmax(2), CLASSES, soft_vote(members)),
        "geometric": geometric_vote(members),
        "rank": rank_vote(members),
    }


def scores_of(*rights):
    """Candidates that are right where their text has a `1`."""
    return [
        MethodScore(f"method {i}", np.zeros((0, 2)), np.array([letter == "1" for letter in right]))
        for i, right in enumerate(rights)
    ]


def test_methods_with_nothing_to_fit_are_the_votes_themselves():
    members, targets, parts = toy_members()
    expected = votes(members)
    assert [kind for kind in METHODS if kind not in FITTED] == list(expected)
    for kind, probs in expected.items():
        method = VotingMethod(kind, ties="mean_probability")
        assert not method.is_fitted
        found = score_method(method, members, targets, parts)
        assert np.array_equal(found.probs, probs)
        assert np.array_equal(found.right, probs.argmax(1) == targets)
        assert np.array_equal(fit_method(method, members, targets).pool(members), probs)
        assert found.name == method.name


def test_hard_methods_break_ties_by_their_rule():
    members = np.array([[[0.6, 0.4]], [[0.1, 0.9]]])
    assert FittedMethod(VotingMethod("hard", ties="lowest_id")).pool(members).tolist() == [[0.5, 0.5]]
    assert FittedMethod(VotingMethod("hard", ties="mean_probability")).pool(members).argmax(1).tolist() == [1]


def test_calibrated_methods_are_the_votes_of_tempered_members():
    for kind in ("soft", "hard", "geometric", "rank"):
        members, targets, _ = toy_members()
        fitted = fit_method(VotingMethod(kind, True, "mean_probability"), members, targets)
        temperatures = [fit_temperature(one, targets) for one in members]
        assert fitted.temperatures.tolist() == temperatures
        expected = np.stack([tempered(one, t) for one, t in zip(members, temperatures, strict=True)])
        assert np.array_equal(fitted.pool(members), votes(expected)[kind])


@every_fitted_method
def test_every_part_is_scored_by_what_was_fitted_on_the_others(method):
    members, targets, parts = toy_members()
    found = score_method(method, members, targets, 3 * parts + 5)  # any numbers may name the parts
    for part in range(4):
        inside = parts == part
        fitted = fit_method(method, members[:, ~inside], targets[~inside])
        assert np.array_equal(found.probs[inside], fitted.pool(members[:, inside]))
    assert np.array_equal(found.right, found.probs.argmax(1) == targets)


@every_fitted_method
def test_a_parts_own_targets_influence_the_predictions_of_the_other_parts_only(method):
    members, targets, parts = toy_members()
    before = score_method(method, members, targets, parts)
    for part in range(4):
        changed = np.where(parts == part, (targets + 1) % CLASSES, targets)
        after = score_method(method, members, changed, parts)
        same = [np.array_equal(before.probs[parts == i], after.probs[parts == i]) for i in range(4)]
        if method.kind == "rank":  # temperatures keep ranks
            assert all(same)
            assert fit_method(method, members, changed).as_json() != fit_method(method, members, targets).as_json()
        else:
            assert same == [i == part for i in range(4)]


@every_method
def test_the_order_of_drawings_is_irrelevant(method):
    members, targets, parts = toy_members()
    order = np.random.default_rng(1).permutation(len(targets))
    before, after = (
        score_method(method, members, targets, parts),
        score_method(method, members[:, order], targets[order], parts[order]),
    )
    # L-BFGS stops within its tolerance of the optimum
    np.testing.assert_allclose(after.probs, before.probs[order], atol=2e-3 if method.kind == "stack" else 1e-5)


def test_rows_sum_to_one_and_come_back_from_json_to_the_last_bit():
    for method in ALL_METHODS:
        members, targets, _ = toy_members()
        fitted = fit_method(method, members, targets)
        probs = fitted.pool(members)
        assert (probs >= 0).all()
        np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-12)
        text = json.dumps(fitted.as_json(), allow_nan=False)
        back = FittedMethod.from_json(json.loads(text))
        assert back.method == method
        assert json.dumps(back.as_json()) == text
        assert np.array_equal(back.pool(members), probs)


def test_the_seed_comes_back_from_json():
    members, targets, _ = toy_members()
    method = VotingMethod("greedy", seed=3)
    assert FittedMethod.from_json(fit_method(method, members, targets).as_json()).method == method


WHOLE = {
    "method": "soft",
    "calibrated": False,
    "ties": "lowest_id",
    "seed": 0,
    "temperatures": None,
    "weights": None,
    "bias": None,
}
WEIGHTED = {**WHOLE, "method": "weighted", "weights": [0.25, 0.75]}
CALIBRATED = {**WEIGHTED, "calibrated": True, "temperatures": [1, 2.5]}
STACK = {**WHOLE, "method": "stack", "weights": [-0.5, 1], "bias": [0.0, 0.5, -2.0]}


@pytest.mark.parametrize("raw", [WHOLE, WEIGHTED, CALIBRATED, STACK], ids=lambda raw: raw["method"])
def test_what_is_a_fitted_method_is_read_as_it_was_written(raw):
    back = FittedMethod.from_json(json.loads(json.dumps(raw)))
    assert back.as_json() == raw
    assert all(values is None or values.dtype == np.float64 for values in (back.temperatures, back.weights, back.bias))


def test_what_is_no_fitted_method_is_refused():
    for raw, fault in (
        *[(raw, "got .*, expected an object with method, calibrated, ") for raw in (None, [], "soft", 3)],
        *[({name: value for name, value in WHOLE.items() if name != gone}, f"has no '{gone}'") for gone in WHOLE],
        ({}, "has no 'method'"),
        ({**WHOLE, "unknown": 1}, "has 'unknown', expected only method, calibrated, "),
        *[({**WHOLE, "method": wrong}, "method: got .*, expected one of soft, hard") for wrong in ("no", ["soft"], {}, None)],
        *[({**WHOLE, "ties": wrong}, "ties: got .*, expected one of lowest_id, ") for wrong in ("no", [], 0, None)],
        *[({**WHOLE, "calibrated": wrong}, "calibrated: got .*, expected true or false") for wrong in ("no", 0, 1, None)],
        *[({**WHOLE, "seed": wrong}, "seed: got .*, expected a whole number") for wrong in (-1, 1.0, True, "3", None)],
        *[
            ({**WEIGHTED, "weights": wrong}, "weights: got .*, expected finite numbers")
            for wrong in (None, "no", [], [[1.0], [1.0, 2.0]], [True, 1], ["1"], [0, 0.0], [-0.5, 1.5], {"0": 1}, 1.0)
        ],
        *[
            ({**STACK, name: wrong}, f"{name}: got .*, expected finite numbers")
            for name in ("weights", "bias")
            for wrong in (None, [math.nan], [math.inf], [1, -math.inf], [10**400], [None])
        ],
        *[
            ({**CALIBRATED, "temperatures": wrong}, "temperatures: got .*, expected numbers from 0.05 to 20.0")
            for wrong in (None, [0.0, 1.0], [1, -1], [1, 1e-300], [1, 21], [math.nan, 1])
        ],
        ({**WHOLE, "temperatures": [1.0]}, r"temperatures: got \[1.0\], expected .* else null"),
        ({**WHOLE, "weights": [1.0]}, r"weights: got \[1.0\], expected .* else null"),
        ({**WEIGHTED, "bias": [1.0]}, r"bias: got \[1.0\], expected .* else null"),
        ({**WHOLE, "method": "stack"}, "weights: got None, .*\n.*vote: bias: got None"),
        ({**CALIBRATED, "weights": [0.5, 0.25, 0.25]}, "weights: got 3, expected 2, as many as temperatures"),
    ):
        with pytest.raises(PredictionError, match=rf"(?s)^error: vote: {fault}.*\. Restore the file, or vote anew\.$"):
            FittedMethod.from_json(raw)


def test_all_that_is_wrong_with_a_fitted_method_is_reported_with_its_place():
    raw = {**WHOLE, "method": "no" * 100, "ties": 3, "weights": [0.0]}
    with pytest.raises(PredictionError) as caught:
        FittedMethod.from_json(raw, "ensemble/vote.json")
    lines = str(caught.value).splitlines()
    assert [line.split(":")[2] for line in lines] == [" method", " ties", " weights"]
    assert all(line.startswith("error: ensemble/vote.json: ") and len(line) < 250 for line in lines)


def test_other_members_or_classes_than_were_fitted_are_refused():
    for raw, shape, fault in (
        (WEIGHTED, (3, 2, 4), "got 3 members, expected 2, for which its weights were fitted"),
        (WEIGHTED, (1, 2, 4), "got 1 members, expected 2, for which its weights were fitted"),
        (CALIBRATED, (3, 2, 4), "got 3 members, expected 2, for which its temperatures were fitted"),
        (STACK, (2, 2, 4), "got 4 classes, expected 3, for which its bias were fitted"),
        ({**STACK, "bias": [1.0]}, (2, 2, 4), "got 4 classes, expected 1, for which its bias were fitted"),
    ):
        with pytest.raises(PredictionError, match=rf"^vote: {fault}"):
            FittedMethod.from_json(raw).pool(np.full(shape, 1 / shape[2]))


def test_a_method_without_members_is_refused():
    for method in ALL_METHODS:
        nobody, targets, parts = np.empty((0, 4, 3)), np.arange(4) % 3, np.arange(4) % 2
        with pytest.raises(PredictionError, match=r"got none|got 0 members"):
            score_method(method, nobody, targets, parts)
        if method.kind in FITTED:
            with pytest.raises(PredictionError, match="got 0 members"):
                fit_method(method, nobody, targets)
        else:
            with pytest.raises(PredictionError, match=r"^members: got none"):
                FittedMethod(VotingMethod(method.kind)).pool(nobody)


def test_a_second_level_of_a_single_part_is_refused():
    for method in FITTED_METHODS:
        members, targets, parts = toy_members()
        with pytest.raises(
            PredictionError, match=r"^vote: got 1 part of the drawings, expected two parts at least: a second level"
        ):
            score_method(method, members, targets, np.zeros_like(parts))


def test_what_is_not_fitted_needs_no_second_level():
    members, targets, parts = toy_members()
    for kind in ("soft", "hard", "geometric", "rank"):
        whole = score_method(VotingMethod(kind), members, targets, np.zeros_like(parts))
        assert np.array_equal(whole.probs, score_method(VotingMethod(kind), members, targets, parts).probs)


def test_names_of_different_methods_differ():
    names = [VotingMethod(m, c, t).name for m in METHODS for c in (False, True) for t in ("lowest_id", "mean_probability")]
    assert len(set(names)) == 2 * (len(METHODS) + 1), "tie rules are those of hard votes only"
    assert VotingMethod("hard", ties="lowest_id").name == "hard"
    assert VotingMethod("hard", ties="mean_probability").name == "hard (ties: mean probability)"
    assert VotingMethod("hard", True, "mean_probability").name == "calibrated hard (ties: mean probability)"
    assert VotingMethod("soft", True, "mean_probability").name == "calibrated soft"


def test_more_drawings_than_are_held_at_once_are_pooled_alike():
    for method in ALL_METHODS:
        members, targets, _ = toy_members(n=2 * CHUNK_ROWS + 3)
        fitted = fit_method(method, members[:, :100], targets[:100])
        probs = fitted.pool(members.astype(np.float32))
        assert probs.dtype == np.float64
        one_by_one = np.concatenate([fitted.pool(members[:, i : i + 1].astype(np.float32)) for i in range(len(targets))])
        np.testing.assert_allclose(probs, one_by_one, rtol=1e-9, atol=1e-12)


def test_probabilities_of_exactly_zero_and_one_are_scored_without_warnings():
    for method in ALL_METHODS:
        members, targets, parts = toy_members()
        sure = np.eye(CLASSES, dtype=np.float32)[members.argmax(2)]
        found = score_method(method, sure, targets, parts)
        assert np.isfinite(found.probs).all()
        json.dumps(found.figures(targets), allow_nan=False)


def test_one_class_alone_is_always_right():
    for method in ALL_METHODS:
        found = score_method(method, np.ones((2, 6, 1)), np.zeros(6, np.int64), np.arange(6) % 2)
        assert found.right.all()
        np.testing.assert_allclose(found.probs, 1)


def test_a_method_fits_what_its_method_needs():
    members, targets, _ = toy_members()
    for method in ALL_METHODS:
        fitted = fit_method(method, members, targets)
        assert (fitted.temperatures is not None) == method.calibrated
        assert (fitted.weights is not None) == (method.kind in FITTED)
        assert (fitted.bias is not None) == (method.kind == "stack")
        if method.kind in ("weighted", "greedy"):
            assert fitted.weights.sum() == pytest.approx(1)
            assert np.array_equal(fitted.pool(members[:, :0]), np.zeros((0, CLASSES)))


@pytest.mark.parametrize(
    "method",
    [
        VotingMethod("weighted"),
        VotingMethod("weighted", True),
        VotingMethod("greedy"),
        VotingMethod("greedy", True),
        VotingMethod("stack"),
        VotingMethod("stack", True),
    ],
    ids=lambda method: method.name,
)
def test_where_one_member_knows_and_the_others_guess_fitting_finds_it(method):
    members, targets, parts = toy_members([4.0, 0.0, 0.0, 0.0, 0.0])
    found, plain = score_method(method, members, targets, parts), score_method(VotingMethod("soft"), members, targets, parts)
    assert found.right.mean() > plain.right.mean() + 0.1
    assert found.figures(targets)["nll"] < plain.figures(targets)["nll"] - 0.1


def test_the_greedy_methods_seed_is_that_of_its_bags():
    members, targets, _ = toy_members([1.0, 1.1, 0.9, 1.0, 1.05, 0.95] * 2)
    weights = [fit_method(VotingMethod("greedy", seed=seed), members, targets).weights for seed in (0, 0, 1)]
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


@pytest.mark.parametrize("method", ALL_METHODS[:2] + ALL_METHODS[-2:], ids=lambda method: method.name)
def test_mapped_members_are_scored_alike(method, tmp_path):
    members, targets, parts = toy_members()
    np.save(tmp_path / "members.npy", members)
    found = score_method(method, np.load(tmp_path / "members.npy", mmap_mode="r"), targets, parts)
    assert np.array_equal(found.probs, score_method(method, members, targets, parts).probs)


def test_figures_lie_within_their_intervals():
    for method in ALL_METHODS:
        members, targets, parts = toy_members()
        found = score_method(method, members, targets, parts)
        figures = found.figures(targets)
        own = found.probs[np.arange(len(targets)), targets]
        assert figures["accuracy"] == pytest.approx((found.probs.argmax(1) == targets).mean())
        assert figures["nll"] == pytest.approx(-np.log(np.maximum(own, 1e-15)).mean())
        for name in ("accuracy", "nll"):
            low, high = figures[f"{name}_ci95"]
            assert low < figures[name] < high
            # of 120 drawings; a normal interval is 4 standard errors wide
            values = found.right if name == "accuracy" else -np.log(np.maximum(own, 1e-15))
            assert high - low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(120), rel=0.15)
        json.dumps(figures, allow_nan=False)


def test_figures_by_hand():
    probs = np.array([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]])
    figures = MethodScore("", probs, np.array([True, False, True])).figures(np.array([0, 1, 0]))
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert figures["nll"] == pytest.approx((math.log(2) + math.log(4)) / 3)
    never = MethodScore("", np.eye(2), np.array([False, False])).figures(np.array([1, 0]))
    assert never["nll"] == pytest.approx(-math.log(1e-15))
    assert never["accuracy_ci95"] == [pytest.approx(0), pytest.approx(1.96**2 / (2 + 1.96**2), abs=1e-3)], "Wilson's, of two"


def test_the_simplest_of_those_that_are_not_distinguishable_from_the_best_is_chosen():
    best = "1" * 30
    near, far = "0" * 5 + "1" * 25, "0" * 6 + "1" * 24
    # by hand: 2 / 2^5 is 0.06 and 2 / 2^6 is 0.03
    assert choose(scores_of(near, best)) == 0
    assert choose(scores_of(far, best)) == 1
    assert choose(scores_of(far, near, best)) == 1
    assert choose(scores_of(far, far, best, near)) == 2
    assert choose(scores_of(best, near)) == 0
    assert choose(scores_of(far)) == 0
    assert choose(scores_of(best, best, best)) == 0


def test_the_choice_is_never_worse_than_the_best_by_more_than_chance():
    generator = np.random.default_rng(0)
    for _ in range(50):
        rights = generator.random((5, 60)) < generator.uniform(0.3, 0.9, (5, 1))
        scores = [MethodScore(str(i), np.zeros((0, 2)), right) for i, right in enumerate(rights)]
        place = choose(scores)
        best = max(scores, key=lambda one: one.right.sum())
        alike = [not paired_difference(best.right, one.right)["distinguishable"] for one in scores]
        assert alike[place]
        assert not any(alike[:place]), "a simpler one is as good"


def test_choosing_from_nothing_is_refused():
    with pytest.raises(PredictionError, match=r"^vote: got no method to choose from, expected one at least"):
        choose([])
    with pytest.raises(PredictionError, match=r"^vote: got no method to choose from"):
        score_choice([], np.arange(4) % 2)
    with pytest.raises(PredictionError, match="got no drawings"):
        choose(scores_of("", ""))
    assert compare([]) == []


def test_each_part_is_predicted_by_the_method_that_the_others_choose():
    # of three parts of ten, the second method is best where the first isn't, and vice versa
    first, second = "1" * 10 + "0" * 20, "0" * 10 + "1" * 20
    parts = np.repeat([4, 0, 9], 10)
    scores = [
        MethodScore(name, np.full((30, 2), value), np.array([letter == "1" for letter in right]))
        for name, value, right in (("first", 0.25, first), ("second", 0.75, second))
    ]
    # without part 4 the second has 20 and the first none; without 0 or 9 they have ten each, and the simpler is taken
    found = score_choice(scores, parts)
    assert found.probs[:, 0].tolist() == [0.75] * 10 + [0.25] * 20
    assert not found.right.any()
    with pytest.raises(PredictionError, match="expected two parts at least"):
        score_choice(scores, np.zeros(30, int))


def test_every_pair_is_compared_second_less_first():
    scores = scores_of("11110000", "11111111", "00000000")
    rows = compare(scores)
    assert [(row["first"], row["second"]) for row in rows] == [
        ("method 0", "method 1"),
        ("method 0", "method 2"),
        ("method 1", "method 2"),
    ]
    assert [row["difference"] for row in rows] == [0.5, -0.5, -1]
    # by hand: 2 / 2^4 twice, and 2 / 2^8
    assert [row["p_value"] for row in rows] == pytest.approx([1 / 8, 1 / 8, 1 / 128])
    assert [row["distinguishable"] for row in rows] == [False, False, True]
    for row in rows:
        low, high = row["difference_ci95"]
        assert low <= row["difference"] <= high
    json.dumps(rows, allow_nan=False)
    assert len(compare(scores * 3)) == 9 * 8 / 2
    assert compare(scores[:1]) == []


def test_of_members_equal_in_law_about_one_pair_in_twenty_is_called_distinguishable():
    distinguished, chosen = [], []
    for seed in range(300):
        members, targets, parts = toy_members([1.0, 1.0], 400, seed)
        scores = [score_method(VotingMethod("soft"), members[[i]], targets, parts) for i in range(2)]
        distinguished.append(compare(scores)[0]["distinguishable"])
        chosen.append(choose(scores))
    assert 0.01 < np.mean(distinguished) < 0.09
    assert np.mean(chosen) < 0.05, "only a better second is taken for one"


def test_scoring_needs_no_torch():
    code = (
        "import sys, numpy as np\nfrom inkfold.ensemble.methods import METHODS, VotingMethod, score_method\n"
        "members, targets = np.full((2, 8, 2), 0.5), np.arange(8) % 2\n"
        "for kind in METHODS:\n"
        "    score_method(VotingMethod(kind, True), members, targets, np.arange(8) // 4).figures(targets)\n"
        "print([name for name in ('torch', 'timm') if name in sys.modules])"
    )
    assert python(code) == "[]"


def test_a_choice_among_grouped_drawings_takes_copies_for_one():
    # the first is wrong on two groups of six drawings: 2 / 2^12 by drawing, 2 / 2^2 by group
    rights, groups = np.array(["0" * 12 + "1" * 28, "1" * 40]), np.repeat(np.arange(8), [6, 6, 6, 6, 4, 4, 4, 4])
    scores = [
        MethodScore(name, np.full((40, 2), 0.5), np.array([letter == "1" for letter in right]))
        for name, right in zip("ab", rights.tolist(), strict=True)
    ]
    assert choose(scores) == 1
    grouped = [replace(score, groups=groups) for score in scores]
    assert choose(grouped) == 0
    assert compare(grouped)[0]["p_value"] == pytest.approx(2 / 2**2)
    figures = grouped[0].figures(np.zeros(40, np.int64))
    assert (figures["interval"]["method"], figures["interval"]["groups"]) == ("cluster bootstrap", 8)
    assert figures["accuracy_ci95"][0] < scores[0].figures(np.zeros(40, np.int64))["accuracy_ci95"][0]
