"""Every key of a recipe with its type, range, default, meaning and an example, read from the schema: one source for all texts.

The manual's reference, and the comments of `inkfold recipes NAME`, are made of it.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from inkfold.config.schema import Schema, recipe_schema

ITEM = "[]"  # follows a key whose value is a list of sections
ANY_KEY = "KEY"  # stands for a dotted key, in sections that have one for each of them
RECIPES = {"Recipe": "one model", "EnsembleRecipe": "an ensemble", "AutoRecipe": "a search"}


@dataclass(frozen=True, slots=True)
class RecipeKey:
    """One key of a recipe.

    Attributes:
        name: Dotted key, such as `train_head.lr`; `curriculum[].augment` is a key of each section in a list.
        meaning: What it decides, as Markdown.
        type: The type of its value, in words.
        range: Which values it may have, in words; empty where its type says it all.
        default: The value that it has otherwise, as YAML; None where it must be given.
        example: Another value, as YAML.
        recipe: What recipes with it are of: one model, an ensemble or a search.
        needs: Keys and values without which it doesn't exist, such as `head.kind`: `mlp`.
    """

    name: str
    meaning: str
    type: str
    range: str
    default: str | None
    example: str
    recipe: str
    needs: tuple[tuple[str, str], ...] = ()

    @property
    def section(self) -> str:
        """The first part of its name; empty for keys that are in no section."""
        return self.name.partition(".")[0].removesuffix(ITEM) if "." in self.name else ""


@functools.cache
def recipe_keys() -> tuple[RecipeKey, ...]:
    """List every key of a recipe once, in the order of the sections: those of one model, then of ensembles and of searches."""
    schema = recipe_schema()
    found: dict[tuple[str, tuple[tuple[str, str], ...]], RecipeKey] = {}
    for name, recipe in RECIPES.items():
        for key in _Walk(schema["$defs"], recipe).section(schema["$defs"][name], ""):
            found.setdefault((key.name, key.needs), key)
    return tuple(found.values())


def as_yaml(value: Any) -> str:
    """Write a value in one line of YAML."""
    return (
        yaml.safe_dump(value, default_flow_style=True, width=100_000, allow_unicode=True, sort_keys=False)
        .removesuffix("\n...\n")
        .strip()
    )


class _Walk:
    """Walks a schema's definitions from section to section."""

    def __init__(self, definitions: Mapping[str, Schema], recipe: str) -> None:
        self.definitions = definitions
        self.recipe = recipe

    def section(self, schema: Schema, prefix: str, needs: tuple[tuple[str, str], ...] = ()) -> Iterator[RecipeKey]:
        required = schema.get("required", ())
        for name, value in schema["properties"].items():
            if name == "budget" and not prefix:  # the short form of auto.budget
                continue
            kinds = self.kinds(value)
            if kinds:
                yield from self.kinds_of(kinds, value, prefix + name)
            elif (below := self.below(value)) is not None:
                yield from self.section(below, f"{prefix}{name}.", needs)
            elif not (name == "kind" and needs):
                yield self.key(value, prefix + name, needs, name in required)
                for suffix, items in self.inside(value):
                    yield from self.section(items, f"{prefix}{name}{suffix}.", needs)

    def kinds_of(self, kinds: Mapping[str, Schema], value: Schema, name: str) -> Iterator[RecipeKey]:
        listed = "\n".join(f"- `{kind}`: {_summary(one['description'])}" for kind, one in kinds.items())
        own = value.get("default", {}).get("kind")
        others = [kind for kind in kinds if kind != own]
        meaning = f"{value['description']}\n\n{listed}"
        yield RecipeKey(f"{name}.kind", meaning, "choice", _listed(kinds), own, others[0], self.recipe)
        for kind, one in kinds.items():
            yield from self.section(one, f"{name}.", ((f"{name}.kind", kind),))

    def key(self, value: Schema, name: str, needs: tuple[tuple[str, str], ...], is_required: bool) -> RecipeKey:
        default = None if is_required else as_yaml(value.get("default", {}))  # a factory's default is an empty mapping
        example = EXAMPLES.get(name) or _example(value)
        kind, allowed = _type(value, self.definitions)
        return RecipeKey(name, value.get("description", ""), kind, allowed, default, example, self.recipe, needs)

    def kinds(self, value: Schema) -> dict[str, Schema]:
        """Return the sections that a section may be, by kind; none if it is always the same."""
        mapping = value.get("discriminator", {}).get("mapping", {})
        return {kind: self.resolved({"$ref": place}) for kind, place in mapping.items()}

    def below(self, value: Schema) -> Schema | None:
        """Return the section that a value is, also beside short forms; None for a value that is none."""
        forms = [form for form in (value, *value.get("anyOf", ())) if "$ref" in form]
        return self.resolved(forms[0]) if forms and not self.inside(value) else None

    def inside(self, value: Schema) -> list[tuple[str, Schema]]:
        """Return the sections that stand in a list, or under any key, and what follows the value's name for them."""
        found = []
        for form in (value, *value.get("anyOf", ())):
            items, named = form.get("items", {}), form.get("additionalProperties", {})
            places = [one for one in (items, *items.get("anyOf", ())) if "$ref" in one]
            found += [(ITEM, self.resolved(place)) for place in places]
            found += [(f".{ANY_KEY}", self.resolved(named))] if isinstance(named, dict) and "$ref" in named else []
        return found

    def resolved(self, value: Schema) -> Schema:
        return self.definitions[value["$ref"].rpartition("/")[2]]


def _summary(text: str) -> str:
    return " ".join(text.split("\n\n", maxsplit=1)[0].split())


def _listed(values: Any) -> str:
    return ", ".join(f"`{as_yaml(value)}`" for value in values)


_TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}


def _type(value: Schema, definitions: Mapping[str, Schema]) -> tuple[str, str]:
    """Say in words what a value may be, and within which bounds."""
    if "anyOf" in value:
        parts = [_type(form, definitions) for form in value["anyOf"]]
        kinds, ranges = [list(dict.fromkeys(words for words in column if words)) for column in zip(*parts, strict=True)]
        return ", or ".join(kinds), "; ".join(ranges)
    if "enum" in value or "const" in value:
        return "choice", _listed(value.get("enum") or [value["const"]])
    if "$ref" in value:
        return "section", ""
    if value.get("type") == "array":
        inner, bounds = _type(value.get("items", {}), definitions)
        return f"list of {inner}", "; ".join(text for text in (bounds, _bounds(value)) if text)
    if value.get("type") == "object":
        return "mapping", ""
    kinds = value.get("type", "any value")
    names = [_TYPES.get(kind, kind) for kind in (kinds if isinstance(kinds, list) else [kinds])]
    return " or ".join(names), _bounds(value)


def _bounds(value: Schema) -> str:
    words = {
        "minimum": "at least {}",
        "exclusiveMinimum": "above {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "below {}",
        "minItems": "at least {} in number",
        "maxItems": "at most {} in number",
        "maxLength": "at most {} characters",
        "pattern": "matches `{}`",
    }
    return ", ".join(text.format(_number(value[key])) for key, text in words.items() if key in value)


def _number(value: Any) -> str:
    if isinstance(value, float):
        value = int(value) if value.is_integer() else value
    return f"{value:,}".replace(",", " ") if isinstance(value, int) and value >= 10_000 else str(value)


def _example(value: Schema) -> str:
    """Give a value that isn't the default, where the schema lists the values."""
    default = value.get("default")
    for form in (value, *value.get("anyOf", ())):
        if form.get("type") == "boolean":
            return as_yaml(not default)
        if others := [one for one in form.get("enum", ()) if one != default]:
            return as_yaml(others[0])
    return ""


# Of keys whose values aren't listed by the schema: as YAML, by the key's name. Tests read each as the recipe reads it.
EXAMPLES = {
    "data.root": "drawings",
    "data.table": "train.csv",
    "data.test_table": "test.parquet",
    "data.path_column": "file",
    "data.label_column": "species",
    "data.target_column": "label",
    "data.image_root": "images",
    "data.test_targets": "solution.csv",
    "data.corrections": "decisions.csv",
    "data.class_level": "-2",
    "data.label_pattern": r"'(?P<label>[a-z]+)_\d+\.png$'",
    "image.size": "128",
    "image.stored_size": "256",
    "image.pixel_limit": "20000000",
    "backbone.name": "mobilenetv2_100",
    "backbone.weights": "weights/resnet18.safetensors",
    "backbone.mean": "[0.485, 0.456, 0.406]",
    "backbone.std": "[0.229, 0.224, 0.225]",
    "backbone.interpolation": "bicubic",
    "backbone.model_args": "{pad_type: same}",
    "backbone.beside": "[mobilenetv2_100, ink-small]",
    "backbone.beside[].name": "mobilenetv2_100",
    "backbone.beside[].weights": "weights/mobilenetv2.safetensors",
    "backbone.beside[].mean": "[0.5]",
    "backbone.beside[].std": "[0.5]",
    "backbone.beside[].interpolation": "bilinear",
    "backbone.beside[].model_args": "{pad_type: same}",
    "backbone.beside[].image_size": "96",
    "backbone.batch_size": "64",
    "head.hidden": "[512, 256]",
    "head.dropout": "0.5",
    "head.neighbours": "10",
    "folds.k": "10",
    "folds.parts": "2",
    "folds.group_column": "artist",
    "folds.group_pattern": "'^[^/]+/(photo[0-9]+)-'",
    "folds.copy_pairs": "1000000",
    "train_head.epochs": "40",
    "train_head.batch_size": "256",
    "train_head.lr": "0.008",
    "train_head.weight_decay": "0.1",
    "train_head.label_smoothing": "0.1",
    "train_head.focal_gamma": "2",
    "train_head.mixup": "0.2",
    "train_head.schedule.every": "5",
    "train_head.schedule.gamma": "0.5",
    "train_head.warmup_epochs": "1",
    "train_head.starts": "3",
    "finetune.blocks": "2",
    "finetune.lora_rank": "16",
    "finetune.lora_alpha": "32",
    "finetune.drop_path": "0.1",
    "finetune.epochs": "14",
    "finetune.stop_epoch": "8",
    "finetune.batch_size": "128",
    "finetune.micro_batch": "16",
    "finetune.lr": "0.0003",
    "finetune.head_lr_factor": "3",
    "finetune.layer_decay": "0.75",
    "finetune.weight_decay": "0.01",
    "finetune.label_smoothing": "0",
    "finetune.mixup": "0.2",
    "finetune.cutmix": "1",
    "finetune.schedule.every": "5",
    "finetune.schedule.gamma": "0.5",
    "finetune.warmup_epochs": "1",
    "finetune.ema": "0.99",
    "finetune.clip_norm": "0",
    "finetune.teacher": "runs/large",
    "finetune.teacher_weight": "10",
    "finetune.interpolate": "[0.5, 0.75, 1]",
    "curriculum": "winner",
    "curriculum[].until_epoch": "5",
    "curriculum[].augment": "[hflip@0.5, 'rotate(15)@0.5']",
    "curriculum[].views": "4",
    "curriculum[].lr_factor": "0.5",
    "tta": "[identity, hflip, 'rotate(8,8)']",
    "predict.prior": "uniform",
    "submission.sample": "sample.csv",
    "submission.columns": "id,label",
    "submission.labels": "top3",
    "submission.id": "stem",
    "tune.trials": "100",
    "tune.batch": "32",
    "tune.judge_fraction": "0.3",
    "tune.space": "{train_head.lr: {low: 0.0001, high: 0.01, log: true}}",
    "tune.space.KEY.low": "0.0001",
    "tune.space.KEY.high": "0.01",
    "tune.space.KEY.choices": "[[64], [256]]",
    "metric": "macro_f1",
    "seed": "7",
    "members": "[{recipe: cpu-best}, {recipe: cpu-small}]",
    "members[].recipe": "cpu-best",
    "members[].set": "{backbone.name: mobilenetv2_100}",
    "members[].name": "lite0-mlp",
    "auto.budget": "1h",
    "auto.replay": "runs/best/auto.json",
    "set": "{image.resize: pad}",
}
