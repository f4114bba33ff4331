"""Chooses how pages are read, on the training drawings: whether they are cropped to the ink, and photographed paper flattened.

Cheap statistics come first. Where they leave a doubt, both ways are compared out of fold on the frozen backbone, by a linear
head: one more forward pass for each drawing that is compared.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from inkfold.augment.views import IDENTITY
from inkfold.config.sections import TrainHeadSettings
from inkfold.data.splits import assign_folds
from inkfold.evaluation.paired import paired_difference
from inkfold.features.extractor import DrawingFiles, Extractor
from inkfold.heads.training_set import TrainingSet
from inkfold.images.preprocess import ImageOptions
from inkfold.images.statistics import ink_fill
from inkfold.pipeline.build import TrainingPlan
from inkfold.pipeline.prepare import Prepared
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress

log = logging.getLogger("inkfold.pipeline")

FILLED = 0.8  # of the page's longer side: cropping a drawing that fills so much of its page changes little
FILLED_SHARE = 0.9  # of the drawings: where so many fill their pages, nothing is compared
PHOTOGRAPHED_SHARE = 0.05  # of the drawings: where fewer are photographed, flattening them is not in doubt
MOST_COMPARED, FEWEST_COMPARED = 4000, 40  # drawings
COMPARED_FOLDS = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """How pages are read, and why.

    Attributes:
        image: The image options with nothing left open.
        about: JSON values: `resize`, `paper`, `pages` (share of the drawings that fill their page, and of photographed ones),
            `compared` (other ways, each with its accuracy and the paired difference), and `reason` in words.
    """

    image: ImageOptions
    about: dict[str, Any]


def choose_reading(
    plan: TrainingPlan,
    prepared: Prepared,
    cost: Cost,
    progress: Progress,
    usable: Bool[np.ndarray, " n"] | None = None,
) -> Reading:
    """Choose what the recipe leaves open of how pages are read.

    The drawings are cropped to their ink, and photographed paper is flattened, unless the training drawings are recognised
    better without by more than chance: a crop helps where drawings are small or off the middle, costs nothing where they
    fill their pages, and keeps a model from failing on drawings that are smaller than those that it was trained on.

    Args:
        plan: The run's plan, whose extractor crops to the ink where the recipe says `auto`.
        prepared: The training drawings, with their groups and with those that the backbone was pretrained on marked.
        cost: Forward passes and seconds are added to it.
        progress: Called as features are computed.
        usable: True for the training drawings on which it is chosen; None chooses on all of them.

    Returns:
        The image options and the record of the choice.
    """
    image = plan.extractor.image
    rows = np.arange(len(prepared.rows)) if usable is None else np.flatnonzero(usable)
    records = plan.extractor.statistics().read(prepared.digests[rows])
    taken = records["photographed"] > 0  # whose ink is not known before they are flattened
    filled, photographed = float(np.mean((ink_fill(records) >= FILLED) & ~taken)), float(np.mean(taken))
    others = _other_readings(plan, filled, photographed)
    with cost.timed("reading"):
        compared = _compare(plan, others, prepared, rows, cost=cost, progress=progress) if others else {}
    better = {name: row for name, row in compared.items() if row["distinguishable"] and row["difference"] > 0}
    for name in better:
        key = name.partition("=")[0].removeprefix("image.")
        image = image.model_copy(update={key: getattr(others[name], key)})
    about: dict[str, Any] = {
        "resize": image.resize,
        "paper": image.paper,
        "pages": {"filled": round(filled, 4), "photographed": round(photographed, 4)},
        "compared": compared,
    }
    about["reason"] = _reason(about, plan)
    log.info("%s", about["reason"])
    return Reading(image, about)


def _other_readings(plan: TrainingPlan, filled: float, photographed: float) -> dict[str, ImageOptions]:
    """List the readings worth comparing with the plan's, by the setting that asks for them.

    Args:
        plan: Says which settings the recipe leaves open.
        filled: Share of the drawings that fill their pages, 0 to 1.
        photographed: Share of the pages that were photographed or scanned, 0 to 1.
    """
    image, others = plan.extractor.image, dict[str, ImageOptions]()
    if plan.recipe.image.resize == "auto" and filled < FILLED_SHARE:
        others["image.resize=pad"] = image.model_copy(update={"resize": "pad"})
    if plan.recipe.image.paper == "auto" and photographed >= PHOTOGRAPHED_SHARE:
        others["image.paper=keep"] = image.model_copy(update={"paper": "keep"})
    return others


def _compare(
    plan: TrainingPlan,
    others: Mapping[str, ImageOptions],
    prepared: Prepared,
    usable: Int64[np.ndarray, " usable"],
    *,
    cost: Cost,
    progress: Progress,
) -> dict[str, Any]:
    """Compare other ways of reading with the plan's: accuracy out of fold on some of the drawings, none of them seen before."""
    rows = _compared_rows(prepared, usable)
    parts = _parts(plan, prepared, rows)
    if parts is None:
        return {}
    train, table_rows = prepared.read.train, prepared.rows[rows]
    compared_files = DrawingFiles(train.names[table_rows], train.files[table_rows], train.digests[table_rows])
    usual = _rightly_predicted(plan, plan.extractor, prepared, rows, parts, cost=cost, progress=progress)
    groups = None if prepared.groups is None else np.unique(prepared.groups[rows], return_inverse=True)[1]
    compared = {}
    for name, image in others.items():
        extractor = plan.extractor.read_as(image)
        extractor.decode(compared_files, cost, progress)
        right = _rightly_predicted(plan, extractor, prepared, rows, parts, cost=cost, progress=progress)
        figures = {"accuracy": round(float(right.mean()), 6), "usual_accuracy": round(float(usual.mean()), 6)}
        compared[name] = {"n": len(rows), **figures, **paired_difference(usual, right, groups)}
    return compared


def _compared_rows(prepared: Prepared, usable: Int64[np.ndarray, " usable"]) -> Int64[np.ndarray, " rows"]:
    """Choose the drawings that are compared, by their digests: a backbone's own pretraining drawings only in need."""
    rows = usable
    if prepared.seen is not None and int((~prepared.seen[rows]).sum()) >= FEWEST_COMPARED:
        rows = rows[~prepared.seen[rows]]
    chosen: np.ndarray = np.sort(rows[np.argsort(prepared.digests[rows], kind="stable")[:MOST_COMPARED]])
    return chosen


def _parts(plan: TrainingPlan, prepared: Prepared, rows: Int64[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows"] | None:
    """Divide the compared drawings into parts by their groups; None where there are too few to compare anything."""
    if len(rows) < FEWEST_COMPARED or len(np.unique(prepared.targets[rows])) < 2:
        return None
    groups = prepared.units(COMPARED_FOLDS)[rows]
    parts = assign_folds(prepared.targets[rows], prepared.digests[rows], COMPARED_FOLDS, plan.recipe.seed, groups)
    return parts if len(np.unique(parts)) == COMPARED_FOLDS else None


def _rightly_predicted(
    plan: TrainingPlan,
    extractor: Extractor,
    prepared: Prepared,
    rows: Int64[np.ndarray, " rows"],
    parts: Int64[np.ndarray, " rows"],
    *,
    cost: Cost,
    progress: Progress,
) -> Bool[np.ndarray, " rows"]:
    """Return which drawings a linear head that was trained on the other parts predicts right."""
    from inkfold.heads.fit import Trial, fit_trials  # noqa: PLC0415
    from inkfold.heads.head import HeadSpec, mean_probs  # noqa: PLC0415
    from inkfold.models.backbone import choose_precision  # noqa: PLC0415 - torch takes a second

    extracted = extractor.extract(prepared.digests[rows], cost, progress)
    features = extracted.read(IDENTITY)
    held_out_in = np.stack([parts == part for part in range(COMPARED_FOLDS)])
    folds = prepared.copies.select(rows).leave_out(held_out_in, COMPARED_FOLDS, prepared.targets[rows])
    targets, classes = prepared.targets[rows], len(prepared.read.dataset.class_names)
    settings = TrainHeadSettings()
    settings = settings.model_copy(update={"precision": choose_precision(settings.precision, plan.device)})
    trial = Trial(HeadSpec(scaling="blocks" if extractor.has_blocks else "none"), settings)
    training_set = TrainingSet(features, targets, folds, classes, plan.recipe.seed, blocks=extracted.blocks)
    [fitted] = fit_trials(training_set, [trial], device=plan.device, threads_per_group=1)
    assert fitted.heads is not None
    right = np.zeros(len(rows), bool)
    for place, fold in enumerate(fitted.folds):
        held_out = folds.held_out[fold]
        probs = mean_probs(fitted.heads, fitted.spec, features[held_out], [place])
        right[held_out] = probs.argmax(1) == targets[held_out]
    return right


def _signed(figure: float) -> str:
    return f"{round(figure, 3) + 0.0:+.3f}"  # never -0.000


def _reason(about: Mapping[str, Any], plan: TrainingPlan) -> str:
    """Say in one line what was chosen, and what it gained."""
    pages, compared = about["pages"], about["compared"]
    words = [f"reading: image.resize={about['resize']}, image.paper={about['paper']}"]
    if plan.recipe.image.resize == "auto" and "image.resize=pad" not in compared:
        filled = f"{pages['filled']:.0%} of the drawings fill their pages"
        few = "too few drawings to compare cropping to the ink with padding"
        words.append(f"{filled}, so cropping to the ink changes little" if pages["filled"] >= FILLED_SHARE else few)
    for name, row in compared.items():
        low, high = (_signed(-bound) for bound in reversed(row["difference_ci95"]))
        gain = f"{_signed(-row['difference'])} ({low} to {high})"
        words.append(f"{gain} out of fold on {row['n']:,} drawings against {name}")
    return "; ".join(words)
