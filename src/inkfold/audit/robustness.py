"""Where a run is weak: its folds answer for drawings that they haven't seen, turned, flipped, bent, thickened, half erased.

Each change is a view, so its features lie in the bank: a forward a drawing the first time, none the second. A drop that can't
be told from chance is called so; one that can names the augmentation to learn from, and the command to try it.
"""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from inkfold.augment.views import IDENTITY, View, parse_view
from inkfold.config.operations import KINDS, Operation, parse_operations
from inkfold.config.recipe import Recipe
from inkfold.config.sections import StageSettings
from inkfold.evaluation.metrics import mcnemar, measure
from inkfold.evaluation.predictions import Predictions
from inkfold.features.extractor import Extractor
from inkfold.pipeline.build import read_again
from inkfold.pipeline.manifest import WEAKNESS
from inkfold.pipeline.out_of_fold import features_by_fold, predict_held_out, shared_features
from inkfold.pipeline.prepare import Prepared, decode
from inkfold.pipeline.results import OUT_OF_FOLD
from inkfold.pipeline.run import Run, head_spec
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.files import write_json

FORMAT = 1
SIGNIFICANT = 0.05  # divided by the number of changes that are tried (Bonferroni)
_HUNDREDTHS = re.compile(r"\{(\d+)\}")
POOL = 4  # views that a frozen backbone would be shown of each drawing, to try an augmentation


@dataclass(frozen=True, slots=True)
class Change:
    """A way in which drawings differ from those that were learnt from.

    Attributes:
        name: For people.
        view: What is done to the drawing; `{2}` is two hundredths of the network's input side, in px.
        remedy: The augmentation that teaches it.
    """

    name: str
    view: str
    remedy: str


CHANGES = (
    Change("mirrored", "hflip", "hflip@0.5"),
    Change("upside down, mirrored", "vflip", "vflip@0.5"),
    Change("turned by 15 degrees", "rotate(15,15)", "rotate(15)@0.5"),
    Change("turned by 45 degrees", "rotate(45,45)", "rotate(45)@0.5"),
    Change("turned by 90 degrees", "rotate(90,90)", "rotate(90)@0.5"),
    Change("upside down", "rotate(180,180)", "rotate(180)@0.5"),
    Change("bent by an elastic field", "elastic(30,4)", "elastic(30,4)@0.5"),
    Change("bent on a grid", "grid(4,0.2)", "grid(4,0.2)@0.5"),
    Change("thin lines", "thin({1},{1})", "thin({1})@0.5"),
    Change("thick lines", "thicken({2},{2})", "thicken({2})@0.5"),
    Change("light on dark", "invert", "invert@0.5"),
    Change("half of the ink gone", "stroke_dropout(0.5,0.5)", "stroke_dropout(0.5)@0.5"),
    Change("smaller, off the centre", "scale(0.6,0.6) + translate(0.15)", "scale(0.6,1.1)@0.5, translate(0.15)@0.5"),
    Change("grainy paper", "noise(32,32)", "noise(32)@0.5"),
)


@dataclass(frozen=True, slots=True)
class Weakness:
    """What one change does to the accuracy.

    Attributes:
        name: Of the change.
        view: In its short form.
        accuracy: Of the folds on their own held-out drawings, changed.
        ci95: Its interval.
        drop: Accuracy of the drawings as they are, minus this.
        p_value: McNemar's, two-sided.
        significant: Whether the drop is more than chance, by Bonferroni over all changes.
        augmentation: What would teach it; None where there is nothing to mend, it is learnt from already, or reading undoes it.
        command: To try that; None likewise.
    """

    name: str
    view: str
    accuracy: float
    ci95: list[float]
    drop: float
    p_value: float
    significant: bool
    augmentation: str | None
    command: str | None


def find_weaknesses(run: Run, data: str | Path | None = None, progress: Progress = silent) -> dict[str, Any]:
    """Ask a run's folds for their held-out drawings under every change, and write `weakness.json` into it.

    Predictions are of each view by itself, without the recipe's test-time views.

    Args:
        run: A finished one of one model.
        data: Where the drawings are, if they have moved.
        progress: Told of each stage.

    Returns:
        What was written: `clean` with accuracy and ci95, `rows` (`Weakness`, the largest drop first) and `cost`.

    Raises:
        PredictionError: If the drawings aren't those that the run learnt from.
        DataError: With every drawing that can't be read.
        WeightsError: If the backbone's weights are gone or changed.
    """
    extractors, cost = [extractor for extractor, _ in run.extractors()], Cost()
    size_px = extractors[0].backbone.image_size
    changes = [Change(one.name, _sized(one.view, size_px), _sized(one.remedy, size_px)) for one in CHANGES]
    views = (IDENTITY, *(parse_view(change.view, run.recipe.seed) for change in changes))
    read = replace(read_again(run, cost, progress, data), test=None)  # nobody asks for the test drawings
    pixels, on_broken = len(extractors) > 1, run.recipe.data.on_broken
    prepared = decode(read, extractors[0], on_broken, cost, progress, views=views, pixels=pixels)
    clean, *changed = _asked(run, extractors, views, prepared, (cost, progress))
    rows = [_row(run, change, view, clean, one) for change, view, one in zip(changes, views[1:], changed, strict=True)]
    rows.sort(key=lambda row: -row.drop)
    assert clean.targets is not None
    figures = measure(clean.probs, clean.targets)
    found = {
        "format": FORMAT,
        "data_fingerprint": run.manifest["data_fingerprint"],
        "clean": {"n": figures["n"], "accuracy": figures["accuracy"], "ci95": figures["accuracy_ci95"]},
        "rows": [asdict(row) for row in rows],
        "cost": cost.as_json(),
    }
    write_json(run.path / WEAKNESS, found)
    return found


def _asked(
    run: Run, extractors: Sequence[Extractor], views: Sequence[View], prepared: Prepared, how: tuple[Cost, Progress]
) -> list[Predictions]:
    """Let each fold answer for its held-out drawings, under one view after the other."""
    from inkfold.heads.fit import FittedHeads  # noqa: PLC0415 - torch takes a second

    (cost, progress), folds = how, _learnt_from(run, prepared)
    fold_of = {member: fold for fold, members in enumerate(run.folds) for member in members}
    fitted = FittedHeads(head_spec(run.recipe), tuple(fold_of[member] for member in sorted(fold_of)), run.heads)
    if run.is_finetuned:
        shown = features_by_fold(extractors, prepared, folds, views, cost, progress)
    else:
        asked = ~folds.all(0)
        shown = shared_features(extractors[0].extract(prepared.digests[asked], cost, progress, views), None, folds[:, asked])
    with cost.timed("predict"):
        return [predict_held_out(shown, prepared, (view,), folds, fitted) for view in views]


def _learnt_from(run: Run, prepared: Prepared) -> Bool[np.ndarray, "folds n"]:
    """Say which drawings each fold has learnt from, by what it was asked for when the run was made."""
    told = Predictions.load(run.path / OUT_OF_FOLD)
    assert told.folds is not None
    held_in = dict(zip(told.image_paths.tolist(), told.folds.tolist(), strict=True))
    paths = prepared.read.dataset.train.image_paths[prepared.rows].tolist()
    own = np.array([held_in.get(path, -1) for path in paths])
    learnt: np.ndarray = own != np.arange(len(run.folds))[:, None]
    return learnt


def _row(run: Run, change: Change, view: View, clean: Predictions, changed: Predictions) -> Weakness:
    assert clean.targets is not None
    right = [predictions.preds == clean.targets for predictions in (clean, changed)]
    figures, drop, p_value = measure(changed.probs, clean.targets), float(right[0].mean() - right[1].mean()), mcnemar(*right)
    significant = drop > 0 and p_value * len(CHANGES) < SIGNIFICANT
    undone = change.view == "invert" and run.recipe.image.invert == "auto"  # files that are so are turned when they are read
    curriculum = taught(run.recipe, change.remedy) if significant and not undone else None
    out = f"{run.path}-{parse_operations(change.remedy.split(', '))[0].name}"
    return Weakness(
        name=change.name,
        view=str(view),
        accuracy=figures["accuracy"],
        ci95=figures["accuracy_ci95"],
        drop=round(drop, 6),
        p_value=p_value,
        significant=significant,
        augmentation=curriculum and change.remedy,
        command=curriculum and shlex.join(["inkfold", "train", f"{run.path}/recipe.yaml", f"out={out}", curriculum]),
    )


def taught(recipe: Recipe, remedy: str) -> str | None:
    """Write a recipe's curriculum with an augmentation more, as an override.

    Args:
        recipe: With its curriculum.
        remedy: Operations with commas between them; they are added to the stages that show drawings changed, to all if none
            does.

    Returns:
        `curriculum=[...]`; None if it is learnt from already.
    """
    wanted, stages = parse_operations(remedy.split(", ")), recipe.curriculum or (StageSettings(),)
    there = [parse_operations(stage.augment) for stage in stages]
    joined = [_joined(operations, wanted) if operations or not any(there) else operations for operations in there]
    if joined == there:
        return None
    raw = []
    for stage, operations in zip(stages, joined, strict=True):
        given = stage.model_dump(mode="json", exclude_defaults=True)
        if operations:
            given["augment"] = [str(operation) for operation in operations]
            given |= {"views": POOL} if not recipe.is_finetuned and stage.views == "per_epoch" else {}
        raw.append(given)
    return f"curriculum={json.dumps(raw)}"


def _covers(there: Operation, wanted: Operation) -> bool:
    """Say whether an operation goes as far as another."""
    if there.name != wanted.name:
        return False
    if KINDS[there.name].range == "pair":
        return True
    return not wanted.args or (there.args[0] <= wanted.args[0] and there.args[1] >= wanted.args[1])


def _joined(there: tuple[Operation, ...], wanted: Sequence[Operation]) -> tuple[Operation, ...]:
    """Put operations in the place of those of their kind that go less far, and the others behind."""
    new = [one for one in wanted if not any(_covers(old, one) for old in there)]
    names = {one.name for one in new}
    return (*(one for one in there if one.name not in names), *new)


def _sized(text: str, size_px: int) -> str:
    """Put hundredths of the side in their place, in px."""
    return _HUNDREDTHS.sub(lambda found: f"{int(found[1]) * size_px / 100:g}", text)
