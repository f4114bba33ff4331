"""Everything that a recipe's heads are fitted on and asked about: decoded drawings, folds, features under every view."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool

from inkfold.augment.curriculum import Curriculum
from inkfold.augment.views import IDENTITY, View
from inkfold.config.recipe import Recipe
from inkfold.data.splits import assign_folds
from inkfold.errors import DataError
from inkfold.features.executors import Executor
from inkfold.features.extractor import Extractor, ViewFeatures
from inkfold.pipeline.build import build_curriculum, build_extractor, finetune_settings
from inkfold.pipeline.prepare import Prepared, ReadData, decode, find_seen, group_duplicates
from inkfold.pipeline.run import load_run, prediction_views
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress

if TYPE_CHECKING:
    from inkfold.finetune.distillation import Teacher
    from inkfold.heads.fit_group import TrainingSet


@dataclass(frozen=True, slots=True)
class TrainingInputs:
    """Everything that heads are fitted on and asked about.

    Attributes:
        extractor: What made the features.
        curriculum: Which view each epoch learns from.
        test_views: Whose predictions are averaged.
        prepared: The drawings.
        features: Of the training drawings under every view.
        test_features: Of the test drawings that can be read; None without any.
    """

    extractor: Extractor
    curriculum: Curriculum
    test_views: tuple[View, ...]
    prepared: Prepared
    features: ViewFeatures
    test_features: ViewFeatures | None


def prepare_inputs(recipe: Recipe, read: ReadData, cost: Cost, progress: Progress, launcher: Executor) -> TrainingInputs:
    """Decode drawings and compute the features of all views that a recipe learns from and predicts by.

    Args:
        recipe: With its image, backbone, curriculum and test-time views.
        read: The drawings' files.
        cost: Added to.
        progress: Told how far each stage is.
        launcher: Who computes features.

    Returns:
        The features, in the bank.

    Raises:
        DataError: If drawings can't be read.
        WeightsError: If the backbone's weights can't be had.
        RecipeError: If the backbone can't be trained as the recipe says.
    """
    with cost.timed("backbone"):
        extractor = replace(build_extractor(recipe), launcher=launcher)
    if recipe.is_finetuned:
        _check_trainable(recipe, extractor)
    curriculum, test_views = build_curriculum(recipe), prediction_views(recipe)
    views, frozen = tuple(dict.fromkeys((IDENTITY, *curriculum.views(), *test_views))), not recipe.is_finetuned
    if not frozen:  # the head starts on drawings as they are, and the trained network will see all others by itself
        views = (IDENTITY,)
    prepared = decode(
        read, extractor, recipe.data.on_broken, cost, progress, views=views, test_views=test_views, pixels=not frozen
    )
    signatures, weights = extractor.signatures(), extractor.backbone.weights_file
    if recipe.folds.group_duplicates:
        prepared = group_duplicates(prepared, signatures, cost, progress)
    prepared = find_seen(prepared, None if weights is None else Path(weights), signatures, cost, progress)
    features = extractor.extract(prepared.digests, cost, progress, views)
    test_features = None
    if frozen and prepared.test_digests is not None and len(prepared.test_digests):
        test_features = extractor.extract(prepared.test_digests, cost, progress, test_views)
    return TrainingInputs(extractor, curriculum, test_views, prepared, features, test_features)


def _check_trainable(recipe: Recipe, extractor: Extractor) -> None:
    from inkfold.finetune.network import check_trainable  # noqa: PLC0415 - torch takes a second

    check_trainable(extractor.backbone, finetune_settings(recipe))


def assign_to_folds(recipe: Recipe, prepared: Prepared, *, grouped: bool = True) -> Bool[np.ndarray, "folds n"]:
    """Deal the training drawings into parts, and give each fold all but its own.

    Args:
        recipe: With the kind of split; `holdout` holds out part 0, or val/ where the data have it.
        prepared: The drawings.
        grouped: Whether copies of one drawing stay together, where they were looked for.

    Returns:
        True where a fold's heads learn from a drawing.

    Raises:
        DataError: If a fold would have nothing to learn from, or nothing is held out.
    """
    train, holdout = prepared.read.dataset.train, recipe.folds.split == "holdout"
    if holdout and train.given_val is not None:
        parts = np.where(train.given_val[prepared.rows], 0, 1)
    else:
        groups = prepared.groups if grouped else prepared.named_groups
        parts = assign_folds(prepared.targets, prepared.digests, recipe.folds.k, recipe.seed, groups)
    folds = np.stack([parts != fold for fold in range(1 if holdout else recipe.folds.k)])
    if folds.all() or not folds.any(1).all():
        what = "no drawing is held out" if folds.all() else "all drawings are held out at once, so none is learnt from"
        raise DataError(f"{prepared.read.dataset.root}: {what}. Add drawings or groups, or choose another folds.split.")
    return folds


def build_training_set(recipe: Recipe, material: TrainingInputs, folds: Bool[np.ndarray, "folds n"]) -> "TrainingSet":
    """Turn the material into what heads are fitted on.

    Args:
        recipe: Its seed.
        material: Features under every view.
        folds: True where a fold's heads learn from a drawing.

    Returns:
        The lessons, with the curriculum's view for each epoch.
    """
    from inkfold.heads.fit_group import AugmentedFeatures, TrainingSet  # noqa: PLC0415 - torch takes a second

    features, curriculum = material.features, material.curriculum
    schooling = AugmentedFeatures(lambda epoch: features.read(curriculum.view(epoch)), curriculum.lr_factors())
    classes = len(material.prepared.read.dataset.class_names)
    return TrainingSet(features.read(), material.prepared.targets, folds, classes, recipe.seed, schooling)


def teacher_relations(recipe: Recipe, material: TrainingInputs, cost: Cost, progress: Progress) -> "Teacher | None":
    """Compute what a teacher says of the training drawings, under every view that is learnt from.

    Args:
        recipe: With the teacher: a finished run, which teaches by its backbone, or by its first fold's where each has its own.
        material: The drawings and the curriculum.
        cost: Added to.
        progress: Told of each batch or cell.

    Returns:
        Its features, in the bank; None where the recipe names no teacher.

    Raises:
        PredictionError: If the teacher is no finished run.
        WeightsError: If its backbone's weights can't be had.
    """
    from inkfold.finetune.distillation import Teacher  # noqa: PLC0415 - torch takes a second

    if recipe.finetune.teacher is None:
        return None
    seer = load_run(recipe.finetune.teacher).seers()[0][0]
    extractor, prepared, views = (
        replace(seer, launcher=material.extractor.launcher),
        material.prepared,
        material.curriculum.views(),
    )
    with cost.timed("teacher"):
        extractor.decode(prepared.read.train, cost, progress, views)  # what is broken has been told by now
        features = extractor.extract(prepared.digests, cost, progress, views)
    key = {"backbone": extractor.backbone.key(), "image": extractor.image.key()}
    return Teacher(key, features, recipe.finetune.teacher_weight)
