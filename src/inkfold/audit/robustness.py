"""`inkfold weakness RUN`: measures a run on its held-out drawings, turned, flipped, bent, thickened or half erased.

Each change is a view, so its features go to the feature bank: one forward pass per drawing the first time, none the second.
A drop in accuracy that is more than chance comes with the augmentation that would help, and the command to try it.
"""

import json
import logging
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
from inkfold.pipeline.prepare import Needed, Prepared, decode
from inkfold.pipeline.run import Run, head_spec
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.files import write_json

FORMAT = 1
SIGNIFICANT = 0.05  # divided by the number of changes (Bonferroni)
_HUNDREDTHS = re.compile(r"\{(\d+)\}")
POOL = 4  # augmented views per drawing that the suggested command computes with a frozen backbone
log = logging.getLogger("inkfold.audit")


@dataclass(frozen=True, slots=True)
class Change:
    """A change of drawings under which a run is measured.

    Attributes:
        name: Name of the change in tables.
        view: Operations that make the change; `{2}` stands for two hundredths of the network's input side, in px.
        remedy: Augmentation that trains a model to cope with it.
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
    """Accuracy of a run under one change.

    Attributes:
        name: What is done to the drawings, in words, such as `turned by 15 degrees`; no two changes share it.
        view: The operations that make the change, in the short form of a recipe, such as `rotate(15,15)`.
        accuracy: Accuracy on the changed held-out drawings, each predicted by the fold that held it out.
        ci95: Lower and upper bound of the accuracy's 95 % interval, 0 to 1.
        drop: Accuracy on the unchanged drawings minus `accuracy`.
        p_value: Two-sided p-value of McNemar's test between unchanged and changed drawings.
        significant: Whether the drop is more than chance, with Bonferroni's correction for the number of changes.
        augmentation: Augmentation to train with; None if the drop is not significant, the recipe has it already, or reading a
            file undoes the change.
        command: Command that trains with it; None where `augmentation` is.
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
    """Measure a run on its held-out drawings under every change, and write `weakness.json` into its directory.

    Each change is predicted by itself, without the recipe's test-time views.

    Args:
        run: A finished run of one model.
        data: Folder of the drawings, if they have moved; None for the folder in the recipe.
        progress: Called with the progress of each stage.

    Returns:
        The content of `weakness.json`: `clean` with accuracy and ci95, `rows` (`Weakness`, the largest drop first) and `cost`.

    Raises:
        PredictionError: If the drawings are not those that the run was trained on.
        DataError: With every drawing that can't be read.
        WeightsError: If the backbone's weights are gone or changed.
    """
    extractors, cost = [extractor for extractor, _ in run.extractors()], Cost()
    size_px = extractors[0].backbone.image_size
    changes = [Change(change.name, _sized(change.view, size_px), _sized(change.remedy, size_px)) for change in CHANGES]
    views = (IDENTITY, *(parse_view(change.view, run.recipe.seed) for change in changes))
    read = replace(read_again(run, cost, progress, data), test=None)  # test drawings aren't needed
    prepared = decode(read, extractors[0], run.recipe.data, cost, progress, Needed(views, pixels=len(extractors) > 1))
    clean, *changed = _predict_views(run, extractors, views, prepared, cost=cost, progress=progress)
    rows = [_weakness(run, change, view, clean, each) for change, view, each in zip(changes, views[1:], changed, strict=True)]
    rows.sort(key=lambda row: -row.drop)
    assert clean.targets is not None
    figures = measure(clean.probs, clean.targets)
    content = {
        "format": FORMAT,
        "data_fingerprint": run.manifest["data_fingerprint"],
        "clean": {"n": figures["n"], "accuracy": figures["accuracy"], "ci95": figures["accuracy_ci95"]},
        "rows": [asdict(row) for row in rows],
        "cost": cost.as_json(),
    }
    write_json(run.path / WEAKNESS, content)
    significant = sum(row.significant for row in rows)
    log.info("%s: %d of %d changes lower the accuracy; %d forward passes", run.path, significant, len(rows), cost.forwards)
    return content


def _predict_views(
    run: Run,
    extractors: Sequence[Extractor],
    views: Sequence[View],
    prepared: Prepared,
    *,
    cost: Cost,
    progress: Progress,
) -> list[Predictions]:
    """Predict all held-out drawings under each view, each drawing by the fold that held it out."""
    from inkfold.heads.fit import FittedHeads  # noqa: PLC0415 - torch takes a second

    folds = _trained_on(run, prepared)
    fold_of = {member: fold for fold, members in enumerate(run.folds) for member in members}
    fitted = FittedHeads(head_spec(run.recipe), tuple(fold_of[member] for member in sorted(fold_of)), run.heads)
    if run.is_finetuned:
        shown = features_by_fold(extractors, prepared, folds, views, cost, progress)
    else:
        rows = ~folds.all(0)
        shown = shared_features(extractors[0].extract(prepared.digests[rows], cost, progress, views), None, folds[:, rows])
    with cost.timed("predict"):
        return [predict_held_out(shown, prepared, (view,), folds, fitted) for view in views]


def _trained_on(run: Run, prepared: Prepared) -> Bool[np.ndarray, "folds n"]:
    """Return which drawings each fold's model was trained on, according to the run's out-of-fold predictions."""
    out_of_fold = run.files.out_of_fold
    assert out_of_fold is not None
    assert out_of_fold.folds is not None
    fold_by_path = dict(zip(out_of_fold.image_paths.tolist(), out_of_fold.folds.tolist(), strict=True))
    paths = prepared.read.dataset.train.image_paths[prepared.rows].tolist()
    held_out_in = np.array([fold_by_path.get(path, -1) for path in paths])
    trained_on: np.ndarray = held_out_in != np.arange(len(run.folds))[:, None]
    return trained_on


def _weakness(run: Run, change: Change, view: View, clean: Predictions, changed: Predictions) -> Weakness:
    assert clean.targets is not None
    right = [predictions.preds == clean.targets for predictions in (clean, changed)]
    figures, drop, p_value = measure(changed.probs, clean.targets), float(right[0].mean() - right[1].mean()), mcnemar(*right)
    significant = drop > 0 and p_value * len(CHANGES) < SIGNIFICANT
    undone = change.view == "invert" and run.recipe.image.invert == "auto"  # such files are inverted when they are read
    curriculum = add_augmentation(run.recipe, change.remedy) if significant and not undone else None
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


def add_augmentation(recipe: Recipe, remedy: str) -> str | None:
    """Write the override `curriculum=[...]` that adds operations to a recipe; None if the recipe has them already.

    They are added to the stages that augment; to all stages if none does.
    """
    wanted, stages = parse_operations(remedy.split(", ")), recipe.curriculum or (StageSettings(),)
    present = [parse_operations(stage.augment) for stage in stages]
    merged = [_merge(operations, wanted) if operations or not any(present) else operations for operations in present]
    if merged == present:
        return None
    raw = []
    for stage, operations in zip(stages, merged, strict=True):
        keys = stage.model_dump(mode="json", exclude_defaults=True)
        if operations:
            keys["augment"] = [str(operation) for operation in operations]
            keys |= {"views": POOL} if not recipe.is_finetuned and stage.views == "per_epoch" else {}
        raw.append(keys)
    return f"curriculum={json.dumps(raw)}"


def _covers(present: Operation, wanted: Operation) -> bool:
    """Return whether an operation of a recipe covers the whole range of another operation."""
    if present.name != wanted.name:
        return False
    if KINDS[present.name].range == "pair":
        return True
    return not wanted.args or (present.args[0] <= wanted.args[0] and present.args[1] >= wanted.args[1])


def _merge(present: tuple[Operation, ...], wanted: Sequence[Operation]) -> tuple[Operation, ...]:
    """Append the operations that are not covered yet, and drop those with the same name but a smaller range."""
    new = [operation for operation in wanted if not any(_covers(old, operation) for old in present)]
    names = {operation.name for operation in new}
    return (*(operation for operation in present if operation.name not in names), *new)


def _sized(text: str, size_px: int) -> str:
    """Replace hundredths of the input side, such as `{2}`, by pixels."""
    return _HUNDREDTHS.sub(lambda match: f"{int(match[1]) * size_px / 100:g}", text)
