"""The main path: recipe + drawings -> run directory. Read this first, top to bottom.

Each stage leaves files (pixels and features in the cache, the rest in the run), and `manifest.json` is written last: a run
killed anywhere continues where it was, with the same result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from inkfold.augment import IDENTITY, View
from inkfold.config import Recipe
from inkfold.curriculum import Curriculum, Stage
from inkfold.dataset import DataOptions, few_drawings, read_dataset
from inkfold.errors import DataError, RecipeError
from inkfold.folds import assign_folds
from inkfold.heads import mean_probs
from inkfold.home import home
from inkfold.operations import parse_operations
from inkfold.predictions import Predictions
from inkfold.prepare import Prepared, ReadData, decode, read_files
from inkfold.progress import Progress, silent
from inkfold.recipe import load_recipe, merge_overrides, validate_recipe
from inkfold.results import Results, write_results
from inkfold.run import Run, backbone_spec, head_spec, image_options, load_run, prediction_views
from inkfold.rundir import claimed, finished_run, write_cost, write_manifest
from inkfold.sections import StageRecipe
from inkfold.sources import Cost, Extractor, ViewFeatures
from inkfold.weights import resolve_backbone

if TYPE_CHECKING:
    from inkfold.course import Lessons
    from inkfold.training import Fitted, Trial


def train(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    *overrides: str,
    data: str | Path | None = None,
    out: str | Path,
    progress: Progress = silent,
) -> Run:
    """Run a recipe on drawings: features, folds, heads, out-of-fold and test predictions, metrics, submission.

    Args:
        recipe: A recipe, its raw keys, a YAML file, or a shipped recipe's name.
        overrides: `dotted.key=value`.
        data: The folder of drawings; goes before what the recipe says.
        out: The run's directory. One that holds this run unfinished is continued, and a finished one is returned.
        progress: Told how far each stage is.

    Returns:
        The finished run.

    Raises:
        RecipeError: If the recipe doesn't validate.
        DataError: With every problem of the data.
        WeightsError: If the backbone's weights can't be had.
        PredictionError: If `out` holds another run, or another process is writing it.
    """
    recipe, out, cost = settle_recipe(recipe, overrides, data), Path(out), Cost()
    dataset = read_dataset(str(recipe.data.root), data_options(recipe))
    with claimed(out, recipe):
        read = read_files(dataset, None if dataset.test is None else dataset.test.targets, cost, progress)
        if done := finished_run(out, read.fingerprint):
            return done
        material = gather(recipe, read, cost, progress)
        folds = split(recipe, material.prepared)
        with cost.timed("fit"):
            fitted = _fit(recipe, material, folds, progress)
        with cost.timed("predict"):
            out_of_fold = predict_held_out(material, material.test_views, folds, fitted)
            test = _predict_test(material, len(folds), fitted)
            plain = predict_held_out(material, (IDENTITY,), folds, fitted) if recipe.tta else None
        results = Results(len(folds), fitted, out_of_fold, test, plain)
        files = write_results(out, recipe, material.curriculum, material.prepared, results)
        _finish(out, recipe, material, fitted, cost, files)
    return load_run(out)


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that heads are fitted on and asked about.

    Attributes:
        extractor: What made the features.
        curriculum: Which view each epoch learns from.
        test_views: Whose predictions are averaged.
        prepared: The drawings.
        features: Of the training drawings under every view.
        test_features: Of the test drawings that can be read; None without any.
    """

    extractor: Extractor
    curriculum: Curriculum
    test_views: tuple[View, ...]
    prepared: Prepared
    features: ViewFeatures
    test_features: ViewFeatures | None


def gather(recipe: Recipe, read: ReadData, cost: Cost, progress: Progress = silent) -> Material:
    """Decode drawings and compute the features of all views that a recipe learns from and predicts by.

    Args:
        recipe: With its image, backbone, curriculum and test-time views.
        read: The drawings' files.
        cost: Added to.
        progress: Told how far each stage is.

    Returns:
        The features, in the bank.

    Raises:
        DataError: If drawings can't be read.
        WeightsError: If the backbone's weights can't be had.
    """
    with cost.timed("backbone"):
        extractor = build_extractor(recipe)
    curriculum, test_views = build_curriculum(recipe), prediction_views(recipe)
    views = tuple(dict.fromkeys((IDENTITY, *curriculum.views(), *test_views)))
    prepared = decode(read, extractor, recipe.data.on_broken, cost, progress, views=views, test_views=test_views)
    features = extractor.extract(prepared.digests, cost, progress, views)
    test_features = None
    if prepared.test_digests is not None and len(prepared.test_digests):
        test_features = extractor.extract(prepared.test_digests, cost, progress, test_views)
    return Material(extractor, curriculum, test_views, prepared, features, test_features)


def settle_recipe(
    recipe: Recipe | Mapping[str, Any] | str | Path, overrides: tuple[str, ...] = (), data: str | Path | None = None
) -> Recipe:
    """Validate a recipe in any of its forms, with the data's folder made absolute.

    Args:
        recipe: A recipe, its raw keys, a YAML file, or a shipped recipe's name.
        overrides: `dotted.key=value`.
        data: The folder of drawings.

    Returns:
        The recipe that the run will hold.

    Raises:
        RecipeError: With every problem.
    """
    if isinstance(recipe, Recipe):
        recipe = recipe.model_dump(mode="json")
    if isinstance(recipe, Mapping):
        raw = dict(recipe)
        merge_overrides(raw, overrides)
        settled = validate_recipe(raw)
    else:
        settled = load_recipe(recipe, overrides)
    root = settled.data.root if data is None else str(data)
    if root is None:
        raise RecipeError("data: is missing. Say where the drawings are: data=DIR.")
    return settled.model_copy(update={"data": settled.data.model_copy(update={"root": str(Path(root).absolute())})})


def data_options(recipe: Recipe) -> DataOptions:
    """Turn the recipe's data section into the plain parameters that `read_dataset` takes."""
    given = recipe.data.model_dump()
    del given["root"]
    return DataOptions(**given, group_column=recipe.folds.group_column)


def build_extractor(recipe: Recipe) -> Extractor:
    """Settle the backbone: its device, precision, weights and image settings; nothing is built yet."""
    from inkfold.backbone import choose_device, choose_precision  # noqa: PLC0415 - torch takes a second

    device = choose_device(recipe.backbone.device)
    precision = choose_precision(recipe.backbone.precision, device)
    backbone = resolve_backbone(backbone_spec(recipe, precision), home() / "backbones")
    return Extractor(home(), backbone, image_options(recipe, backbone), device.type, recipe.backbone.batch_size)


def build_curriculum(recipe: Recipe) -> Curriculum:
    """Turn the recipe's stages into epochs and views; one stage of drawings as they are if it names none."""
    stages, start = [], 0
    for given in recipe.curriculum or (StageRecipe(),):
        end = given.until_epoch or recipe.fit.epochs
        pool = None if given.views == "per_epoch" else given.views
        stages.append(Stage(end - start, parse_operations(given.augment), pool, given.lr_factor))
        start = end
    return Curriculum(stages, recipe.seed)


def split(recipe: Recipe, prepared: Prepared) -> Bool[np.ndarray, "folds n"]:
    """Deal the training drawings into parts, and give each fold all but its own.

    Args:
        recipe: With the kind of split; `holdout` holds out part 0, or val/ where the data have it.
        prepared: The drawings.

    Returns:
        True where a fold's heads learn from a drawing.

    Raises:
        DataError: If a fold would have nothing to learn from, or nothing is held out.
    """
    train, holdout = prepared.read.dataset.train, recipe.folds.split == "holdout"
    if holdout and train.given_val is not None:
        parts = np.where(train.given_val[prepared.rows], 0, 1)
    else:
        groups = None if train.groups is None else train.groups[prepared.rows]
        parts = assign_folds(prepared.targets, prepared.digests, recipe.folds.k, recipe.seed, groups)
    folds = np.stack([parts != fold for fold in range(1 if holdout else recipe.folds.k)])
    if folds.all() or not folds.any(1).all():
        what = "no drawing is held out" if folds.all() else "all drawings are held out at once, so none is learnt from"
        raise DataError(f"{prepared.read.dataset.root}: {what}. Add drawings or groups, or choose another folds.split.")
    return folds


def build_trial(recipe: Recipe) -> "Trial":
    """Turn the recipe's head and fit into the plain parameters that training takes."""
    from inkfold.backbone import choose_device, choose_precision  # noqa: PLC0415 - torch takes a second
    from inkfold.settings import FitSettings  # noqa: PLC0415
    from inkfold.training import Trial  # noqa: PLC0415

    given = recipe.fit.model_dump(exclude={"scaling", "starts"})
    given["precision"] = choose_precision(given["precision"], choose_device(recipe.backbone.device))
    schedule = given.pop("schedule")
    steps = {f"step_{name}": schedule[name] for name in ("every", "gamma") if name in schedule}
    dropout = recipe.head.dropout if recipe.head.kind == "mlp" else 0.0
    settings = FitSettings(**given, schedule=schedule["kind"], **steps, dropout=dropout)
    return Trial(head_spec(recipe), settings, recipe.fit.starts)


def build_lessons(recipe: Recipe, material: Material, folds: Bool[np.ndarray, "folds n"]) -> "Lessons":
    """Turn the material into what heads are fitted on.

    Args:
        recipe: Its seed.
        material: Features under every view.
        folds: True where a fold's heads learn from a drawing.

    Returns:
        The lessons, with the curriculum's view for each epoch.
    """
    from inkfold.course import Lessons, Schooling  # noqa: PLC0415 - torch takes a second

    features, curriculum = material.features, material.curriculum
    schooling = Schooling(lambda epoch: features.read(curriculum.view(epoch)), curriculum.lr_factors())
    classes = len(material.prepared.read.dataset.class_names)
    return Lessons(features.read(), material.prepared.targets, folds, classes, recipe.seed, schooling)


def _fit(recipe: Recipe, material: Material, folds: Bool[np.ndarray, "folds n"], progress: Progress) -> "Fitted":
    from inkfold.backbone import choose_device  # noqa: PLC0415 - torch takes a second
    from inkfold.training import fit_trials  # noqa: PLC0415

    device = choose_device(recipe.backbone.device)
    [fitted] = fit_trials(build_lessons(recipe, material, folds), [build_trial(recipe)], device=device, progress=progress)
    if fitted.diverged is not None:
        raise RecipeError(
            f"fit.lr: with {recipe.fit.lr:g} the loss was no number any more in epoch {fitted.diverged + 1}. Lower fit.lr, "
            "or bring the features to one scale: fit.scaling=standardise."
        )
    return fitted


def predict_held_out(
    material: Material, views: Sequence[View], folds: Bool[np.ndarray, "folds n"], fitted: "Fitted"
) -> Predictions:
    """Let each fold answer for the drawings that it has not seen, the mean over views.

    Args:
        material: Features under these views.
        views: Whose predictions are averaged.
        folds: True where a fold's heads learnt from a drawing.
        fitted: The heads.

    Returns:
        Rows in the table's order; without the drawings that every fold has seen.
    """
    prepared, dataset = material.prepared, material.prepared.read.dataset
    probs = np.zeros((len(prepared.rows), len(dataset.class_names)), np.float32)
    held_in = np.zeros(len(prepared.rows), np.int64)
    for view in views:
        shown = material.features.read(view)
        for fold, seen in enumerate(folds):
            probs[~seen] += _fold_probs(fitted, shown[~seen], fold) / len(views)
            held_in[~seen] = fold
    held_out = np.flatnonzero(~folds.all(0))
    held_out = held_out[np.argsort(prepared.rows[held_out])]
    rows = prepared.rows[held_out]
    return Predictions(
        dataset.train.image_paths[rows], probs[held_out], dataset.class_names, prepared.targets[held_out], held_in[held_out]
    )


def _predict_test(material: Material, folds: int, fitted: "Fitted") -> Predictions | None:
    """Let every fold answer, and average; a drawing that can't be read gets the classes' shares in training."""
    prepared, dataset = material.prepared, material.prepared.read.dataset
    if dataset.test is None:
        return None
    shares = np.bincount(prepared.targets, minlength=len(dataset.class_names)) / len(prepared.rows)
    fold_probs = np.empty((folds, len(dataset.test), len(dataset.class_names)), np.float32)
    fold_probs[:] = shares
    if material.test_features is not None:
        fold_probs[:, prepared.test_whole] = 0
        for view in material.test_views:
            shown = material.test_features.read(view)
            for fold in range(folds):
                fold_probs[fold, prepared.test_whole] += _fold_probs(fitted, shown, fold) / len(material.test_views)
    return Predictions(
        dataset.test.image_paths,
        fold_probs.mean(0),
        dataset.class_names,
        prepared.read.test_targets,
        fold_probs=fold_probs,
    )


def _fold_probs(fitted: "Fitted", features: np.ndarray, fold: int) -> np.ndarray:
    """Average a fold's heads."""
    assert fitted.heads is not None
    return mean_probs(fitted.heads, fitted.spec, features, [i for i, of_fold in enumerate(fitted.folds) if of_fold == fold])


def _finish(out: Path, recipe: Recipe, material: Material, fitted: "Fitted", cost: Cost, files: list[str]) -> None:
    extractor, prepared = material.extractor, material.prepared
    dataset = prepared.read.dataset
    warnings = [*dataset.problems, *few_drawings(dataset, recipe.folds.k)]
    write_cost(out, {**cost.as_json(), "precision": extractor.backbone.precision, "device": extractor.device})
    write_manifest(
        out,
        {
            "class_names": list(dataset.class_names),
            "class_targets": dataset.class_targets.tolist(),
            "members": [f"fold {fold}" for fold in fitted.folds],
            "backbone": extractor.backbone.as_json(),
            "data_fingerprint": prepared.read.fingerprint,
            "warnings": [str(problem) for problem in warnings],
        },
        ["recipe.yaml", "cost.json", *files],
    )


def check_options(root: str | Path, settings: Sequence[str]) -> tuple[DataOptions, int]:
    """Read `inkfold check`'s settings by the recipe's own grammar.

    Args:
        root: The folder of drawings.
        settings: `on_broken=skip`, `data.label_column=word`, `folds.group_column=who`, `k=5`.

    Returns:
        The options and the number of folds.

    Raises:
        RecipeError: With every problem.
    """
    sections = {"k": "folds.k", "group_column": "folds.group_column"}
    named = [f"{sections.get(text.partition('=')[0], text.partition('=')[0])}={text.partition('=')[2]}" for text in settings]
    dotted = [text if "." in text.partition("=")[0] else f"data.{text}" for text in named]
    recipe = settle_recipe({"backbone": {"name": "none"}}, tuple(dotted), root)
    return data_options(recipe), recipe.folds.k
