"""Puts together what heads are trained on and predict: decoded drawings, features under every view, folds."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Bool

from inkfold.augment.views import IDENTITY
from inkfold.config.recipe import Recipe
from inkfold.data.duplicates import Match
from inkfold.data.seen import seen_list_file
from inkfold.data.splits import Folds, assign_folds
from inkfold.errors import DataError
from inkfold.features.extractor import ViewFeatures
from inkfold.heads.training_set import AugmentedFeatures, TrainingSet
from inkfold.pipeline.backbone_choice import BackboneChoice, choose_backbone
from inkfold.pipeline.build import TrainingPlan, build_plan
from inkfold.pipeline.leaks import find_test_copies
from inkfold.pipeline.out_of_fold import FoldFeatures, features_by_fold
from inkfold.pipeline.prepare import Needed, Prepared, ReadData, decode, find_seen, group_duplicates, note_limit
from inkfold.pipeline.reading import Reading, choose_reading
from inkfold.pipeline.shared import SharedInputs
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress
from inkfold.storage.hashing import digest, key_digest

log = logging.getLogger("inkfold.pipeline")

Together: TypeAlias = Literal["groups", "copies", "files"]  # what stays in one fold


@dataclass(frozen=True, slots=True)
class TrainingInputs:
    """Drawings and features that heads are trained on and predict.

    Attributes:
        plan: The run's recipe with everything chosen that it leaves open.
        prepared: The drawings, decoded and sorted by content; rows of `features` have their order.
        features: Features of the training drawings under every view.
        test_features: Features of the test drawings that can be read; None if there are none or backbones are fine-tuned.
        reading: How pages are read, and why; None where the recipe leaves nothing of it open.
        backbone: Which backbone was taken, and why; None where the recipe names it or there was no other.
        test_copies: Matches of a training drawing, `first`, with a test drawing, `second`, that is its copy.
    """

    plan: TrainingPlan
    prepared: Prepared
    features: ViewFeatures
    test_features: ViewFeatures | None
    reading: Reading | None = None
    backbone: BackboneChoice | None = None
    test_copies: Sequence[Match] = ()

    def features_by_fold(
        self, files: Sequence[str], folds: Folds, out: Path, *, cost: Cost, progress: Progress
    ) -> FoldFeatures:
        """Compute each fold's features by its own fine-tuned backbone, as those of new drawings will be computed.

        Args:
            files: Each fold's file of changes to the backbone, relative to the run's directory.
            folds: Which drawings each fold held out.
            out: The run's directory, in which `files` lie.
            cost: Forward passes and seconds are added to it.
            progress: Called after each batch.

        Returns:
            The features that each fold's head predicts from.
        """
        extractor = self.plan.extractor
        paths = [out.absolute() / name for name in files]  # processes of other machines run in other directories
        extractors = [replace(extractor, backbone=extractor.backbone.tuned(path)) for path in paths]
        views = tuple(dict.fromkeys((IDENTITY, *self.plan.test_views)))
        return features_by_fold(extractors, self.prepared, folds, views, cost, progress, trained_on=self.plan.propagates)


def prepare_inputs(
    plan: TrainingPlan,
    read: ReadData,
    cost: Cost,
    progress: Progress,
    *,
    compare_readings: bool = True,
    compared: Callable[[Prepared], Bool[np.ndarray, " n"]] | None = None,
    shared: SharedInputs | None = None,
) -> TrainingInputs:
    """Decode the drawings, and compute their features under all views that a plan needs.

    Features of a backbone that will be fine-tuned are computed of drawings as they are only: its training renders the other
    views itself.

    Args:
        plan: The run's recipe with everything chosen that it leaves open.
        read: The data set and its files.
        cost: Forward passes and seconds are added to it.
        progress: Called as each stage advances.
        compare_readings: Whether what the recipe leaves open of how pages are read is decided by comparing; otherwise pages are
            cropped to the ink, and photographed ones are flattened.
        compared: Returns True for the training drawings on which that is decided; None decides it on all of them.
        shared: Keeps copies and the choice of reading for other plans on the same data; None keeps nothing.

    Returns:
        The drawings and their features, which are in the bank.

    Raises:
        DataError: If drawings can't be read.
        WeightsError: If the backbone's weights can't be had.
        RecipeError: If the backbone can't be trained as the recipe says.
    """
    recipe, extractor = plan.recipe, plan.extractor
    frozen = plan.finetune is None
    if plan.finetune is not None:
        from inkfold.finetune.network import check_trainable  # noqa: PLC0415 - torch takes a second

        check_trainable(extractor.backbone, plan.finetune)
    needed = _needed(plan, _weights_files(plan))
    prepared = decode(read, extractor, recipe.data, cost, progress, needed)

    shared = shared or SharedInputs()
    prepared, test_copies = _with_copies(plan, prepared, shared, cost, progress)

    reading = None
    if compare_readings and "auto" in (recipe.image.resize, recipe.image.paper):
        usable = None if compared is None else compared(prepared)
        key = key_digest({**_reading_key(plan, prepared), "usable": None if usable is None else digest(usable.tobytes())})
        reading = shared.once("reading", key, lambda: choose_reading(plan, prepared, cost, progress, usable))
        if reading.image != extractor.image:
            plan = replace(plan, extractor=extractor.read_as(reading.image))
            extractor = plan.extractor
            decode(read, extractor, recipe.data, cost, progress, needed)

    backbone = None
    if plan.rival is not None:
        rival = _rival_plan(plan)
        key = key_digest({**_reading_key(plan, prepared), "rival": rival.extractor.backbone.key()})
        backbone = shared.once("backbone", key, lambda: choose_backbone(plan, rival, prepared, cost, progress))
        if backbone.name == rival.recipe.backbone.name:
            inputs = prepare_inputs(rival, read, cost, progress, compare_readings=False, shared=shared)
            return replace(inputs, reading=reading, backbone=backbone)

    features = extractor.extract(prepared.digests, cost, progress, needed.views)
    test_features = None
    if frozen and prepared.test_digests is not None:
        test_features = extractor.extract(prepared.test_digests, cost, progress, plan.needed_test_views)
    return TrainingInputs(plan, prepared, features, test_features, reading, backbone, test_copies)


def _rival_plan(plan: TrainingPlan) -> TrainingPlan:
    """Plan the training of the other backbone, which reads pages in the same way."""
    assert plan.rival is not None
    rival = build_plan(plan.rival, plan.extractor.executor)
    return replace(rival, extractor=rival.extractor.read_as(plan.extractor.image))


def prepare_drawings(
    plan: TrainingPlan, read: ReadData, cost: Cost, progress: Progress, shared: SharedInputs | None = None
) -> Prepared:
    """Decode the drawings, and find copies among them and those that the backbone was pretrained on; no features.

    Args:
        plan: The run's recipe with everything chosen that it leaves open.
        read: The data set and its files.
        cost: Decoded drawings and seconds are added to it.
        progress: Called as each stage advances.
        shared: Keeps copies for plans on the same data; None keeps nothing.

    Returns:
        The drawings that can be used, the training drawings sorted by content.

    Raises:
        DataError: If drawings can't be read.
    """
    prepared = decode(read, plan.extractor, plan.recipe.data, cost, progress, _needed(plan, _weights_files(plan)))
    return _with_copies(plan, prepared, shared or SharedInputs(), cost, progress)[0]


def _with_copies(
    plan: TrainingPlan, prepared: Prepared, shared: SharedInputs, cost: Cost, progress: Progress
) -> tuple[Prepared, list[Match]]:
    """Find copies among the training drawings, those that the backbone was pretrained on, and test drawings' copies."""
    extractor, key = plan.extractor, drawings_key(plan.recipe, prepared)
    most = plan.recipe.folds.copy_pairs
    stores = extractor.copy_stores() if plan.recipe.folds.group_duplicates else None
    if stores is not None:
        grouped = shared.once("copies", key, lambda: group_duplicates(prepared, stores, cost, progress, most))
        prepared = replace(prepared, duplicates=grouped.duplicates, matches=grouped.matches, copy_notes=grouped.copy_notes)
    if weights := _weights_files(plan):
        of_weights = key_digest({"drawings": key, "files": [str(file) for file in weights]})
        prepared = replace(prepared, seen=shared.once("seen", of_weights, lambda: _seen_by(plan, prepared, cost, progress)))
    search = shared.once("test copies", key, lambda: find_test_copies(prepared, stores, cost, progress, most))
    notes = (*prepared.copy_notes, *note_limit(search, "the test drawings"))
    return replace(prepared, copy_notes=notes), search.matches


def drawings_key(recipe: Recipe, prepared: Prepared) -> str:
    """Return the digest of all that decides which drawings are used, which belong together, and how they are divided."""
    return key_digest(
        {
            "data": prepared.read.fingerprint,
            "options": recipe.data.model_dump(mode="json"),
            "folds": recipe.folds.model_dump(mode="json"),
            "seed": recipe.seed,
            "train": digest(prepared.rows.tobytes()),
            "test": None if prepared.test_whole is None else digest(prepared.test_whole.tobytes()),
        }
    )


def _reading_key(plan: TrainingPlan, prepared: Prepared) -> dict[str, Any]:
    """Describe all that decides the choice of how pages are read."""
    return {
        "drawings": drawings_key(plan.recipe, prepared),
        "backbone": plan.extractor.backbone.key(),
        "image": plan.extractor.image.model_dump(mode="json"),
        "open": plan.recipe.image.model_dump(mode="json"),
        "device": [str(plan.device), plan.extractor.device, plan.extractor.batch_size],
    }


def _seen_by(plan: TrainingPlan, prepared: Prepared, cost: Cost, progress: Progress) -> Bool[np.ndarray, " n"] | None:
    """Find the drawings that some backbone of a plan was pretrained on; None where none says so."""
    prepared = replace(prepared, seen=None)
    for file in _weights_files(plan):
        prepared = find_seen(prepared, file, plan.extractor.signatures(), cost, progress)
    return prepared.seen


def _weights_files(plan: TrainingPlan) -> list[Path]:
    return [Path(part.backbone.weights_file) for part in plan.extractor.parts if part.backbone.weights_file is not None]


def _needed(plan: TrainingPlan, weights: Sequence[Path]) -> Needed:
    """Say what a plan needs of the drawings, given the files of the backbones' weights."""
    frozen, grouped = plan.finetune is None, plan.recipe.folds.group_duplicates
    views = tuple(dict.fromkeys((IDENTITY, *plan.curriculum.views(), *plan.test_views))) if frozen else (IDENTITY,)
    signed = grouped or any(seen_list_file(file).is_file() for file in weights)
    return Needed(views, plan.needed_test_views, pixels=not frozen, signatures=signed, copies=grouped)


def assign_to_folds(recipe: Recipe, prepared: Prepared, together: Together = "groups") -> Folds:
    """Divide the training drawings into parts, each of which one fold holds out.

    Args:
        recipe: Names the split; `holdout` holds out part 0 of k, or val/ where the data have it; with `parts`, the first
            ones are held out, each as beside all others.
        prepared: The drawings, decoded, with their groups; the result has the order of the training drawings.
        together: What stays in one part: `groups`, where there are any, else copies; `copies`, as if there were no groups; or
            only `files` of equal bytes, and then copies of held-out drawings are trained on.

    Returns:
        What each fold trains on and holds out.

    Raises:
        DataError: If a fold would have nothing to train on, or nothing is held out.
    """
    dataset, split, k = prepared.read.dataset, recipe.folds.split, recipe.folds.k
    own_val = dataset.train.given_val if split == "holdout" else None
    if own_val is not None:
        log.info("split holdout: the data's own val/ is held out")
        parts = np.where(own_val[prepared.rows], 0, 1)
    else:
        units = {"groups": prepared.units, "copies": prepared.copies.units}
        _log_split(recipe, prepared, together)
        groups = units[together](k) if together != "files" else None
        parts = assign_folds(prepared.targets, prepared.digests, k, recipe.seed, groups)
    held_out = np.stack([parts == fold for fold in range(1 if split == "holdout" else k)])
    folds = Folds.of(~held_out) if together == "files" else prepared.copies.leave_out(held_out, k, prepared.targets)
    if recipe.folds.is_partial:
        folds = folds.first(recipe.folds.held_out_parts)
        held_out = folds.held_out
    if not held_out.any() or not folds.trained_on.any(1).all():
        problem = "all drawings, or copies of them, are held out at once, so none is left to train on"
        problem = problem if held_out.any() else "no drawing is held out"
        advice = "Add drawings or groups, or choose another folds.split."
        named = prepared.named_groups if own_val is None and together == "groups" else None
        if named is not None and len(np.unique(named)) == 1 and dataset.grouping is not None:
            problem = f"all {len(named):,} drawings are in one group, {str(named[0])!r}, by `{dataset.grouping.key}`; {problem}"
            advice = "Name groups of which there are several, or none: `folds.group_pattern=none`."
        raise DataError(f"{dataset.root}: {problem}. {advice}")
    if folds.purged.any():
        log.info("copies of held-out drawings are left out of training: %s, by fold", folds.purged.tolist())
    return folds


def _log_split(recipe: Recipe, prepared: Prepared, together: Together) -> None:
    """Log the kind of split, and what stays together in it."""
    split, k = recipe.folds.split, recipe.folds.k
    kept = "groups" if together == "groups" and prepared.named_groups is not None else "files of equal bytes"
    kept += ", copies of a drawing" if together != "files" and kept != "groups" and prepared.duplicates is not None else ""
    count = recipe.folds.held_out_parts
    held_out = f"each of {k} parts is held out by one fold" if count == k else f"{count} of {k} parts are held out"
    held_out = f"one of {k} parts is held out" if count == 1 else held_out
    log.info("split %s: %s; %s stay in one part", split, held_out, kept)


def build_training_set(inputs: TrainingInputs, folds: Folds) -> TrainingSet:
    """Put together what heads are trained on.

    Args:
        inputs: Drawings and their features under every view.
        folds: Which drawings each fold's heads train on, and which it holds out.

    Returns:
        The training set, with the features of the curriculum's view for each epoch. Without them where the backbone is
        fine-tuned: the curriculum is for that training.
    """
    features, curriculum, prepared = inputs.features, inputs.plan.curriculum, inputs.prepared
    augmented = None
    if inputs.plan.finetune is None:
        augmented = AugmentedFeatures(lambda epoch: features.read(curriculum.view(epoch)), curriculum.lr_factors())
    num_classes = len(prepared.read.dataset.class_names)
    seed = inputs.plan.recipe.seed
    return TrainingSet(features.read(), prepared.targets, folds, num_classes, seed, augmented, features.blocks)
