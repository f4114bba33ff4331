import logging

import pytest
import yaml

from inkfold.config import renamed
from inkfold.config.load import (
    dump_recipe,
    load_raw,
    load_recipe,
    merge_overrides,
    validate_auto,
    validate_ensemble,
    validate_recipe,
    with_values,
)
from inkfold.errors import RecipeError

OLD = """
image: {size: 64, fit: squash}
backbone: {name: resnet18, train: lora, train_blocks: 2, lora_rank: 4, lora_alpha: 8, drop_path: 0.1, device: cpu}
fit: {epochs: 3, lr: 0.01}
finetune: {epochs: 2}
tune: {space: {fit.lr: {low: 0.1, high: 0.2}}}
"""
NEW = """
image: {size: 64, resize: squash}
backbone: {name: resnet18, device: cpu}
train_head: {epochs: 3, lr: 0.01}
finetune: {part: lora, blocks: 2, lora_rank: 4, lora_alpha: 8, drop_path: 0.1, epochs: 2}
tune: {space: {train_head.lr: {low: 0.1, high: 0.2}}}
"""


@pytest.fixture(autouse=True)
def nothing_reported(monkeypatch):
    monkeypatch.setattr(renamed, "_reported", set())


def written(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_a_recipe_with_old_keys_is_the_one_with_new_keys(tmp_path):
    assert load_recipe(written(tmp_path, OLD)) == validate_recipe(yaml.safe_load(NEW))
    assert validate_recipe(yaml.safe_load(OLD)) == validate_recipe(yaml.safe_load(NEW))
    assert dump_recipe(load_recipe(written(tmp_path, OLD))) == dump_recipe(validate_recipe(yaml.safe_load(NEW)))


def test_a_frozen_backbone_is_one_of_which_no_part_is_trained():
    assert validate_recipe({"backbone": {"name": "x", "train": "frozen"}}).finetune.part == "none"
    assert load_recipe("cpu-finetune", ["backbone.train=frozen"]).finetune.part == "none"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("fit.lr=3", "train_head.lr=3"),
        ("fit={lr: 3}", "train_head={lr: 3}"),
        ("image.fit=squash", "image.resize=squash"),
        ("image={fit: squash}", "image={resize: squash}"),
        ("backbone.train=all", "finetune.part=all"),
        ("backbone.train_blocks=3", "finetune.blocks=3"),
        ("tune.space={fit.lr: {low: 1, high: 2}}", "tune.space={train_head.lr: {low: 1, high: 2}}"),
    ],
)
def test_old_keys_are_read_as_overrides_and_as_values(old, new):
    assert load_recipe("cpu-small", [old]) == load_recipe("cpu-small", [new])
    (key, value), (new_key, new_value) = (
        (text.partition("=")[0], yaml.safe_load(text.partition("=")[2])) for text in (old, new)
    )
    raw = load_raw("cpu-small")
    assert validate_recipe(with_values(raw, {key: value})) == validate_recipe(with_values(raw, {new_key: new_value}))


def test_old_overrides_go_onto_old_keys_and_new_ones_too(tmp_path):
    path = written(tmp_path, OLD)
    for text in ("fit.lr=0.5", "train_head.lr=0.5"):
        recipe = load_recipe(path, [text])
        assert (recipe.train_head.lr, recipe.train_head.epochs) == (0.5, 3)
    raw = yaml.safe_load(OLD)
    merge_overrides(raw, ["train_head.epochs=4"])
    assert raw["train_head"] == {"epochs": 4, "lr": 0.01}
    assert "fit" not in raw


def test_members_of_an_ensemble_may_set_old_keys():
    members = [{"recipe": "cpu-small", "set": {"fit.epochs": 5}}, {"recipe": "first", "set": {"image": {"fit": "squash"}}}]
    ensemble = validate_ensemble({"members": members})
    assert [member.set for member in ensemble.members] == [{"train_head.epochs": 5}, {"image": {}, "image.resize": "squash"}]


@pytest.mark.parametrize(
    "raw",
    [
        {"fit": {"lr": 1}, "train_head": {"lr": 2}},
        {"train_head": {"lr": 2}, "fit": {"lr": 1}},
        {"image": {"fit": "pad", "resize": "pad"}},
        {"backbone": {"name": "x", "train": "all"}, "finetune": {"part": "all"}},
        {"tune": {"space": {"fit.lr": {"low": 1, "high": 2}, "train_head.lr": {"low": 1, "high": 2}}}},
        {"members": [{"recipe": "x", "set": {"fit.lr": 1, "train_head.lr": 1}}]},
    ],
)
def test_a_key_under_both_its_names_is_an_error_that_says_so(raw, tmp_path):
    with pytest.raises(RecipeError, match="is given twice, also by its old name"):
        validate_recipe(raw)
    with pytest.raises(RecipeError, match="is given twice, also by its old name"):
        load_raw(written(tmp_path, yaml.safe_dump(raw)))


@pytest.mark.parametrize("texts", [["fit.lr=1", "train_head.lr=2"], ["train_head.lr=2", "fit.lr=1"]])
def test_overrides_under_both_names_are_an_error_that_says_so(texts):
    with pytest.raises(RecipeError, match=r"'train_head\.lr' is given twice, also by its old name"):
        load_recipe("cpu-small", texts)
    with pytest.raises(RecipeError, match=r"'train_head\.lr' is given twice"):
        with_values({}, {text.partition("=")[0]: 1 for text in texts})


def test_each_old_key_is_named_once_with_its_new_one(caplog, tmp_path):
    path = written(tmp_path, OLD)
    with caplog.at_level(logging.WARNING, "inkfold.config"):
        load_recipe(path, ["fit.lr=3"])
        load_recipe(path)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == len(renamed.RENAMED)
    assert all(any(f"'{old}' is called '{new}' now" in line for line in lines) for old, new in renamed.RENAMED.items())


def test_what_has_the_wrong_form_is_reported_by_its_new_name():
    for raw, path in (({"fit": 3}, "train_head"), ({"finetune": 3, "backbone": {"name": "x", "train": "all"}}, "finetune")):
        with pytest.raises(RecipeError, match=f"recipe: {path}: got 3"):
            validate_recipe(raw)
    assert validate_recipe({"fit": None, "train_head": {"lr": 2}, "backbone": {"name": "x"}}).train_head.lr == 2


@pytest.mark.parametrize("raw", [{"budget": "1h"}, {"auto": {"budget": "1h"}}, {"auto": {"budget": "10m"}, "set": {}}])
def test_a_budget_is_short_for_that_of_the_search(raw, caplog):
    with caplog.at_level(logging.WARNING, "inkfold.config"):
        merge_overrides(raw, ["budget=1h"])
        assert validate_auto(raw).auto.budget == "1h"
        assert validate_auto({"budget": "90s"}).auto.budget_s == 90
    assert caplog.records == []  # no old name


def test_a_budget_under_both_its_names_is_an_error_that_says_so():
    with pytest.raises(RecipeError, match=r"'auto\.budget' is given twice, also by its short name"):
        merge_overrides({}, ["budget=1h", "auto.budget=2h"])
    with pytest.raises(RecipeError, match=r"'auto\.budget' is given twice, also by its short name"):
        merge_overrides({"auto": {"budget": "2h"}, "budget": "1h"}, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("soon", "auto.budget: got 'soon'. expected a duration such as 30s, 10m, 1h or 12h."),
        ("2s", "auto.budget: got '2s'. expected 10s to 30d."),
        ("true", "auto.budget: got True. expected a duration such as 30s, 10m, 1h or 12h."),
    ],
)
def test_a_budget_that_is_none_is_an_error_that_says_what_one_is(text, expected):
    raw = load_raw("auto", [f"budget={text}"])
    with pytest.raises(RecipeError) as caught:
        validate_auto(raw)
    assert str(caught.value) == f"error: recipe: {expected}"


def test_a_budget_for_a_recipe_of_one_model_is_an_error_that_names_the_search():
    with pytest.raises(RecipeError, match=r"auto: is of a search within a budget of time.*inkfold train auto data=DIR"):
        load_recipe("first", ["budget=10m"])
