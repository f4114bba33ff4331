"""Gathers what several models say of a run's labels: the run itself, and heads computed on features of several backbones."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from inkfold.audit.views import View, computed_views, hold_out
from inkfold.data.duplicate_groups import CopyGroup
from inkfold.errors import InkfoldError, PredictionError, WeightsError
from inkfold.evaluation.predictions import Predictions, is_worth_reporting
from inkfold.features.extractor import Extractor
from inkfold.heads.closed_form import block_scaling
from inkfold.models import ink_small as inksmall
from inkfold.models.weights import USUAL, BackboneSpec, find_weights_file, resolve_backbone
from inkfold.pipeline.prepare import Prepared, ReadData, decode, find_seen
from inkfold.pipeline.run import Run, image_options
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.cache import home
from inkfold.storage.scratch import take_rows

OTHERS = (inksmall.NAME, USUAL, "mobilenetv2_100")  # the first that can be had without a download is asked too
BACKBONES = 2  # further ones are asked only if the bank has their features already
SEEN = 0.2  # another backbone that was trained on more of the drawings than this share is not asked
WEAKEST = 0.5  # of the best model's accuracy: what a weaker model doubts says little
log = logging.getLogger("inkfold.audit")


@dataclass(frozen=True, slots=True)
class LabelViews:
    """What models say of the labels of a run's held-out drawings.

    Attributes:
        views: The models that are asked; the run's own predictions come first unless they are too weak.
        weak: The models that were tried and are not asked, as they are right half as often as the best, or less.
        notes: Sentences on backbones that were not used, and why.
    """

    views: tuple[View, ...]
    weak: tuple[View, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Gathering:
    """What is needed for each backbone's views, and what was gathered so far."""

    out_of_fold: Predictions
    read: ReadData
    copies: dict[str, int]
    cost: Cost
    progress: Progress
    views: list[View] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def ask(self, name: str, extractor: Extractor, run: Run, *, own: bool) -> bool:
        """Add the views of a backbone; return whether it has been asked."""
        prepared = decode(self.read, extractor, run.recipe.data, self.cost, self.progress)
        seen = self._seen(extractor, prepared)
        if seen:
            text = f"the weights of {name} were trained on {seen:,} of these {len(prepared.rows):,} drawings"
            asked = own or seen < SEEN * len(prepared.rows)
            self.notes.append(f"{text}, so {'fewer of their labels are doubted' if asked else 'it is not asked'}")
            if not asked:
                return False
        extracted = extractor.extract(prepared.digests, self.cost, self.progress)
        features = extracted.read()
        if extractor.has_blocks:  # else the block of the largest values would decide all distances
            scaling = block_scaling(features, np.ones((1, len(features)), bool), extracted.blocks)
            features = ((features - scaling["mean"][0]) * scaling["scale"][0]).astype(np.float32)
        with self.cost.timed("views"):
            self.views += _views_of(name, features, prepared, self.out_of_fold, self.copies)
        return True

    def _seen(self, extractor: Extractor, prepared: Prepared) -> int:
        """Count the drawings that a backbone was trained on, wrong labels and all; 0 where too few to matter."""
        for part in extractor.parts:
            weights = None if part.backbone.weights_file is None else Path(part.backbone.weights_file)
            prepared = find_seen(prepared, weights, extractor.signatures(), self.cost, self.progress)
        seen = prepared.seen
        count = 0 if seen is None else int(seen.sum())
        return count if is_worth_reporting(count, len(prepared.rows)) else 0


def gather_views(
    run: Run, out_of_fold: Predictions, read: ReadData, groups: Sequence[CopyGroup], cost: Cost, progress: Progress = silent
) -> LabelViews:
    """Ask the run itself, and heads on the features of its own backbone and of others, about each held-out drawing.

    Args:
        run: The run whose data are audited; of an ensemble, its first member.
        out_of_fold: The audited model's own predictions, with targets and folds.
        read: The run's data, as they are now.
        groups: Copies among the drawings: those of a held-out drawing are not trained on.
        cost: Forward passes and seconds are added to it.
        progress: Called as features are computed.

    Returns:
        The models' views, in the order of the predictions.
    """
    copies = {
        member.image_path: number for number, group in enumerate(groups) for member in group.members if member.part != "test"
    }
    gathering = _Gathering(out_of_fold, read, copies, cost, progress)
    own = [str(raw["name"]) for raw in (run.manifest["backbone"], *run.manifest.get("beside", ()))]
    try:
        asked = int(gathering.ask(" + ".join(own), run.frozen_extractor(), run, own=True))
    except (WeightsError, PredictionError) as error:
        asked = 0
        gathering.notes.append(f"the run's own backbone can't be asked: {str(error).splitlines()[0]}")
    for name in OTHERS:
        if any(_same_network(name, taken) for taken in own) or find_weights_file(BackboneSpec(name=name)) is None:
            continue
        extractor = _other_extractor(run, name)
        if asked >= BACKBONES and extractor.lacking(read.train.digests[read.train.digests != b""]).any():
            continue
        try:
            asked += int(gathering.ask(name, extractor, run, own=False))
        except InkfoldError as error:
            gathering.notes.append(f"{name} can't be asked: {str(error).splitlines()[0]}")
    return _without_weak([View("the run itself", out_of_fold.probs), *gathering.views], out_of_fold, gathering.notes)


def _views_of(
    name: str, features: np.ndarray, prepared: Prepared, out_of_fold: Predictions, copies: dict[str, int]
) -> list[View]:
    """Compute a backbone's views, over the predictions' drawings and in their order."""
    assert out_of_fold.folds is not None
    paths = prepared.read.dataset.train.image_paths[prepared.rows].tolist()
    place_of = {path: place for place, path in enumerate(out_of_fold.image_paths.tolist())}
    places = np.array([place_of.get(path, len(place_of)) for path in paths])
    predicted = places < len(place_of)
    folds = np.append(out_of_fold.folds, 0)[places]
    held_out = hold_out(folds, predicted, _copy_numbers(paths, copies))
    views = computed_views(name, features, prepared.targets, held_out, len(out_of_fold.class_names))
    order = np.argsort(places[predicted])
    return [View(view.name, take_rows(view.probs, order)) for view in views]


def _copy_numbers(paths: Sequence[str], copies: dict[str, int]) -> Int64[np.ndarray, " n"] | None:
    """Number each drawing's group of copies; a drawing without copies has a number of its own."""
    if not copies:
        return None
    return np.array([copies.get(path, len(paths) + place) for place, path in enumerate(paths)], np.int64)


def _without_weak(views: Sequence[View], out_of_fold: Predictions, notes: Sequence[str]) -> LabelViews:
    accuracies = [float((view.probs.argmax(1) == out_of_fold.targets).mean()) for view in views]
    strong = [accuracy >= WEAKEST * max(accuracies) for accuracy in accuracies]
    for view, accuracy in zip(views, accuracies, strict=True):
        log.info("%s: right on %.3f of the held-out drawings", view.name, accuracy)
    return LabelViews(
        tuple(view for view, kept in zip(views, strong, strict=True) if kept),
        tuple(view for view, kept in zip(views, strong, strict=True) if not kept),
        tuple(notes),
    )


def _other_extractor(run: Run, name: str) -> Extractor:
    """Build the extractor of another backbone at its own size, which reads pages as the run did."""
    from inkfold.models.backbone import choose_device, choose_precision  # noqa: PLC0415 - torch takes a second

    settings = run.recipe.backbone
    precision = choose_precision(settings.precision, choose_device(settings.device))
    backbone = resolve_backbone(BackboneSpec(name=name, precision=precision), home() / "backbones")
    recipe = run.recipe.model_copy(update={"image": run.recipe.image.model_copy(update={"size": None, "stored_size": None})})
    image = image_options(recipe, backbone, run.manifest.get("image", {"paper": "keep"}))
    return Extractor(home(), backbone, image, settings.device, settings.batch_size)


def _same_network(first: str, second: str) -> bool:
    """Compare names without their tags: `ink-small` is `ink_small` to timm."""
    return first.partition(".")[0].replace("-", "_") == second.partition(".")[0].replace("-", "_")
