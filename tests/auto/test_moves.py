import pytest

from inkfold.auto.costs import Costs, Size
from inkfold.auto.finetuning import guess_time
from inkfold.auto.moves import Known, first_move, possible_moves, short
from inkfold.auto.record import Step
from inkfold.config.load import validate_recipe

LITE, MOBILE, INK = "tf_efficientnet_lite0", "mobilenetv2_100.ra_in1k", "ink-small"
LONG_S = 1e6


SIZE = Size(train=1000, test=200, classes=20, folds=5)


def known(*steps, size=SIZE, backbones=(LITE, MOBILE, INK), rates=(100, 50, 2000)):
    costs = Costs(size, dict(zip(backbones, rates, strict=True)))
    for name in backbones:
        costs.sizes[name], costs.resizable[name] = (64 if name == INK else 224), name != INK
    return Known([*backbones], costs, [*steps], reading={"resize": "crop_to_ink", "paper": "auto"})


def done(name, kind="frozen", accuracy=0.5, **more):
    recipe = more.pop("recipe", {"backbone": {"name": LITE}})
    return Step(name, kind, "done", recipe=recipe, accuracy=accuracy, seconds=10.0, **more)


def names(moves):
    return {move.name for move in moves}


def test_a_search_begins_with_the_quickest_backbone():
    assert first_move(known()).name == "ink-small"
    assert first_move(known(backbones=(LITE, MOBILE), rates=(10, 50))).name == "mobilenetv2_100"


def test_names_of_steps_leave_out_the_tag_of_the_weights():
    assert [short(name) for name in (MOBILE, INK)] == ["mobilenetv2_100", "ink-small"]


def test_a_backbone_is_tried_plainly_before_anything_else_is_done_with_it():
    assert names(possible_moves(known(), LONG_S)) == {"ink-small", "tf_efficientnet_lite0", "mobilenetv2_100"}
    after = names(possible_moves(known(done("tf_efficientnet_lite0")), LONG_S))
    assert {"tf_efficientnet_lite0-views", "tf_efficientnet_lite0-mlp", "tf_efficientnet_lite0-finetuned"} < after
    assert "tf_efficientnet_lite0" not in after


def test_every_move_s_recipe_is_one_that_can_be_trained():
    steps = [done("tf_efficientnet_lite0"), done("mobilenetv2_100"), done("ink-small")]
    moves = possible_moves(known(*steps), LONG_S)
    assert {move.kind for move in moves} == {"views", "head", "joined", "propagated", "finetune"}
    for move in moves:
        recipe = validate_recipe({"data": "x", **move.recipe})
        assert recipe.image.resize == "crop_to_ink" or move.kind == "propagated"
        assert move.seconds > 0
        assert 0 < move.gain < 0.5


def test_views_without_mirroring_come_after_views_that_mirror_gained_nothing():
    worse = done("ink-small-views", "views", gain=-0.02)
    assert "ink-small-turned" in names(possible_moves(known(done("ink-small"), worse), LONG_S))
    better = done("ink-small-views", "views", gain=0.02)
    assert "ink-small-turned" not in names(possible_moves(known(done("ink-small"), better), LONG_S))


def test_drawings_are_mirrored_in_fine_tuning_unless_that_was_worse():
    worse = [done("ink-small-views", "views", 0.4, gain=-0.1), done("ink-small-turned", "views", 0.5, gain=0.0)]
    for steps, operation in ((worse, "rotate(20)@0.7"), ([], "hflip@0.5")):
        moves = possible_moves(known(done("ink-small"), *steps), LONG_S)
        [move] = [move for move in moves if move.kind == "finetune"]
        assert move.recipe["curriculum"][0]["augment"][0] == operation


def test_a_kind_that_was_taken_promises_more_than_one_that_was_not():
    taken, left = (known(done("ink-small", is_best=best)).gained_less("frozen") for best in (True, False))
    assert taken == pytest.approx(0.6)
    assert left == pytest.approx(0.2)


def test_fine_tuning_is_planned_for_the_time_that_is_left_or_not_at_all():
    state = known(done("ink-small"))
    moves = {left: {m.kind: m for m in possible_moves(state, left)} for left in (1.0, 120.0, LONG_S)}
    assert "finetune" not in moves[1.0]
    short_one, long_one = (moves[left]["finetune"].recipe["finetune"]["epochs"] for left in (120.0, LONG_S))
    assert short_one < long_one
    assert moves[120.0]["finetune"].seconds < 120.0


def test_fine_tuning_again_is_tried_only_for_much_longer():
    recipe = {"backbone": {"name": INK}, "finetune": {"epochs": 60}, "folds": {"parts": 5}}
    state = known(done("ink-small"), done("ink-small-finetuned", "finetune", recipe=recipe))
    assert not [move for move in possible_moves(state, LONG_S) if move.kind == "finetune"]
    recipe["finetune"]["epochs"], recipe["folds"]["parts"] = 4, 1
    assert "ink-small-finetuned-2" in names(possible_moves(state, LONG_S))


def test_a_backbone_that_was_trained_on_these_drawings_is_not_trained_on_them_again():
    state = known(done("ink-small"))
    state.pretrained_here.add(INK)
    assert not [move for move in possible_moves(state, LONG_S) if move.kind == "finetune"]


def test_costs_learn_from_what_a_step_took():
    costs = Costs(Size(train=1000, test=200, classes=20, folds=5), {LITE: 10.0})
    assert costs.features_s(LITE) == pytest.approx(120.0)
    assert costs.features_s("unknown") == float("inf")
    before = costs.fit_s(LITE, 10)
    cost = {"forwards": 1200, "seconds": {"features": 12.0, "fit": 1.0, "total": 20.0}}
    costs.note(LITE, cost, epochs=10, hidden=0, width=1280)
    assert costs.features_s(LITE) == pytest.approx(12.0), "100 drawings per second"
    assert costs.overhead_s == pytest.approx((7.0 + 3.0) / 2), "20 s less 13, and what was thought before"
    assert before < costs.fit_s(LITE, 10) < 1.0


def test_convolutional_backbones_are_trained_on_smaller_drawings_on_a_cpu():
    costs = known().costs
    assert guess_time(LITE, costs).image_size == 128
    assert guess_time(INK, costs).image_size == 64
    costs.resizable[LITE] = False
    assert guess_time(LITE, costs).image_size == 224
    assert guess_time("unknown", costs) is None
