"""Chooses the backbone of a recipe that names none (`backbone.name=auto`), on the training drawings.

`ink-small` comes with inkfold, is several times as fast as networks for photographs, and recognises most line drawings better.
Where the weights of EfficientNet-Lite0 can be had, both are compared out of fold, and Lite0 is taken if it is better by more
than chance.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from inkfold.config.parsing import parse_yaml
from inkfold.config.recipe import Recipe
from inkfold.models.weights import AUTO, AUTO_CANDIDATES
from inkfold.pipeline.build import TrainingPlan, name_backbone
from inkfold.pipeline.comparison import open_comparison, signed
from inkfold.pipeline.manifest import MANIFEST
from inkfold.pipeline.prepare import Prepared
from inkfold.pipeline.run_files import RECIPE
from inkfold.runtime.cost import Cost
from inkfold.runtime.foreign import read_whole
from inkfold.runtime.progress import Progress

log = logging.getLogger("inkfold.pipeline")

MOST_COMPARED = 1200  # drawings: a difference of 0.04 can then be told from chance


@dataclass(frozen=True, slots=True)
class BackboneChoice:
    """Which backbone was taken, and why.

    Attributes:
        name: The backbone's name, as a recipe names it.
        about: JSON values: `chosen`; `compared`, the other backbone with both accuracies and the paired difference, empty where
            too few drawings could be compared; and `reason` in words.
    """

    name: str
    about: dict[str, Any]


def choose_backbone(
    plan: TrainingPlan, rival: TrainingPlan, prepared: Prepared, cost: Cost, progress: Progress
) -> BackboneChoice:
    """Compare two plans' backbones out of fold on some training drawings, and take the second if it is distinguishably better.

    Args:
        plan: The plan with the backbone that is taken in doubt.
        rival: The plan with the other backbone, which reads pages as the first does.
        prepared: The training drawings, with those marked that the first backbone was pretrained on: they are not compared.
        cost: Forward passes and seconds are added to it.
        progress: Called as features are computed.

    Returns:
        The choice and its record.
    """
    usual, other = plan.recipe.backbone.name, rival.recipe.backbone.name
    compared: dict[str, Any] = {}
    with cost.timed("choice of backbone"):
        if (comparison := open_comparison(plan, prepared, MOST_COMPARED)) is not None:
            of_usual = comparison.predict_right(plan.extractor, cost, progress)
            of_other = comparison.predict_right(rival.extractor, cost, progress)
            compared[other] = comparison.figures(of_usual, of_other)
    is_better = any(row["distinguishable"] and row["difference"] > 0 for row in compared.values())
    chosen = other if is_better else usual
    about = {"chosen": chosen, "compared": compared, "reason": _reason(usual, other, is_better, compared.get(other))}
    log.info("%s", about["reason"])
    return BackboneChoice(chosen, about)


def _reason(usual: str, other: str, is_better: bool, row: dict[str, Any] | None) -> str:
    """Say in one line what was chosen, and what it gains."""
    if row is None:
        return f"backbone: {usual}; too few drawings to compare it with {other}"
    chosen, beaten, sign = (other, usual, 1) if is_better else (usual, other, -1)
    accuracy, low, high = sign * row["difference"], *sorted(sign * bound for bound in row["difference_ci95"])
    gain = f"{signed(accuracy)} ({signed(low)} to {signed(high)}) out of fold on {row['n']:,} drawings against {beaten}"
    return f"backbone: {chosen}, {gain}" + (
        "" if row["distinguishable"] else ", which is slower and not distinguishably better"
    )


def recipe_as_finished(recipe: Recipe, out: Path) -> Recipe:
    """Name the backbone that was chosen for a finished run of the same recipe; any other recipe stays as it is.

    Args:
        recipe: A recipe as `settle_recipe` returns it.
        out: The run's directory, which need not exist.
    """
    name = _name_in(out / RECIPE) if recipe.backbone.name == AUTO and (out / MANIFEST).is_file() else None
    return recipe if name is None else name_backbone(recipe, name)


def keys_left_open(recipe: Recipe, out: Path) -> tuple[str, ...]:
    """List the keys in which the recipe in a run's directory may differ from the recipe given: what this one leaves open."""
    return ("backbone.name",) if recipe.backbone.name == AUTO and _name_in(out / RECIPE) is not None else ()


def _name_in(file: Path) -> str | None:
    """Read which of the two backbones a run's recipe names; None if it names another one, or can't be read."""
    try:
        name = parse_yaml(read_whole(file).decode("utf-8"))["backbone"]["name"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None
    return name if name in AUTO_CANDIDATES else None
