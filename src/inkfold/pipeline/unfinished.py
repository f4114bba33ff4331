"""Ends a fine-tuning whose time is over: with the folds that are trained, or with a shorter training of the first one.

The recipe changes in `folds.parts` or `finetune.stop_epoch` alone, which an unfinished run's directory accepts; `train` with it
then finishes the run, to the same bytes as if it had been trained by that recipe from the beginning.
"""

from dataclasses import dataclass
from pathlib import Path

from inkfold.config.load import load_recipe
from inkfold.config.recipe import Recipe
from inkfold.config.sections import FinetuneSettings
from inkfold.heads.settings import cool_down_start
from inkfold.pipeline.manifest import MANIFEST
from inkfold.pipeline.run_files import RECIPE


@dataclass(frozen=True, slots=True)
class EarlyEnd:
    """How an unfinished fine-tuning can end.

    Attributes:
        recipe: The recipe that finishes the run in its directory.
        steps_left: Number of training steps that are still to be made for it.
    """

    recipe: Recipe
    steps_left: int


def early_end(out: Path, steps: int = 0) -> EarlyEnd | None:
    """Find the recipe by which an unfinished fine-tuning ends within so many further training steps.

    Folds that are trained to their end are kept, and further ones that can be trained to it; a fold that can't is left out.
    While the first fold isn't trained to its end, its training is ended by a cool-down after as many epochs as the steps
    suffice for, and after as few as its checkpoint allows where they don't suffice.

    Args:
        out: The directory of an unfinished run.
        steps: How many further training steps there is time for, at least 0.

    Returns:
        The recipe and the steps that are left; None where the run is finished, fine-tunes nothing, or has no checkpoint.

    Raises:
        RecipeError: If the run's recipe can't be read.
    """
    if (out / MANIFEST).is_file() or not (out / RECIPE).is_file():
        return None
    from inkfold.finetune.checkpoint import read_progress  # noqa: PLC0415
    from inkfold.finetune.train_fold import CHECKPOINTS  # noqa: PLC0415 - torch takes a second

    recipe = load_recipe(out / RECIPE)
    progress = {fold.fold: fold for fold in read_progress(out / CHECKPOINTS)}
    if not recipe.is_finetuned or 0 not in progress:
        return None
    whole = recipe.finetune.trained_epochs * progress[0].steps
    parts, left = 0, 0
    while parts < recipe.folds.held_out_parts:
        own = whole - progress[parts].done if parts in progress else whole
        if left + own > steps and own > 0:
            break
        parts, left = parts + 1, left + own
    if parts:
        return EarlyEnd(_with_parts(recipe, parts), left)
    first = progress[0]
    settings = recipe.finetune
    stop_epoch = _last_stop(settings, first.done, first.done + steps, first.steps)
    if stop_epoch < settings.trained_epochs:
        recipe = recipe.model_copy(update={"finetune": settings.model_copy(update={"stop_epoch": stop_epoch})})
    recipe = _with_parts(recipe, 1)
    return EarlyEnd(recipe, stop_epoch * first.steps - first.done)


def _last_stop(settings: FinetuneSettings, done: int, end: int, steps: int) -> int:
    """Find the last epoch to stop after by so many steps; the first one whose cool-down hasn't begun where none is."""
    last = settings.trained_epochs
    possible, begun = [last], cool_down_start(settings, steps)
    if begun is not None and done > begun:
        return last
    for epoch in range(1, last):
        start = cool_down_start(settings.model_copy(update={"stop_epoch": epoch}), steps)
        if start is not None and start >= done:
            possible.append(epoch)
    return max((epoch for epoch in possible if epoch * steps <= end), default=min(possible))


def _with_parts(recipe: Recipe, parts: int) -> Recipe:
    """Hold out so many parts; a recipe that holds out as many stays as it is."""
    if parts == recipe.folds.held_out_parts:
        return recipe
    return recipe.model_copy(update={"folds": recipe.folds.model_copy(update={"parts": parts})})
