"""The JSON schema of recipes, made of the sections: editors complete and check recipes by it, and the manual lists its keys.

Pydantic gives types, ranges, defaults and the settings' docstrings. Added here is what validators allow beside: short forms.
"""

import copy
from typing import Any

from pydantic.json_schema import models_json_schema

from inkfold.config.metric import METRIC_NAMES, WITH_K
from inkfold.config.recipe import NAMED_CURRICULA, AutoRecipe, EnsembleRecipe, Recipe
from inkfold.config.sections import MOST_VIEWS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def recipe_schema() -> Schema:
    """Describe all recipes as a JSON schema: of one model, of an ensemble (`members`) and of a search (`auto`).

    Keys under their earlier names, which recipes may still have, are not in it: editors point at them.

    Returns:
        A JSON schema of draft 2020-12, with a description and, where there is one, a default for each key.
    """
    recipes = (Recipe, EnsembleRecipe, AutoRecipe)
    _, schema = models_json_schema([(recipe, "validation") for recipe in recipes], ref_template="#/$defs/{model}")
    definitions: dict[str, Schema] = schema["$defs"]
    _allow_short_forms(definitions)
    _require_kinds(definitions)
    search = {"anyOf": [{"required": ["auto"]}, {"required": ["budget"]}]}
    return {
        "$schema": DIALECT,
        "title": "Recipe of inkfold",
        "type": "object",
        "if": {"required": ["members"]},
        "then": {"$ref": "#/$defs/EnsembleRecipe"},
        "else": {"if": search, "then": {"$ref": "#/$defs/AutoRecipe"}, "else": {"$ref": "#/$defs/Recipe"}},
        "$defs": definitions,
    }


def _allow_short_forms(definitions: dict[str, Schema]) -> None:
    """Let the schema take what `before` validators take; see `Recipe` and the sections."""
    metric = {
        "type": "string",
        "anyOf": [
            _one_of(*(name for name in METRIC_NAMES if name not in WITH_K)),
            {"type": "string", "pattern": _PATTERN_WITH_K},
        ],
    }
    for name in ("Recipe", "EnsembleRecipe", "AutoRecipe"):
        _beside(definitions[name], "data", {"type": ["string", "number"]})
        definitions[name]["properties"]["metric"] |= metric
    _beside(definitions["Recipe"], "curriculum", _one_of(*NAMED_CURRICULA), _named_curriculum(definitions), {"type": "null"})
    other = {"$ref": "#/$defs/BesideSettings"}
    beside = definitions["BackboneSettings"]["properties"]["beside"]
    beside["items"] = {"anyOf": [{"type": "string"}, other]}
    _beside(definitions["BackboneSettings"], "beside", {"type": "string"}, other)
    _beside(definitions["SubmissionSettings"], "columns", {"type": "string"})
    budget = definitions["AutoSettings"]["properties"]["budget"]
    budget["anyOf"] = [{"type": budget.pop("type"), "pattern": _PATTERN_OF_DURATION}, {"type": "number", "minimum": 10}]
    search = definitions["AutoRecipe"]
    search["properties"]["budget"] = {**copy.deepcopy(budget), "title": "Budget", "description": "Short for auto.budget."}
    search["required"] = [name for name in search.get("required", ()) if name != "auto"]
    definitions["StageSettings"]["properties"]["views"]["anyOf"] = [_one_of("per_epoch"), _VIEWS]


_PATTERN_OF_DURATION = r"^\s*[0-9]+(\.[0-9]+)?\s*(s|m|min|h|d)?\s*$"
_PATTERN_WITH_K = r"^(top|map_at)_([1-9][0-9]{0,3}|k)$"
_VIEWS = {"type": "integer", "minimum": 1, "maximum": MOST_VIEWS}


def _one_of(*values: str) -> Schema:
    return {"enum": [*values]}


def _named_curriculum(definitions: dict[str, Schema]) -> Schema:
    stage = definitions["StageSettings"]["properties"]
    properties = {"name": _one_of(*NAMED_CURRICULA), "views": {"anyOf": [_one_of("per_epoch"), _VIEWS]}}
    properties["lr_factor"] = copy.deepcopy(stage["lr_factor"])
    return {"type": "object", "properties": properties, "required": ["name"], "additionalProperties": False}


def _beside(definition: Schema, name: str, *forms: Schema) -> None:
    """Let a property have further forms; its description and default stay beside them."""
    whole = definition["properties"][name]
    kept = {key: whole.pop(key) for key in ("description", "default", "title") if key in whole}
    own = whole.pop("anyOf", None) or [dict(whole)]
    whole.clear()
    whole.update({"anyOf": [*own, *forms], **kept})


def _require_kinds(definitions: dict[str, Schema]) -> None:
    """Ask for `kind` wherever a section is one of several, as the recipe's validation does."""
    for definition in definitions.values():
        if "const" in definition.get("properties", {}).get("kind", {}):
            definition["required"] = ["kind", *(name for name in definition.get("required", ()) if name != "kind")]
