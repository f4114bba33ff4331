"""`inkfold weakness RUN`: measures a run on its held-out drawings, turned, thickened, half erased, or photographed on paper.

A change of the drawing is a view of what was read; a photograph is made of the file and read again. The features of both go to
the feature bank: one forward pass per drawing the first time, none the second. A drop in accuracy that is more than chance
comes with what would help, another way of reading or an augmentation, and the command to try it.
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

from inkfold.audit.photographed import predict_photographs
from inkfold.augment.views import IDENTITY, View, parse_view
from inkfold.config.operations import KINDS, Operation, parse_operations
from inkfold.config.recipe import Recipe
from inkfold.config.sections import StageSettings
from inkfold.data.splits import Folds
from inkfold.evaluation.metrics import measure
from inkfold.evaluation.paired import mcnemar
from inkfold.evaluation.predictions import Predictions
from inkfold.features.extractor import Extractor
from inkfold.images.preprocess import ImageOptions
from inkfold.pipeline.build import read_again
from inkfold.pipeline.manifest import WEAKNESS
from inkfold.pipeline.out_of_fold import features_by_fold, predict_held_out, shared_features
from inkfold.pipeline.prepare import Needed, Prepared, decode
from inkfold.pipeline.run import Run, head_spec
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.outputs import check_added_file
from inkfold.storage.sealed import write_sealed

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
        remedy: Augmentation that trains a model to cope with it; None where no operation resembles it.
        photograph: Kind of `augment.photographs` that the drawing's file is turned to before it is read, instead of a view.
        setting: Override that lets files of this kind be read better, which is tried before the augmentation.
    """

    name: str
    view: str = "identity"
    remedy: str | None = None
    photograph: str | None = None
    setting: str | None = None


def _photograph(name: str, kind: str, remedy: str | None, setting: str = "image.paper=auto") -> Change:
    return Change(name, remedy=remedy, photograph=kind, setting=setting)


# Values that an override would change for the better; other values read such files as well already.
_MENDED = {"image.paper=auto": ("keep",), "image.resize=crop_to_ink": ("pad", "squash")}
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
    _photograph("photo: uneven light, weak ink", "photographed", "contrast(0.4,1)@0.5, blur({1})@0.5, noise(16)@0.5"),
    _photograph("photo: a shadow on the page", "shadow", None),
    _photograph("photo: pencil", "pencil", "contrast(0.4,1)@0.5"),
    _photograph("photo: ruled paper", "ruled", None),
    _photograph("photo: much grain", "grainy", "noise(32)@0.5"),
    _photograph("small on a large page", "small", "scale(0.2,1)@0.5, translate(0.3)@0.5", "image.resize=crop_to_ink"),
)


@dataclass(frozen=True, slots=True)
class Weakness:
    """Accuracy of a run under one change.

    Attributes:
        name: What is done to the drawings, in words, such as `turned by 15 degrees`; no two changes share it.
        view: The operations that make the change, in the short form of a recipe, or `photograph` with its kind.
        n: Number of held-out drawings; at most 500 of them are photographed.
        accuracy: Accuracy on the changed held-out drawings, each predicted by the fold that held it out.
        ci95: Lower and upper bound of the accuracy's 95 % interval, 0 to 1.
        drop: Accuracy on the same drawings, unchanged, minus `accuracy`.
        p_value: Two-sided p-value of the paired test between unchanged and changed drawings.
        significant: Whether the drop is more than chance, with Bonferroni's correction for the number of changes.
        setting: Override with which such files are read better; None if the drop is not significant or the run reads them so.
        augmentation: Augmentation to train with; None if the drop is not significant, a setting helps, the recipe has it
            already, or reading a file undoes the change.
        command: Command that trains with the setting or the augmentation; None where both are.
    """

    name: str
    view: str
    n: int
    accuracy: float
    ci95: list[float]
    drop: float
    p_value: float
    significant: bool
    setting: str | None
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
        ExportError: If `weakness.json` can't be written there.
    """
    check_added_file(run.path / WEAKNESS)  # before the work, not after it
    extractors, cost = [extractor for extractor, _ in run.extractors()], Cost()
    changes = [_sized(change, extractors[0].backbone.image_size) for change in CHANGES]
    drawn = [change for change in changes if change.photograph is None]
    taken = [change for change in changes if change.photograph is not None]
    views = (IDENTITY, *(parse_view(change.view, run.recipe.seed) for change in drawn))
    read = replace(read_again(run, cost, progress, data), test=None)  # test drawings aren't needed
    needed = Needed(views, pixels=len(extractors) > 1)
    prepared = decode(read, extractors[0], run.recipe.data, cost, progress, needed)
    held_out = _HeldOut(run, extractors, prepared, cost, progress)
    clean, *changed = held_out.under_views(views)
    photographs = held_out.photographed([str(change.photograph) for change in taken])
    measured = [*zip(drawn, map(str, views[1:]), changed, strict=True)]
    measured += zip(taken, (f"photograph({change.photograph})" for change in taken), photographs, strict=True)
    image = extractors[0].image
    rows = sorted((_weakness(run, image, *each, clean) for each in measured), key=lambda row: -row.drop)
    content = {
        "format": FORMAT,
        "data_fingerprint": run.manifest["data_fingerprint"],
        "clean": _clean_figures(clean),
        "rows": [asdict(row) for row in rows],
        "cost": cost.as_json(),
    }
    write_sealed(run.path / WEAKNESS, content)
    significant = sum(row.significant for row in rows)
    log.info("%s: %d of %d changes lower the accuracy; %d forward passes", run.path, significant, len(rows), cost.forwards)
    return content


def _clean_figures(clean: Predictions) -> dict[str, Any]:
    """Measure the drawings as they are, with which those under every change are compared."""
    assert clean.targets is not None
    figures = measure(clean.probs, clean.targets, groups=clean.groups)
    return {
        "n": figures["n"],
        "accuracy": figures["accuracy"],
        "ci95": figures["accuracy_ci95"],
        "interval": figures["interval"],
    }


class _HeldOut:
    """Predicts a run's held-out drawings, each by the fold that held it out."""

    def __init__(self, run: Run, extractors: Sequence[Extractor], prepared: Prepared, cost: Cost, progress: Progress) -> None:
        from inkfold.heads.fit import FittedHeads  # noqa: PLC0415 - torch takes a second

        self._run, self._extractors, self._prepared, self._cost, self._progress = run, extractors, prepared, cost, progress
        self._folds = _folds_of(run, prepared)
        fold_of = {member: fold for fold, members in enumerate(run.folds) for member in members}
        self._fitted = FittedHeads(head_spec(run.recipe), tuple(fold_of[member] for member in sorted(fold_of)), run.heads)

    def under_views(self, views: Sequence[View]) -> list[Predictions]:
        """Predict all drawings under each view."""
        prepared, folds, cost = self._prepared, self._folds, self._cost
        if self._run.is_finetuned:
            shown = features_by_fold(self._extractors, prepared, folds, views, cost, self._progress)
        else:
            rows = folds.measured
            features = self._extractors[0].extract(prepared.digests[rows], cost, self._progress, views)
            shown = shared_features(features, None, folds.select(rows))
        with cost.timed("predict"):
            return [predict_held_out(shown, prepared, (view,), folds, self._fitted) for view in views]

    def photographed(self, kinds: Sequence[str]) -> list[Predictions]:
        """Predict photographs of some of the drawings, of each kind."""
        shared = (self._extractors, self._prepared, self._folds, self._fitted)
        return predict_photographs(*shared, kinds, cost=self._cost, progress=self._progress)


def _folds_of(run: Run, prepared: Prepared) -> Folds:
    """Return which drawings each fold held out, according to the run's out-of-fold predictions."""
    out_of_fold = run.files.out_of_fold
    assert out_of_fold is not None
    assert out_of_fold.folds is not None
    fold_by_path = dict(zip(out_of_fold.image_paths.tolist(), out_of_fold.folds.tolist(), strict=True))
    paths = prepared.read.dataset.train.image_paths[prepared.rows].tolist()
    held_out_in = np.array([fold_by_path.get(path, -1) for path in paths])
    return Folds.of(held_out_in != np.arange(len(run.folds))[:, None])


def _weakness(run: Run, image: ImageOptions, change: Change, view: str, changed: Predictions, clean: Predictions) -> Weakness:
    assert clean.targets is not None
    assert changed.targets is not None
    place = {path: i for i, path in enumerate(clean.image_paths.tolist())}
    same = [place[path] for path in changed.image_paths.tolist()]
    right = [(clean.preds == clean.targets)[same], changed.preds == changed.targets]
    groups = None if clean.groups is None else clean.groups[same]
    figures, drop = measure(changed.probs, changed.targets, groups=groups), float(right[0].mean() - right[1].mean())
    p_value = mcnemar(right[0], right[1], groups)
    significant = drop > 0 and p_value * len(CHANGES) < SIGNIFICANT
    setting, augmentation, command = _remedy(run, image, change) if significant else (None, None, None)
    return Weakness(
        name=change.name,
        view=view,
        n=len(same),
        accuracy=figures["accuracy"],
        ci95=figures["accuracy_ci95"],
        drop=round(drop, 6),
        p_value=p_value,
        significant=significant,
        setting=setting,
        augmentation=augmentation,
        command=command,
    )


def _remedy(run: Run, image: ImageOptions, change: Change) -> tuple[str | None, str | None, str | None]:
    """Choose what helps against a change: a setting or an augmentation, and the command that trains with it."""
    if change.setting is not None and _is_mended(image, change.setting):
        return change.setting, None, _train_again(run, _key(change.setting), change.setting)
    undone = change.view == "invert" and run.recipe.image.invert == "auto"  # such files are inverted when they are read
    curriculum = None if undone or change.remedy is None else add_augmentation(run.recipe, change.remedy)
    if curriculum is None:
        return None, None, None
    assert change.remedy is not None
    return None, change.remedy, _train_again(run, parse_operations(change.remedy.split(", "))[0].name, curriculum)


def _is_mended(image: ImageOptions, setting: str) -> bool:
    """Return whether a run that reads drawings so would read them otherwise with the setting."""
    return getattr(image, _key(setting), "") in _MENDED[setting]


def _key(setting: str) -> str:
    return setting.removeprefix("image.").partition("=")[0]


def _train_again(run: Run, name: str, override: str) -> str:
    return shlex.join(["inkfold", "train", f"{run.path}/recipe.yaml", f"out={run.path}-{name}", override])


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


def _sized(change: Change, size_px: int) -> Change:
    """Replace hundredths of the input side, such as `{2}`, by pixels."""

    def sized(text: str) -> str:
        return _HUNDREDTHS.sub(lambda match: f"{int(match[1]) * size_px / 100:g}", text)

    return replace(change, view=sized(change.view), remedy=None if change.remedy is None else sized(change.remedy))
