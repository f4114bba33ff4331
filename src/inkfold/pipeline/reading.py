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

from inkfold.images.preprocess import ImageOptions
from inkfold.images.statistics import ink_fill
from inkfold.pipeline.build import TrainingPlan
from inkfold.pipeline.comparison import open_comparison, signed
from inkfold.pipeline.prepare import Prepared
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress

log = logging.getLogger("inkfold.pipeline")

FILLED = 0.8  # of the page's longer side: cropping a drawing that fills so much of its page changes little
FILLED_SHARE = 0.9  # of the drawings: where so many fill their pages, nothing is compared
PHOTOGRAPHED_SHARE = 0.05  # of the drawings: where fewer are photographed, flattening them is not in doubt
MOST_COMPARED = 4000  # drawings


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
    comparison = open_comparison(plan, prepared, MOST_COMPARED, usable)
    if comparison is None:
        return {}
    usual = comparison.predict_right(plan.extractor, cost, progress)
    compared = {}
    for name, image in others.items():
        right = comparison.predict_right(plan.extractor.read_as(image), cost, progress)
        compared[name] = comparison.figures(usual, right)
    return compared


def _reason(about: Mapping[str, Any], plan: TrainingPlan) -> str:
    """Say in one line what was chosen, and what it gained."""
    pages, compared = about["pages"], about["compared"]
    words = [f"reading: image.resize={about['resize']}, image.paper={about['paper']}"]
    if plan.recipe.image.resize == "auto" and "image.resize=pad" not in compared:
        filled = f"{pages['filled']:.0%} of the drawings fill their pages"
        few = "too few drawings to compare cropping to the ink with padding"
        words.append(f"{filled}, so cropping to the ink changes little" if pages["filled"] >= FILLED_SHARE else few)
    for name, row in compared.items():
        low, high = (signed(-bound) for bound in reversed(row["difference_ci95"]))
        gain = f"{signed(-row['difference'])} ({low} to {high})"
        words.append(f"{gain} out of fold on {row['n']:,} drawings against {name}")
    return "; ".join(words)
