"""How pages are read, decided once for all that a search tries: by statistics and a comparison on the cheapest backbone.

Cropping a drawing to its ink, or flattening photographed paper, helps or harms one network as another: it changes how large
and how clean the drawing is that they see. So the cheapest one decides, on as many drawings as a part of the time allows.
"""

import logging
import time
from dataclasses import dataclass

import numpy as np

from inkfold.auto.record import Step
from inkfold.auto.sample import sample_order
from inkfold.auto.throughput import USUAL_DECODE_S, measure_images_per_s
from inkfold.pipeline.build import TrainingPlan
from inkfold.pipeline.comparison import COMPARED_FOLDS, FEWEST_COMPARED
from inkfold.pipeline.prepare import Prepared
from inkfold.pipeline.reading import MOST_COMPARED, choose_reading
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent

log = logging.getLogger("inkfold.auto")

# Of the time; in the rest heads are fitted, and what was guessed wrongly goes on.
PROBE_SHARE, COMPARED_SHARE = 0.15, 0.45
READING = "reading"


@dataclass(frozen=True, slots=True)
class ChosenReading:
    """How a search reads pages, and why.

    Attributes:
        keys: Raw keys of a recipe's section `image`: `resize` and `paper`.
        step: What is written down of the choice.
    """

    keys: dict[str, str]
    step: Step


class _TimeIsUp(Exception):  # noqa: N818 - no error
    """The comparison has taken as long as it may."""


def choose_reading_once(plan: TrainingPlan, prepared: Prepared, seconds: float, progress: Progress = silent) -> ChosenReading:
    """Choose how pages are read, within a time.

    What the recipe says is kept. What it leaves open is compared on a sample of the drawings, which is the smaller the shorter
    the time is; where it is too short for 40 drawings, pages are cropped to the ink and photographed paper is flattened.

    Args:
        plan: The plan of the cheapest backbone, whose extractor crops to the ink where the recipe says `auto`.
        prepared: The decoded training drawings, with their groups and copies.
        seconds: Seconds that it may take.
        progress: Called as features are computed; what it raises is raised again.

    Returns:
        The raw keys of the section `image`, and the step for the record.
    """
    image = plan.extractor.image
    step = Step(READING, "reading", why="how pages are read", expected_s=seconds)
    step.recipe = {"image": {"resize": image.resize, "paper": image.paper}}
    if "auto" not in (plan.recipe.image.resize, plan.recipe.image.paper):
        step.state, step.why = "skipped", f"image.resize={image.resize} and image.paper={image.paper} are set"
        return ChosenReading(step.recipe["image"], step)

    plan.extractor.job()  # PyTorch is imported before the time is taken
    began = time.perf_counter()

    def limited(stage: str, done: int, total: int) -> None:
        if time.perf_counter() - began > seconds:
            raise _TimeIsUp
        progress(stage, done, total)

    try:
        _compare(plan, prepared, seconds, limited, step)
    except _TimeIsUp:
        step.state, step.why = (
            "stopped",
            f"image.resize={image.resize}, image.paper={image.paper}: the time allowed no comparison",
        )
    step.seconds = round(time.perf_counter() - began, 3)
    log.info("%s", step.why)
    return ChosenReading(step.recipe["image"], step)


def _compare(plan: TrainingPlan, prepared: Prepared, seconds: float, progress: Progress, step: Step) -> None:
    """Compare what the recipe leaves open on a sample, and write down what is better."""
    order = sample_order(prepared, COMPARED_FOLDS, plan.recipe.seed, prepared.seen)
    rate = measure_images_per_s(plan.extractor, prepared.digests[order[:MOST_COMPARED]], PROBE_SHARE * seconds, progress)
    per_drawing = USUAL_DECODE_S + (0.0 if rate is None else 2 / rate)
    count = min(MOST_COMPARED, round(COMPARED_SHARE * seconds / per_drawing))
    if count < min(FEWEST_COMPARED, len(order)):
        raise _TimeIsUp
    usable = np.zeros(len(order), bool)
    usable[order[:count]] = True
    reading = choose_reading(plan, prepared, Cost(), progress, usable)
    step.recipe = {"image": {"resize": reading.image.resize, "paper": reading.image.paper}}
    step.state, step.why, step.n = "done", reading.about["reason"], min(count, len(order))
    step.figures = {"compared": reading.about["compared"], "pages": reading.about["pages"]}
