from typing import get_args

import optuna
import pytest

from inkfold.config.load import validate_recipe, with_values
from inkfold.config.sections import HeadKind
from inkfold.errors import RecipeError
from inkfold.search.space import SCALING, SPACE_OF_HEAD, default_values, from_names, search_space, study_name, suggest

MINIMAL = {"backbone": {"name": "resnet18"}}
HEADS = {"choices": [{"kind": "linear"}, {"kind": "mlp", "hidden": [8]}]}

EVERY = {"low": 1, "high": 5, "whole": True}


def spaced(space, **raw):
    keys = {**MINIMAL, **raw, "tune": {"space": space}}
    return keys, search_space(keys, validate_recipe(keys))


def suggested(space, raw, count=20):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    return [suggest(study.ask(), space, raw) for _ in range(count)]


def problems(space, **raw):
    with pytest.raises(RecipeError) as caught:
        spaced(space, **raw)
    return [str(problem) for problem in caught.value.problems]


def test_without_a_space_there_is_one_that_suits_the_head():
    for kind in get_args(HeadKind):
        raw, space = spaced({}, head={"kind": kind})
        assert space == SPACE_OF_HEAD.get(kind, SCALING)
        for values in suggested(space, raw, 5):
            assert set(values) == set(space)


def test_values_come_from_where_the_space_says():
    raw, space = spaced(
        {
            "train_head.lr": {"low": 1e-4, "high": 1e-2, "log": True},
            "train_head.epochs": {"low": 3, "high": 5, "whole": True},
            "train_head.scaling": {"choices": ["none", "normalise"]},
            "curriculum": {"choices": [None, "winner"]},
        }
    )
    drawn = suggested(space, raw, 60)
    assert all(1e-4 <= values["train_head.lr"] <= 1e-2 for values in drawn)
    assert {values["train_head.epochs"] for values in drawn} == {3, 4, 5}
    assert {values["train_head.scaling"] for values in drawn} == {"none", "normalise"}
    assert {values["curriculum"] for values in drawn} == {None, "winner"}
    assert 0.3 < sum(values["train_head.lr"] < 1e-3 for values in drawn) / 60 < 0.7, "evenly in the logarithm"


def test_numbers_are_rounded_to_what_a_person_would_write_but_never_out_of_their_range():
    raw, space = spaced({"train_head.lr": {"low": 0.12345, "high": 0.12346}})
    assert all(0.12345 <= values["train_head.lr"] <= 0.12346 for values in suggested(space, raw))
    raw, space = spaced({"train_head.lr": {"low": 1e-3, "high": 1.0}})
    assert all(len(f"{values['train_head.lr']!r}".lstrip("0.")) <= 3 for values in suggested(space, raw))


def test_keys_below_a_head_are_suggested_only_where_the_chosen_head_has_them():
    raw, space = spaced({"head": HEADS, "head.dropout": {"low": 0.1, "high": 0.5}})
    drawn = suggested(space, raw)
    assert {("head.dropout" in values) for values in drawn} == {True, False}
    for values in drawn:
        assert ("head.dropout" in values) == (values["head"]["kind"] == "mlp")


def test_a_key_that_can_not_be_searched_is_reported_with_the_value_that_fails():
    for space, message in (
        (
            {"train_head.lrr": {"low": 1, "high": 2}},
            "tune.space.train_head.lrr: 1.0 does not fit: recipe: train_head.lrr: no such key. Did you mean 'lr'?",
        ),
        (
            {"train_head.lr": {"low": 0.1, "high": 20}},
            "tune.space.train_head.lr: 20.0 does not fit: recipe: train_head.lr: got 20.0.",
        ),
        ({"train_head.scaling": {"choices": ["none", "huge"]}}, "'huge' does not fit"),
        ({"seed": {"choices": [1, 2]}}, "tune.space.seed: can't be searched: trials must agree on it"),
        ({"data.root": {"choices": ["a"]}}, "tune.space.data.root: can't be searched"),
        ({"tta": {"choices": [[], ["hflip"]]}}, "tune.space.tta: can't be searched: trials are scored on drawings as they are"),
        (
            {
                "train_head.schedule": {"choices": [{"kind": "cosine"}]},
                "train_head.schedule.every": EVERY,
            },
            "no choice of train_head.schedule has such a key",
        ),
        ({"head.dropout": {"low": 0, "high": 0.5}}, "got {'dropout': 0.0} without a kind"),
        (
            {"head": {"choices": [{"kind": "linear"}]}, "head.dropout": {"low": 0, "high": 0.5}},
            "no choice of head has such a key",
        ),
        ({"train_head": {"choices": [3]}}, "3 does not fit"),
    ):
        assert any(message in line for line in problems(space)), problems(space)


def test_all_problems_of_a_space_are_reported_together():
    assert len(problems({"train_head.lrr": {"low": 1, "high": 2}, "seed": {"choices": [1]}})) == 3  # both ends of the range


def test_what_is_neither_a_range_nor_choices_is_refused():
    for where in (
        {},
        {"low": 1},
        {"low": 2, "high": 1},
        {"low": 0, "high": 1, "log": True},
        {"low": 0, "high": 1, "choices": [1]},
    ):
        with pytest.raises(RecipeError, match=r"tune.space.train_head.lr"):
            validate_recipe({**MINIMAL, "tune": {"space": {"train_head.lr": where}}})


def test_the_recipes_own_values_are_found_as_optuna_names_them():
    raw, space = spaced(
        {"train_head.lr": {"low": 1e-4, "high": 1}, "curriculum": {"choices": [None, "winner"]}, "head": HEADS},
        train_head={"lr": 0.5},
        curriculum="winner",
    )
    named = default_values(space, raw)
    assert named == {study_name("train_head.lr"): 0.5, "curriculum": '"winner"', "head": '{"kind": "linear"}'}
    assert from_names(space, named) == {"train_head.lr": 0.5, "curriculum": "winner", "head": {"kind": "linear"}}


@pytest.mark.parametrize(
    "space",
    [
        {"train_head.lr": {"low": 0.01, "high": 1}},
        {"train_head.scaling": {"choices": ["normalise"]}},
        {"head": {"choices": [{"kind": "knn"}]}},
    ],
)
def test_values_outside_the_space_are_not_found(space):
    raw, checked = spaced(space)
    assert default_values(checked, raw) is None


def test_keys_below_any_section_are_suggested_only_where_the_choice_has_them():
    kinds = [{"kind": "cosine"}, {"kind": "step"}]
    raw, space = spaced(
        {"train_head.schedule": {"choices": kinds}, "train_head.schedule.every": EVERY},
        train_head={"epochs": 7},
    )
    drawn = suggested(space, raw)
    assert {values["train_head.schedule"]["kind"] for values in drawn} == {"cosine", "step"}
    for values in drawn:
        assert ("train_head.schedule.every" in values) == (values["train_head.schedule"]["kind"] == "step")
        validate_recipe(with_values(raw, values))
    assert default_values(space, raw) == {study_name("train_head.schedule"): '{"kind": "cosine"}'}


def test_a_kind_alone_decides_too_whatever_the_order_of_keys():
    raw, space = spaced(
        {"head.dropout": {"low": 0, "high": 0.5}, "head.kind": {"choices": ["mlp", "linear"]}}, head={"kind": "mlp"}
    )
    drawn = suggested(space, raw)
    assert {values["head.kind"] for values in drawn} == {"mlp", "linear"}
    for values in drawn:
        assert ("head.dropout" in values) == (values["head.kind"] == "mlp")
        validate_recipe(with_values(raw, values))


def test_a_value_that_is_left_to_the_backbone_lies_in_no_range():
    raw, space = spaced({"image.size": {"low": 64, "high": 256, "whole": True}})
    assert default_values(space, raw) is None
    assert default_values(space, {**raw, "image": {"size": 128}}) == {"image.size": 128}


def test_journals_name_keys_as_they_did_when_studies_were_begun():
    assert study_name("train_head.lr").split(".") == ["fit", "lr"]
    assert study_name("image.resize").split(".") == ["image", "fit"]
    assert study_name("head.dropout") == "head.dropout"


def test_how_pages_are_read_can_be_searched():
    readings = {"image.resize": ["auto", "pad", "crop_to_ink"], "image.paper": ["auto", "keep", "flatten"]}
    raw, space = spaced({key: {"choices": choices} for key, choices in readings.items()})
    drawn = suggested(space, raw, 40)
    for key, choices in readings.items():
        assert {values[key] for values in drawn} == set(choices)
    assert default_values(space, raw) == {"image.fit": '"auto"', "image.paper": '"auto"'}
    assert "Input should be" in problems({"image.paper": {"choices": ["crumple"]}})[0]
