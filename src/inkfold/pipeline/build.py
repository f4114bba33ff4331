"""Turns a recipe into a plan, once: below this package, components take their own sections and no recipe."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inkfold.augment.curriculum import Curriculum, Stage
from inkfold.augment.views import IDENTITY, View
from inkfold.config.load import load_recipe, merge_overrides, validate_recipe
from inkfold.config.operations import parse_operations
from inkfold.config.recipe import Recipe
from inkfold.config.sections import TRAIN_PRIOR, UNIFORM_PRIOR, FinetuneSettings, StageSettings, SubmissionSettings
from inkfold.data.dataset import DataOptions, Dataset, read_dataset
from inkfold.errors import PredictionError, RecipeError
from inkfold.evaluation.scores import Metric, build_metric
from inkfold.features.executors import Executor, InlineExecutor
from inkfold.features.extractor import Extractor
from inkfold.models.weights import AUTO, AUTO_CANDIDATES, UNTRAINED, is_obtainable, resolve_backbone
from inkfold.pipeline.prepare import ReadData, read_files
from inkfold.pipeline.run import Run, backbone_specs, build_extractor, head_spec, prediction_views
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.cache import home

if TYPE_CHECKING:
    import torch

    from inkfold.heads.fit import Trial

log = logging.getLogger("inkfold.pipeline")


def settle_recipe(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    overrides: tuple[str, ...] = (),
    data: str | Path | None = None,
    *,
    leave_backbone: bool = False,
) -> Recipe:
    """Validate a recipe in any of its forms, make its paths absolute, and name a backbone if it names none.

    Args:
        recipe: A recipe, its keys as nested mappings, a YAML file, or a shipped recipe's name.
        overrides: `dotted.key=value`; the last one of a key wins.
        data: The folder of drawings; None takes the recipe's.
        leave_backbone: Whether `backbone.name=auto` stays, for `build_plan` to say what can be compared on the drawings;
            otherwise it becomes the backbone that is taken in doubt.

    Returns:
        The recipe as it is written into the run.

    Raises:
        RecipeError: With every problem of the recipe, or if no folder of drawings is named.
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
    backbone = settled.backbone
    if backbone.name == AUTO and backbone.weights not in (None, UNTRAINED):
        raise RecipeError(f"backbone.weights: {backbone.weights} are weights of a model that backbone.name has to name.")
    beside = tuple(one.model_copy(update={"weights": _absolute(one.weights)}) for one in backbone.beside)
    backbone = backbone.model_copy(update={"weights": _absolute(backbone.weights), "beside": beside})
    data_settings = settled.data.model_copy(
        update={"root": str(Path(root).absolute()), "corrections": _corrections(settled.data.corrections, Path(root))}
    )
    predict = settled.predict
    if predict.prior not in (TRAIN_PRIOR, UNIFORM_PRIOR):
        predict = predict.model_copy(update={"prior": _prior_file(predict.prior, Path(root))})
    settled = settled.model_copy(update={"backbone": backbone, "data": data_settings, "predict": predict})
    return settled if leave_backbone else name_backbone(settled, _in_doubt(settled))


def name_backbone(recipe: Recipe, name: str) -> Recipe:
    """Name the backbone of a recipe that leaves it open; a recipe that names one stays as it is."""
    backbone = recipe.backbone
    return (
        recipe if backbone.name != AUTO else recipe.model_copy(update={"backbone": backbone.model_copy(update={"name": name})})
    )


def _in_doubt(recipe: Recipe) -> str:
    """Return the backbone that a recipe gets without a comparison: the first that doesn't stand beside it already."""
    taken = {one.name for one in recipe.backbone.beside}
    return next((name for name in AUTO_CANDIDATES if name not in taken), AUTO_CANDIDATES[0])


def _rival(recipe: Recipe) -> Recipe | None:
    """Return the recipe with the other backbone of `auto` where it can be had; None if nothing is to be compared.

    Backbones to be fine-tuned aren't compared: frozen, they don't show what they are worth then.
    """
    backbone = recipe.backbone
    if backbone.name != AUTO or backbone.weights is not None or backbone.beside or recipe.is_finetuned:
        return None
    other = AUTO_CANDIDATES[1]
    return name_backbone(recipe, other) if is_obtainable(other) else None


def _absolute(weights: str | None) -> str | None:
    """Make the path of a weights file absolute."""
    return weights if weights in (None, UNTRAINED) else str(Path(str(weights)).expanduser().absolute())


def _corrections(file: str | None, root: Path) -> str | None:
    """Find a table of corrections: below the data's root like its other tables, else from where the command is run."""
    base = root.parent if root.is_file() else root
    if file is None or (base / file).is_file() or not Path(file).expanduser().is_file():
        return file
    return str(Path(file).expanduser().absolute())


def _prior_file(file: str, root: Path) -> str:
    """Find a table of shares below the data's root, else from where the command is run; name the first place if in neither."""
    below = (root.parent if root.is_file() else root) / file
    elsewhere = Path(file).expanduser()
    return str((elsewhere if elsewhere.is_file() and not below.is_file() else below).absolute())


def data_options(recipe: Recipe, *, with_submission: bool = True) -> DataOptions:
    """Combine the recipe's section `data` with its column of groups and its section `submission`, for `read_dataset`.

    Args:
        recipe: A validated recipe; its section `image` may leave things open.
        with_submission: Whether a submission will be written; otherwise no sample submission is read.
    """
    submission = recipe.submission if with_submission else SubmissionSettings(sample="none")
    return DataOptions(**recipe.data.model_dump(), **_group_options(recipe), submission=submission)


def _group_options(recipe: Recipe) -> dict[str, Any]:
    return {**recipe.folds.model_dump(include={"group_column", "group_pattern"}), "num_folds": recipe.folds.k}


def dataset_again(run: Run, data: str | Path | None = None) -> Dataset:
    """Read the tables or folders that a run was trained on, with the decisions on labels as they were then.

    Args:
        run: A finished run; its recipe says where its drawings lay and how they were read.
        data: The folder where the drawings are now; None if they haven't moved.

    Raises:
        DataError: If the data can't be read any more.
    """
    options = data_options(run.recipe, with_submission=False).model_copy(update={"corrections": run.files.corrections})
    return read_dataset(str(run.recipe.data.root if data is None else data), options)


def read_again(run: Run, cost: Cost, progress: Progress = silent, data: str | Path | None = None) -> ReadData:
    """Read the files of the drawings that a run was trained on.

    Args:
        run: A finished run; its recipe says where its drawings lay and how they were read.
        cost: Seconds are added to it.
        progress: Called after each thousand files.
        data: The folder where the drawings are now; None if they haven't moved.

    Returns:
        The data set and its files.

    Raises:
        PredictionError: If the drawings aren't those that the run was trained on.
        DataError: If the data can't be read any more.
    """
    root = str(run.recipe.data.root if data is None else data)
    read = read_files(dataset_again(run, data), cost, progress)
    if read.fingerprint != run.manifest["data_fingerprint"]:
        raise PredictionError(
            f"{root}: these are not the drawings that {run.path} was trained on: some were changed, added or removed. "
            "Restore them, name the folder that has them (--data DIR), or train again."
        )
    return read


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """A recipe on this machine: what its settings leave open (`auto`, None) is chosen.

    Attributes:
        recipe: The recipe as it is written into the run.
        device: Device that heads and backbones are trained on.
        extractor: Computes features: the resolved backbone, the image options and the executor.
        curriculum: View and learning-rate factor of each epoch.
        test_views: Views whose predictions are averaged; at least one.
        trial: The kind of head, and how it is trained.
        finetune: Settings of the fine-tuning; None if the backbone stays frozen.
        rival: The recipe with another backbone, which is to be compared with this one; None if the backbone is decided.
    """

    recipe: Recipe
    device: "torch.device"
    extractor: Extractor
    curriculum: Curriculum
    test_views: tuple[View, ...]
    trial: "Trial"
    finetune: FinetuneSettings | None
    rival: Recipe | None = None

    @property
    def propagates(self) -> bool:
        """Whether label propagation over the test drawings is tried, which needs the features of drawings as they are."""
        return self.recipe.predict.transductive == "propagate"

    @property
    def needed_test_views(self) -> tuple[View, ...]:
        """Views under which features of the test drawings are needed."""
        return tuple(dict.fromkeys((*self.test_views, IDENTITY))) if self.propagates else self.test_views


def build_plan(recipe: Recipe, executor: Executor | None = None) -> TrainingPlan:
    """Choose what a recipe leaves open: weights, device, precisions, image size, views. No network is built yet.

    Args:
        recipe: A recipe as `settle_recipe` returns it: with absolute paths, its backbone named or left open.
        executor: Computes features; None computes them in this process.

    Returns:
        The plan of a run.

    Raises:
        RecipeError: If timm has no such backbone, or this machine can't fine-tune as the recipe says.
        WeightsError: If the backbone's weights can't be had.
    """
    from inkfold.models.backbone import choose_device, choose_precision  # noqa: PLC0415 - torch takes a second

    rival, recipe = _rival(recipe), name_backbone(recipe, _in_doubt(recipe))
    device = choose_device(recipe.backbone.device)
    precision = choose_precision(recipe.backbone.precision, device)
    backbones = [resolve_backbone(spec, home() / "backbones") for spec in backbone_specs(recipe, precision)]
    extractor = build_extractor(recipe, backbones, device.type, executor or InlineExecutor())
    for part in extractor.parts:
        facts = (part.backbone.title, device, precision, part.image.size_px, recipe.head.kind)
        log.info("plan: %s on %s in %s, drawings of %d px, head %s", *facts)
    return TrainingPlan(
        recipe=recipe,
        device=device,
        extractor=extractor,
        curriculum=build_curriculum(recipe),
        test_views=prediction_views(recipe),
        trial=build_trial(recipe, device),
        finetune=settle_finetuning(recipe) if recipe.is_finetuned else None,
        rival=rival,
    )


def build_curriculum(recipe: Recipe) -> Curriculum:
    """Turn the recipe's stages into a curriculum; without stages, all epochs train on drawings as they are."""
    stages, start = [], 0
    for stage in recipe.curriculum or (StageSettings(),):
        end = stage.until_epoch or recipe.epochs
        pool = None if stage.views == "per_epoch" else stage.views
        stages.append(Stage(end - start, parse_operations(stage.augment), pool, stage.lr_factor))
        start = end
    return Curriculum(stages, recipe.seed)


def build_trial(recipe: Recipe, device: "torch.device") -> "Trial":
    """Combine the recipe's head and its training's settings, with the precision chosen for a device."""
    from inkfold.heads.fit import Trial  # noqa: PLC0415
    from inkfold.models.backbone import choose_precision  # noqa: PLC0415 - torch takes a second

    precision = choose_precision(recipe.train_head.precision, device)
    return Trial(head_spec(recipe), recipe.train_head.model_copy(update={"precision": precision}))


def settle_finetuning(recipe: Recipe) -> FinetuneSettings:
    """Return the settings of a recipe's fine-tuning, with the precision chosen for its device.

    Raises:
        RecipeError: If this machine can't fine-tune as the recipe says.
    """
    from inkfold.models.backbone import choose_device, choose_training_precision  # noqa: PLC0415 - torch takes a second

    if recipe.finetune.part == "lora" and find_spec("peft") is None:
        raise RecipeError("finetune.part: lora needs peft. Install it: pip install 'inkfold[lora]'.")
    precision = choose_training_precision(recipe.finetune.precision, choose_device(recipe.backbone.device))
    return recipe.finetune.model_copy(update={"precision": precision})


def check_options(root: str | Path | None, settings: Sequence[str]) -> tuple[DataOptions, int]:
    """Read the settings of `inkfold check`, which are a recipe's; those of the section `data` may omit its name.

    Args:
        root: The folder of drawings, or a table in it; None takes the settings' `data.root`.
        settings: Such as `on_broken=skip`, `data.label_column=word`, `folds.group_column=who`, `k=5`.

    Returns:
        The options of the data, and the number of folds.

    Raises:
        RecipeError: With every problem of the settings.
    """
    overrides = []
    for setting in settings:
        key, _, value = setting.partition("=")
        section = "folds." if key in ("k", "group_column", "group_pattern") else "" if "." in key else "data."
        overrides.append(f"{section}{key}={value}")
    recipe = settle_recipe({"backbone": {"name": "none"}}, tuple(overrides), root)
    return data_options(recipe), recipe.folds.k


def metric_of(recipe: Recipe, dataset: Dataset) -> Metric:
    """Build the recipe's metric for the classes of a data set.

    Raises:
        RecipeError: If the metric doesn't suit the classes: too few for its K, or in no order.
    """
    return build_metric(recipe.metric, dataset.class_names, dataset.class_targets, numbered=dataset.numbered)
