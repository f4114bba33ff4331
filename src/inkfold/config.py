"""The recipe: what a run does, as data. YAML holds what differs from the defaults; unknown keys are refused.

One override grammar serves the command line, the tuner and the tests: `head.hidden=[512]`, `fit.lr=3e-4`, `seed=7`.
Overrides are merged raw, then everything is validated once and all problems are told together.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from inkfold.errors import Problem, RecipeError
from inkfold.operations import parse_operations

SHORTHANDS = {"data": "root"}  # `data=DIR` means `data.root=DIR`
MOST_VIEWS = 10_000


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class DataRecipe(_Section):
    """What is to be learnt."""

    root: str | None = None
    """The folder of drawings, or a CSV or Parquet table. Must be given, in the recipe or as data=DIR."""
    layout: Literal["auto", "competition", "folder", "table"] = "auto"
    """How the folder is laid out; `auto` looks."""
    table: str | None = None
    """CSV or Parquet table of the training drawings, relative to the root."""
    test_table: str | None = None
    """CSV or Parquet table of the test drawings, relative to the root."""
    path_column: str = "image_path"
    """Column with the drawings' paths."""
    label_column: str = "class_name"
    """Column with the class names."""
    target_column: str = "target"
    """Column with the class numbers, where there is one."""
    image_root: str | None = None
    """Folder that the table's paths are relative to; None means the table's own folder."""
    test_targets: str | None = None
    """CSV or Parquet with image_path and target of the test drawings, for measuring only."""
    on_broken: Literal["error", "skip"] = "error"
    """What a broken or missing drawing does: stop the run, or be left out and counted."""


class ImageRecipe(_Section):
    """How drawings become square pixels."""

    size: int | None = Field(None, ge=16, le=2048)
    """Side in px; None takes the backbone's own."""
    stored_size: int | None = Field(None, ge=16, le=2048)
    """Side of the stored squares in px, from which views are rendered; None takes `size`."""
    fit: Literal["pad", "squash", "crop_to_ink"] = "pad"
    """Pad on the paper's colour, distort to the square, or crop to the ink and pad."""
    colour: Literal["auto", "grey", "rgb"] = "auto"
    """Keep colour where there is some, never, or always three channels."""
    invert: Literal["auto", "never"] = "auto"
    """Turn light-on-dark drawings into dark-on-light."""
    pixel_limit: int = Field(64_000_000, ge=1_000, le=178_000_000)
    """Drawings with more pixels are broken: a small file can unpack to gigabytes."""


class BackboneRecipe(_Section):
    """The frozen network whose features are learnt from."""

    name: str = Field(min_length=1)
    """A timm model, with or without its pretrained tag."""
    weights: str | None = None
    """A .safetensors or .pth file; `untrained` for seeded random weights; None: INKFOLD_WEIGHTS, then the hub."""
    mean: tuple[float, float, float] | None = None
    """Per-channel mean of the input in 0..1; None takes the model's own."""
    std: tuple[float, float, float] | None = None
    """Per-channel standard deviation of the input in 0..1; None takes the model's own."""
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = None
    """How drawings are resized; None takes the model's own."""
    model_args: dict[str, Any] = {}
    """Further arguments of timm's constructor, such as {pad_type: same}."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the forward pass; `auto` takes bfloat16 where the processor has instructions for it."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the backbone runs."""
    batch_size: int | None = Field(None, ge=1, le=4096)
    """Images a forward; None chooses for the device."""

    @field_validator("std")
    @classmethod
    def _std_is_positive(cls, value: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
        if value is not None and min(value) <= 0:
            raise ValueError("every channel's standard deviation must be above 0")
        return value


class LinearHeadRecipe(_Section):
    """Multinomial logistic regression."""

    kind: Literal["linear"] = "linear"
    """This head."""


class MlpHeadRecipe(_Section):
    """A multi-layer perceptron."""

    kind: Literal["mlp"]
    """This head."""
    hidden: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = Field((1024,), min_length=1)
    """Widths of the hidden layers."""
    activation: Literal["relu", "gelu"] = "relu"
    """What follows each hidden layer."""


class StepSchedule(_Section):
    """The rate is multiplied by `gamma` after every `every` epochs (PyTorch's StepLR)."""

    kind: Literal["step"]
    """This schedule."""
    every: int = Field(10, ge=1)
    """Epochs between two steps."""
    gamma: float = Field(0.1, gt=0, le=1)
    """Factor of each step."""


class CosineSchedule(_Section):
    """The rate falls to zero along half a cosine, step by step."""

    kind: Literal["cosine"] = "cosine"
    """This schedule."""


class ConstantSchedule(_Section):
    """The rate stays."""

    kind: Literal["constant"]
    """This schedule."""


class FitRecipe(_Section):
    """How the head is fitted."""

    epochs: int = Field(20, ge=1, le=10_000)
    """Passes over the training drawings."""
    batch_size: int = Field(64, ge=1)
    """Drawings a step."""
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    """SGD has momentum 0.9."""
    lr: float = Field(1e-3, gt=0, le=10)
    """Learning rate at the start."""
    weight_decay: float = Field(0.0, ge=0, le=10)
    """L2 for adam and sgd, decoupled for adamw."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread over all classes."""
    schedule: Annotated[StepSchedule | CosineSchedule | ConstantSchedule, Field(discriminator="kind")] = CosineSchedule()
    """How the rate changes."""
    standardise: bool = False
    """Scale each feature to mean 0 and standard deviation 1 over each member's own training drawings."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the inputs of matrix products; `auto` as for the backbone. Weights and sums stay in float32."""


class FoldsRecipe(_Section):
    """Which drawings are held out."""

    split: Literal["kfold", "holdout"] = "kfold"
    """`kfold`: each drawing is held out once. `holdout`: one part of k is held out, or val/ where the data have it."""
    k: int = Field(5, ge=2, le=100)
    """Number of parts."""
    group_column: str | None = None
    """Column whose equal values stay in one part: who drew it, after which photo."""


class StageRecipe(_Section):
    """Some epochs that learn from one kind of view."""

    until_epoch: int | None = Field(None, ge=1)
    """Its end: the number of epochs that are over then; None is the end of the fit."""
    augment: tuple[str, ...] = ()
    """Operations such as `rotate(15)@0.5`: name, numbers, probability. None: drawings as they are."""
    views: Literal["per_epoch"] | int = "per_epoch"
    """A new view of each drawing in every epoch, or a pool of so many; a forward each, shared by all folds and trials."""
    lr_factor: float = Field(1.0, gt=0, le=100)
    """Of the learning rate in this stage, beside the schedule's."""

    @field_validator("views", mode="before")
    @classmethod
    def _is_a_size(cls, value: Any) -> Any:
        number = int(value) if isinstance(value, str) and value.isdecimal() else value
        if number != "per_epoch" and not (type(number) is int and 1 <= number <= MOST_VIEWS):
            raise ValueError(f"expected per_epoch or the number of views, 1 to {MOST_VIEWS}")
        return number

    @field_validator("augment")
    @classmethod
    def _is_readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(operation) for operation in parse_operations(value))


class Recipe(_Section):
    """A whole run."""

    data: DataRecipe = DataRecipe()
    """What is to be learnt."""
    image: ImageRecipe = ImageRecipe()
    """How drawings become pixels."""
    backbone: BackboneRecipe
    """How pixels become features."""
    head: Annotated[LinearHeadRecipe | MlpHeadRecipe, Field(discriminator="kind")] = LinearHeadRecipe()
    """What is fitted on the features."""
    folds: FoldsRecipe = FoldsRecipe()
    """Which drawings are held out."""
    fit: FitRecipe = FitRecipe()
    """How the head is fitted."""
    curriculum: tuple[StageRecipe, ...] = ()
    """Stages of augmentation; `winner`, or {name: winner, views: 4}, stands for those of 2024. None: drawings as they are."""
    tta: tuple[str, ...] = ()
    """Views whose predictions are averaged, such as [identity, hflip, "hflip + rotate(5,5)"]. None: drawings as they are."""
    seed: int = Field(42, ge=0, le=2**32 - 1)
    """Every random choice comes from it."""

    @model_validator(mode="before")
    @classmethod
    def _expand_shorthands(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping):
            return {key: _named_curriculum(raw) if key == "curriculum" else _expanded(key, value) for key, value in raw.items()}
        return raw

    @field_validator("curriculum", mode="before")
    @classmethod
    def _name_is_known(cls, value: Any) -> Any:
        if isinstance(value, str | Mapping):  # what `_named_curriculum` left
            raise ValueError(f"expected stages, or a name ({', '.join(NAMED_CURRICULA)}), alone or with views and lr_factor")
        return value

    @field_validator("curriculum")
    @classmethod
    def _stages_fill_the_epochs(cls, stages: tuple[StageRecipe, ...], info: ValidationInfo) -> tuple[StageRecipe, ...]:
        if "fit" not in info.data:
            return stages
        epochs: int = info.data["fit"].epochs
        ends = [stage.until_epoch or epochs for stage in stages]
        if ends and (ends != sorted(set(ends)) or ends[-1] != epochs):
            raise ValueError(
                f"its stages end at epochs {ends}, expected rising ends and the last one at fit.epochs, {epochs}. "
                "Change until_epoch or fit.epochs; a named curriculum is stretched to fit"
            )
        return stages

    @field_validator("tta")
    @classmethod
    def _views_are_readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        texts, problems = [], []
        for text in value:
            try:
                texts.append(" + ".join(str(operation) for operation in parse_operations(text)) or "identity")
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))
        return tuple(texts)


NAMED_CURRICULA: dict[str, tuple[tuple[float, tuple[str, ...]], ...]] = {
    # The end of each stage as a share of all epochs, and what is done in it. The winner of 2024: epochs 5, 10 and 20 of 20.
    "winner": (
        (0.25, ()),
        (0.5, ("hflip@0.5", "vflip@0.5", "rotate(10)@0.5")),
        (1.0, ("hflip@0.5", "vflip@0.5", "rotate(15)@0.5", "elastic(30,4)@0.5", "grid(4,0.2)@0.5")),
    ),
}


def load_recipe(source: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        source: A YAML file, or the name of a shipped recipe, such as `cpu-small`.
        overrides: `dotted.key=value`, the value in YAML.

    Returns:
        The validated recipe.

    Raises:
        RecipeError: If the file can't be read, or with all invalid keys and values together.
    """
    path = find_recipe(source)
    raw = _read_yaml(path)
    merge_overrides(raw, overrides)
    return validate_recipe(raw, str(source))


def validate_recipe(raw: Mapping[str, Any], source: str = "recipe") -> Recipe:
    """Turn raw keys into a recipe.

    Args:
        raw: Nested mappings as YAML gives them.
        source: What to name in errors.

    Returns:
        The validated recipe.

    Raises:
        RecipeError: With every problem and its dotted path.
    """
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError([_problem(source, details) for details in error.errors()]) from None


def dump_recipe(recipe: Recipe) -> str:
    """Write the resolved recipe as YAML, every key included, so that defaults that change later don't change it."""
    return yaml.dump(recipe.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def shipped_recipes() -> dict[str, Path]:
    """Name the recipes inside the package, by file name without suffix."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "recipes").glob("*.yaml"))}


def find_recipe(source: str | Path) -> Path:
    """Find a recipe file: as given, or shipped under that name.

    Args:
        source: A path, or a shipped recipe's name with or without `recipes/` and `.yaml`.

    Returns:
        A file that exists.

    Raises:
        RecipeError: If there is neither.
    """
    path = Path(source)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    if path.stem in shipped and path.parent.name in ("", "recipes"):
        return shipped[path.stem]
    raise RecipeError(f"recipe '{source}' is neither a file nor shipped. Shipped ones: {', '.join(shipped)}.")


def merge_overrides(raw: dict[str, Any], overrides: Iterable[str]) -> None:
    """Merge `dotted.key=value` texts into raw keys, the last one winning.

    Args:
        raw: Nested mappings; changed in place.
        overrides: The value is YAML: `fit.lr=3e-4`, `head={kind: mlp}`, `image.size=null`.

    Raises:
        RecipeError: With every text that has no `=`, or whose value is not YAML.
    """
    problems = []
    for text in overrides:
        key, separator, value = text.partition("=")
        try:
            if not separator or not all(key.split(".")):
                raise ValueError("expected key=value, such as fit.lr=3e-4")
            _set_dotted(raw, key.split("."), _value(key, value))
        except (ValueError, yaml.YAMLError) as error:
            problems.append(Problem("override", f"override '{text}'", str(error).replace("\n", " ")))
    if problems:
        raise RecipeError(problems)


class _Dumper(yaml.SafeDumper):
    """PyYAML writes the rarer line breaks plainly, where they are read as spaces: quoted, they are escaped."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = '"' if set(data) & set("\x85\u2028\u2029") else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


_Dumper.add_representer(str, _Dumper.represent_str)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"{path}: not YAML: {error}. Compare it with a shipped recipe.") from None
    if not isinstance(raw, dict):
        raise RecipeError(f"{path}: got {type(raw).__name__}, expected keys such as `backbone: {{name: resnet18}}`.")
    return raw


def _value(key: str, text: str) -> Any:
    """Read a value; a shorthand's is text unless it is a mapping, so that data=2024 is that folder."""
    if key in SHORTHANDS and text and not text.startswith("{"):
        return text
    return yaml.safe_load(text)


def _set_dotted(raw: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        current = _expanded(key, raw.get(key))
        if current is not None and not isinstance(current, dict):
            raise ValueError(f"'{key}' is {current!r}, which has no keys below it")
        raw[key] = dict(current or {})
        raw = raw[key]
    last = keys[-1]
    value = _expanded(last, value)
    if last in SHORTHANDS and len(keys) == 1 and isinstance(raw.get(last), dict):
        value = {**raw[last], **value}
    raw[last] = value


def _expanded(key: str, value: Any) -> Any:
    return {SHORTHANDS[key]: str(value)} if key in SHORTHANDS and isinstance(value, str | int | float) else value


def _named_curriculum(raw: Mapping[str, Any]) -> Any:
    """Put a name's stages in its place, stretched to the epochs; anything else is left for the validation."""
    given = raw["curriculum"]
    wanted = dict(given) if isinstance(given, Mapping) else {"name": given}
    name = wanted.pop("name", None)
    if not isinstance(name, str) or name not in NAMED_CURRICULA or not {*wanted} <= {"views", "lr_factor"}:
        return () if given is None else given
    try:
        epochs = FitRecipe.model_validate(raw.get("fit") or {}).epochs
    except ValidationError:
        return ()  # the fit's own problems are told
    stages = [(round(share * epochs), augment) for share, augment in NAMED_CURRICULA[name]]
    starts = [0, *(end for end, _ in stages)]
    return [
        {"until_epoch": end, **(wanted if augment else {}), "augment": augment}
        for start, (end, augment) in zip(starts, stages, strict=False)
        if end > start
    ]


def _problem(source: str, details: Any) -> Problem:
    path = [str(part) for part in details["loc"]]
    where = f"{source}: {'.'.join(_without_tags(path)) or 'recipe'}"
    if details["type"] == "extra_forbidden":
        known = _known_keys(path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"Did you mean '{near[0]}'?" if near else f"Expected one of: {', '.join(known)}."
        return Problem("recipe", where, f"no such key. {hint}")
    if not path:
        return Problem("recipe", source, f"{details['msg'].removeprefix('Value error, ')}.")
    if details["type"] == "missing":
        return Problem("recipe", where, "is missing. Add it to the recipe or as key=value.")
    if details["type"] == "union_tag_not_found":
        kinds = ", ".join(_BY_KIND[path[-1]])
        return Problem("recipe", where, f"got {details['input']!r} without a kind. Add {path[-1]}.kind: one of {kinds}.")
    return Problem("recipe", where, f"got {details['input']!r}. {details['msg'].removeprefix('Value error, ')}.")


_BY_KIND: dict[str, dict[str, type[BaseModel]]] = {
    "head": {"linear": LinearHeadRecipe, "mlp": MlpHeadRecipe},
    "schedule": {"step": StepSchedule, "cosine": CosineSchedule, "constant": ConstantSchedule},
}


def _without_tags(path: list[str]) -> list[str]:
    """Leave out the kinds that pydantic puts into the path of a tagged union."""
    return [part for before, part in zip(["", *path], path, strict=False) if part not in _BY_KIND.get(before, {})]


_LISTED: dict[str, type[BaseModel]] = {"curriculum": StageRecipe}


def _known_keys(path: list[str]) -> list[str]:
    section: type[BaseModel] = Recipe
    for before, part in zip(["", *path], path, strict=False):
        annotation = section.model_fields[part].annotation if part in section.model_fields else None
        if part in _BY_KIND.get(before, {}):
            section = _BY_KIND[before][part]
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            section = annotation
        elif part in _LISTED:
            section = _LISTED[part]
    return list(section.model_fields)
