"""Turns a recipe into a plan, once: here, and in `run`, recipes stop, and components get their own sections, settled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inkfold.augment.curriculum import Curriculum, Stage
from inkfold.augment.views import View
from inkfold.config.load import load_recipe, merge_overrides, validate_recipe
from inkfold.config.operations import parse_operations
from inkfold.config.recipe import Recipe
from inkfold.config.sections import FinetuneSettings, StageSettings
from inkfold.data.dataset import DataOptions, read_dataset
from inkfold.errors import PredictionError, RecipeError
from inkfold.features.executors import Executor, InlineExecutor
from inkfold.features.extractor import Extractor
from inkfold.models.weights import AUTO, UNTRAINED, choose_backbone, resolve_backbone
from inkfold.pipeline.prepare import ReadData, read_files
from inkfold.pipeline.run import Run, backbone_spec, head_spec, image_options, prediction_views
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.cache import home

if TYPE_CHECKING:
    import torch

    from inkfold.heads.fit import Trial


def settle_recipe(
    recipe: Recipe | Mapping[str, Any] | str | Path, overrides: tuple[str, ...] = (), data: str | Path | None = None
) -> Recipe:
    """Validate a recipe in any of its forms, with the data's folder made absolute and a backbone chosen if it names none.

    Args:
        recipe: A recipe, its raw keys, a YAML file, or a shipped recipe's name.
        overrides: `dotted.key=value`.
        data: The folder of drawings.

    Returns:
        The recipe that the run will hold.

    Raises:
        RecipeError: With every problem.
    """
    if isinstance(recipe, Recipe):
        recipe = recipe.model_dump(mode="json")
    if isinstance(recipe, Mapping):
        raw = dict(recipe)
        merge_overrides(raw, overrides)
        settled = validate_recipe(raw)
    else:
        settled = load_recipe(recipe, overrides)
    root = settled.data.root if data is None else str(data)
    if root is None:
        raise RecipeError("data: is missing. Say where the drawings are: data=DIR.")
    backbone, chosen = settled.backbone, dict[str, str]()
    if backbone.name == AUTO:
        chosen["name"] = choose_backbone()
    if backbone.weights is not None and backbone.weights != UNTRAINED:
        chosen["weights"] = str(Path(backbone.weights).expanduser().absolute())
    settled = settled.model_copy(update={"backbone": backbone.model_copy(update=chosen)})
    return settled.model_copy(update={"data": settled.data.model_copy(update={"root": str(Path(root).absolute())})})


def data_options(recipe: Recipe) -> DataOptions:
    """Put the recipe's section `data` together with its column of groups, as `read_dataset` takes it."""
    return DataOptions(**recipe.data.model_dump(), group_column=recipe.folds.group_column)


def read_again(run: Run, cost: Cost, progress: Progress = silent, data: str | Path | None = None) -> ReadData:
    """Read the files of the data that a run was trained on.

    Args:
        run: A finished run.
        cost: Seconds are added to it.
        progress: Called after each thousand files.
        data: Where the drawings are now, if they have moved.

    Returns:
        The files' digests.

    Raises:
        PredictionError: If the drawings aren't those that the run was trained on.
        DataError: If the data can't be read any more.
    """
    root = str(run.recipe.data.root if data is None else data)
    dataset = read_dataset(root, data_options(run.recipe))
    read = read_files(dataset, None if dataset.test is None else dataset.test.targets, cost, progress)
    if read.fingerprint != run.manifest["data_fingerprint"]:
        raise PredictionError(
            f"{root}: these are not the drawings that {run.path} learnt from: some have changed since, come or gone. "
            "Restore them, say where those are (--data DIR), or train again."
        )
    return read


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What a recipe comes to on this machine: all that its sections leave to the backbone and to the device is settled.

    Attributes:
        recipe: The recipe, as the run holds it.
        device: Device that heads and backbones are trained on.
        extractor: The resolved backbone and image settings, and where features are computed.
        curriculum: View and learning-rate factor of each epoch.
        test_views: Views whose predictions are averaged.
        trial: The head, and how it is trained.
        finetune: Which part of the backbone is trained, and how; None where it is frozen.
    """

    recipe: Recipe
    device: "torch.device"
    extractor: Extractor
    curriculum: Curriculum
    test_views: tuple[View, ...]
    trial: "Trial"
    finetune: FinetuneSettings | None


def build_plan(recipe: Recipe, executor: Executor | None = None) -> TrainingPlan:
    """Settle everything that a recipe leaves open: weights, device, precisions, image size, views; nothing is built yet.

    Args:
        recipe: The recipe, settled.
        executor: Computes features; None computes them in this process.

    Returns:
        The plan of a run.

    Raises:
        RecipeError: If timm has no such backbone, or this machine can't fine-tune as the recipe says.
        WeightsError: If the backbone's weights can't be had.
    """
    from inkfold.models.backbone import choose_device, choose_precision  # noqa: PLC0415 - torch takes a second

    device = choose_device(recipe.backbone.device)
    backbone = resolve_backbone(
        backbone_spec(recipe, choose_precision(recipe.backbone.precision, device)), home() / "backbones"
    )
    image = image_options(recipe, backbone)
    return TrainingPlan(
        recipe=recipe,
        device=device,
        extractor=Extractor(home(), backbone, image, device.type, recipe.backbone.batch_size, executor or InlineExecutor()),
        curriculum=build_curriculum(recipe),
        test_views=prediction_views(recipe),
        trial=build_trial(recipe, device),
        finetune=settle_finetuning(recipe) if recipe.is_finetuned else None,
    )


def build_curriculum(recipe: Recipe) -> Curriculum:
    """Turn the recipe's stages into epochs and views; without stages, one stage of drawings as they are."""
    stages, start = [], 0
    for stage in recipe.curriculum or (StageSettings(),):
        end = stage.until_epoch or recipe.epochs
        pool = None if stage.views == "per_epoch" else stage.views
        stages.append(Stage(end - start, parse_operations(stage.augment), pool, stage.lr_factor))
        start = end
    return Curriculum(stages, recipe.seed)


def build_trial(recipe: Recipe, device: "torch.device") -> "Trial":
    """Put together the recipe's head and how it is trained, the precision settled for a device."""
    from inkfold.heads.fit import Trial  # noqa: PLC0415
    from inkfold.models.backbone import choose_precision  # noqa: PLC0415 - torch takes a second

    precision = choose_precision(recipe.train_head.precision, device)
    return Trial(head_spec(recipe), recipe.train_head.model_copy(update={"precision": precision}))


def settle_finetuning(recipe: Recipe) -> FinetuneSettings:
    """Settle the precision of a recipe's fine-tuning for its device.

    Raises:
        RecipeError: If this machine can't fine-tune as the recipe says.
    """
    from inkfold.models.backbone import choose_device, choose_training_precision  # noqa: PLC0415 - torch takes a second

    if recipe.finetune.part == "lora" and find_spec("peft") is None:
        raise RecipeError("finetune.part: lora needs peft. Install it: pip install 'inkfold[lora]'.")
    precision = choose_training_precision(recipe.finetune.precision, choose_device(recipe.backbone.device))
    return recipe.finetune.model_copy(update={"precision": precision})


def check_options(root: str | Path, settings: Sequence[str]) -> tuple[DataOptions, int]:
    """Read the settings of `inkfold check` by the recipe's own grammar.

    Args:
        root: The folder of drawings.
        settings: `on_broken=skip`, `data.label_column=word`, `folds.group_column=who`, `k=5`.

    Returns:
        The options and the number of folds.

    Raises:
        RecipeError: With every problem.
    """
    sections = {"k": "folds.k", "group_column": "folds.group_column"}
    named = [f"{sections.get(text.partition('=')[0], text.partition('=')[0])}={text.partition('=')[2]}" for text in settings]
    dotted = [text if "." in text.partition("=")[0] else f"data.{text}" for text in named]
    recipe = settle_recipe({"backbone": {"name": "none"}}, tuple(dotted), root)
    return data_options(recipe), recipe.folds.k
