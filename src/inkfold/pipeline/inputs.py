"""Everything that heads are trained on and predict: decoded drawings, folds, features under every view."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from inkfold.augment.views import IDENTITY
from inkfold.config.recipe import Recipe
from inkfold.data.splits import assign_folds
from inkfold.errors import DataError
from inkfold.features.extractor import ViewFeatures
from inkfold.heads.training_set import AugmentedFeatures, TrainingSet
from inkfold.pipeline.build import TrainingPlan
from inkfold.pipeline.out_of_fold import FoldFeatures, features_by_fold
from inkfold.pipeline.prepare import Prepared, ReadData, decode, find_seen, group_duplicates
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress


@dataclass(frozen=True, slots=True)
class TrainingInputs:
    """Everything that heads are trained on and predict.

    Attributes:
        plan: The run's plan.
        prepared: The drawings.
        features: Features of the training drawings under every view.
        test_features: Features of the test drawings that can be read; None without any.
    """

    plan: TrainingPlan
    prepared: Prepared
    features: ViewFeatures
    test_features: ViewFeatures | None

    def features_by_fold(
        self, files: Sequence[str], folds: Bool[np.ndarray, "folds n"], out: Path, *, cost: Cost, progress: Progress
    ) -> FoldFeatures:
        """Compute each fold's features by its own fine-tuned backbone, in the way that new drawings' will be computed.

        Args:
            files: Each fold's file of changes to the backbone, below the run's directory.
            folds: True where a fold trained on a drawing.
            out: The run's directory.
            cost: Forward passes and seconds are added to it.
            progress: Called after each batch.

        Returns:
            The features that each fold's head predicts from.
        """
        extractor, out = self.plan.extractor, out.absolute()  # other machines' processes run in other directories
        extractors = [replace(extractor, backbone=extractor.backbone.tuned(out / name)) for name in files]
        views = tuple(dict.fromkeys((IDENTITY, *self.plan.test_views)))
        return features_by_fold(extractors, self.prepared, folds, views, cost, progress)


def prepare_inputs(plan: TrainingPlan, read: ReadData, cost: Cost, progress: Progress) -> TrainingInputs:
    """Decode drawings and compute the features of all views that a plan trains on and predicts by.

    Args:
        plan: The plan; of a backbone that is fine-tuned, drawings as they are suffice, since it sees the other views by itself.
        read: The drawings' files.
        cost: Forward passes and seconds are added to it.
        progress: Called as each stage advances.

    Returns:
        The features, in the bank.

    Raises:
        DataError: If drawings can't be read.
        WeightsError: If the backbone's weights can't be had.
        RecipeError: If the backbone can't be trained as the recipe says.
    """
    recipe, extractor, frozen = plan.recipe, plan.extractor, plan.finetune is None
    if plan.finetune is not None:
        from inkfold.finetune.network import check_trainable  # noqa: PLC0415 - torch takes a second

        check_trainable(extractor.backbone, plan.finetune)
    views = tuple(dict.fromkeys((IDENTITY, *plan.curriculum.views(), *plan.test_views))) if frozen else (IDENTITY,)
    prepared = decode(
        read, extractor, recipe.data.on_broken, cost, progress, views=views, test_views=plan.test_views, pixels=not frozen
    )
    signatures, weights = extractor.signatures(), extractor.backbone.weights_file
    if recipe.folds.group_duplicates:
        prepared = group_duplicates(prepared, signatures, cost, progress)
    prepared = find_seen(prepared, None if weights is None else Path(weights), signatures, cost, progress)
    features, test_features = extractor.extract(prepared.digests, cost, progress, views), None
    if frozen and prepared.test_digests is not None and len(prepared.test_digests):
        test_features = extractor.extract(prepared.test_digests, cost, progress, plan.test_views)
    return TrainingInputs(plan, prepared, features, test_features)


def assign_to_folds(recipe: Recipe, prepared: Prepared, *, grouped: bool = True) -> Bool[np.ndarray, "folds n"]:
    """Divide the training drawings into parts, each of which one fold holds out.

    Args:
        recipe: With the kind of split; `holdout` holds out part 0, or val/ where the data have it.
        prepared: The drawings.
        grouped: Whether copies of one drawing stay together, where they were searched for.

    Returns:
        True where a fold's heads train on a drawing.

    Raises:
        DataError: If a fold would have nothing to train on, or nothing is held out.
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


def build_training_set(inputs: TrainingInputs, folds: Bool[np.ndarray, "folds n"]) -> TrainingSet:
    """Put together what heads are trained on.

    Args:
        inputs: Features under every view.
        folds: True where a fold's heads train on a drawing.

    Returns:
        The training set, with the curriculum's view for each epoch; of a backbone that is fine-tuned, whose own training the
        curriculum is for, drawings as they are.
    """
    features, curriculum, prepared = inputs.features, inputs.plan.curriculum, inputs.prepared
    augmented = None
    if inputs.plan.finetune is None:
        augmented = AugmentedFeatures(lambda epoch: features.read(curriculum.view(epoch)), curriculum.lr_factors())
    classes = len(prepared.read.dataset.class_names)
    return TrainingSet(features.read(), prepared.targets, folds, classes, inputs.plan.recipe.seed, augmented)
