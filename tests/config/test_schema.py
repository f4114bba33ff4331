"""The schema for editors accepts what inkfold accepts, and its keys are described for people."""

import json

import jsonschema
import pytest
import yaml

from inkfold.cli.main import main
from inkfold.config.commented import commented_recipe
from inkfold.config.load import load_recipe, raw_keys, shipped_recipes, validate_recipe
from inkfold.config.parsing import parse_yaml
from inkfold.config.recipe import Recipe
from inkfold.config.reference import recipe_keys
from inkfold.config.schema import recipe_schema
from inkfold.errors import RecipeError


@pytest.fixture(scope="module")
def validator():
    jsonschema.Draft202012Validator.check_schema(recipe_schema())
    return jsonschema.Draft202012Validator(recipe_schema())


def test_every_shipped_recipe_is_valid(validator):
    for name, path in shipped_recipes().items():
        assert not [*validator.iter_errors(parse_yaml(path.read_text(encoding="utf-8")))], name


@pytest.mark.parametrize(
    "recipe",
    [
        {"backbone": {"nam": "x"}},
        {"head": {"hidden": [3]}},
        {"metric": "acc"},
        {"train_head": {"lr": 0}},
        {"folds": {"k": 1}},
        {"image": {"resize": "stretch"}},
        {"backbone": {"precision": "float8"}},
    ],
)
def test_what_inkfold_refuses_is_refused(validator, recipe):
    assert [*validator.iter_errors(recipe)]
    with pytest.raises(RecipeError):
        validate_recipe({"data": {"root": "drawings"}, **recipe})


@pytest.mark.parametrize(
    "recipe",
    [
        {"head": {"kind": "mlp", "hidden": [3]}},
        {"metric": "top_3"},
        {"curriculum": [{"until_epoch": 1}, {"augment": ["hflip@0.5", "rotate(15)"]}]},
        {"backbone": {"name": "ink-small", "beside": ["mobilenetv2_100"]}},
    ],
)
def test_what_inkfold_accepts_is_accepted(validator, recipe):
    assert not [*validator.iter_errors(recipe)]
    validate_recipe({"data": {"root": "drawings"}, **recipe})


def test_every_key_has_a_meaning_and_an_example_and_every_setting_of_a_recipe_is_a_key():
    keys = recipe_keys()
    for key in keys:
        assert key.meaning.strip(), key.name
        assert key.example, key.name
        parse_yaml(key.example)
    names = {key.name for key in keys}
    for section, field in Recipe.model_fields.items():
        values = getattr(field.annotation, "model_fields", None)
        expected = {section} if values is None else {f"{section}.{name}" for name in values}
        for name in expected:
            assert any(known == name or known.startswith((f"{name}.", f"{name}[")) for known in names), name


def test_a_recipe_with_comments_means_the_same(tmp_path):
    for name in ("first", "cpu-hour", "layers"):
        for only_changed in (False, True):
            text = commented_recipe(name, only_changed=only_changed)
            (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
            assert load_recipe(tmp_path / "recipe.yaml") == load_recipe(name), f"{name} {only_changed}"
    assert len(commented_recipe("first", only_changed=True)) < len(commented_recipe("first")) / 3


def test_ensembles_and_searches_are_shown_too(tmp_path):
    for name in ("auto", "cpu-ensemble"):
        text = commented_recipe(name, only_changed=True)
        assert set(raw_keys(name)) <= set(yaml.safe_load(text)), name


def test_the_commands_print_and_write(tmp_path, capsys):
    assert main(["schema", "--out", str(tmp_path / "schema.json")]) == 0
    capsys.readouterr()
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "schema.json").read_text(encoding="utf-8"))
    assert main(["recipes", "first", "--changed"]) == 0
    assert "epochs: 8" in capsys.readouterr().out
    assert main(["recipes", "frist"]) == 2
    assert "first" in capsys.readouterr().err
