"""The main path: recipe + drawings -> run directory. Read this first, top to bottom.

Each stage leaves files (pixels and features in the cache, the rest in the run), and `manifest.json` is written last: a run
killed anywhere continues where it was, with the same result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float32

from inkfold.atomic import write_json
from inkfold.augment import IDENTITY, View
from inkfold.config import Recipe, StageRecipe, load_recipe, merge_overrides, validate_recipe
from inkfold.curriculum import Curriculum, Stage
from inkfold.dataset import DataOptions, few_drawings, read_dataset
from inkfold.errors import DataError, RecipeError
from inkfold.folds import assign_folds
from inkfold.heads import head_probs
from inkfold.home import home
from inkfold.metrics import mcnemar, measure
from inkfold.operations import parse_operations
from inkfold.predictions import SUBMISSION_COLUMNS, Predictions, SubmissionPart, write_submission
from inkfold.prepare import Prepared, decode, read_files
from inkfold.progress import Progress, silent
from inkfold.run import HEADS, Run, backbone_spec, head_spec, image_options, load_run, prediction_views
from inkfold.rundir import claimed, finished_run, write_cost, write_heads, write_manifest
from inkfold.sources import Cost, Extractor, ViewFeatures
from inkfold.weights import resolve_backbone

if TYPE_CHECKING:
    from inkfold.training import Epoch

OUT_OF_FOLD = "predictions/out_of_fold.parquet"
TEST = "predictions/test.parquet"
SUBMISSION = "submission.csv"
CURVE = "curve.json"


@dataclass(frozen=True, slots=True)
class Results:
    """What was fitted and predicted.

    Attributes:
        members: True where a member learnt from a drawing.
        heads: The fitted tensors.
        curve: What each epoch came to.
        out_of_fold: What members say of drawings that they have not seen.
        test: What they say of the test drawings; None without any.
        plain: Out of fold without test-time views; None where there are none.
    """

    members: Bool[np.ndarray, "members n"]
    heads: Mapping[str, Float32[np.ndarray, "members rows columns"]]
    curve: Sequence["Epoch"]
    out_of_fold: Predictions
    test: Predictions | None
    plain: Predictions | None


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
        with cost.timed("backbone"):
            extractor = build_extractor(recipe)
        curriculum, test_views = build_curriculum(recipe), prediction_views(recipe)
        views = tuple(dict.fromkeys((IDENTITY, *curriculum.views(), *test_views)))
        prepared = decode(read, extractor, recipe.data.on_broken, cost, progress, views=views, test_views=test_views)
        features = extractor.extract(prepared.digests, cost, progress, views)
        test_features = None
        if prepared.test_digests is not None and len(prepared.test_digests):
            test_features = extractor.extract(prepared.test_digests, cost, progress, test_views)
        members = split(recipe, prepared)
        with cost.timed("fit"):
            heads, curve = _fit(recipe, prepared, features, curriculum, members, progress)
        with cost.timed("predict"):
            out_of_fold = _predict_held_out(recipe, prepared, features, test_views, members, heads)
            test = _predict_test(recipe, prepared, test_features, test_views, len(members), heads)
            plain = _predict_held_out(recipe, prepared, features, (IDENTITY,), members, heads) if recipe.tta else None
        results = Results(members, heads, curve, out_of_fold, test, plain)
        files = _write(out, recipe, prepared, results)
        _finish(out, recipe, prepared, results, (extractor, cost), files)
    return load_run(out)


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


def split(recipe: Recipe, prepared: Prepared) -> Bool[np.ndarray, "members n"]:
    """Deal the training drawings into parts, and give each member all but its own.

    Args:
        recipe: With the kind of split; `holdout` holds out part 0, or val/ where the data have it.
        prepared: The drawings.

    Returns:
        True where a member learns from a drawing.

    Raises:
        DataError: If a member would have nothing to learn from, or nothing is held out.
    """
    train, holdout = prepared.read.dataset.train, recipe.folds.split == "holdout"
    if holdout and train.given_val is not None:
        folds = np.where(train.given_val[prepared.rows], 0, 1)
    else:
        groups = None if train.groups is None else train.groups[prepared.rows]
        folds = assign_folds(prepared.targets, prepared.digests, recipe.folds.k, recipe.seed, groups)
    members = np.stack([folds != fold for fold in range(1 if holdout else recipe.folds.k)])
    if members.all() or not members.any(1).all():
        what = "no drawing is held out" if members.all() else "all drawings are held out at once, so none is learnt from"
        raise DataError(f"{prepared.read.dataset.root}: {what}. Add drawings or groups, or choose another folds.split.")
    return members


def _fit(
    recipe: Recipe,
    prepared: Prepared,
    features: ViewFeatures,
    curriculum: Curriculum,
    members: Bool[np.ndarray, "members n"],
    progress: Progress,
) -> tuple[dict[str, np.ndarray], list["Epoch"]]:
    from inkfold.backbone import choose_device, choose_precision  # noqa: PLC0415 - torch takes a second
    from inkfold.training import FitSettings, Schooling, fit_heads  # noqa: PLC0415

    given = recipe.fit.model_dump()
    given["precision"] = choose_precision(given["precision"], choose_device("cpu"))
    schedule = given.pop("schedule")
    steps = {f"step_{name}": schedule[name] for name in ("every", "gamma") if name in schedule}
    return fit_heads(
        features.read(),
        prepared.targets,
        members,
        head_spec(recipe),
        FitSettings(**given, schedule=schedule["kind"], **steps),
        len(prepared.read.dataset.class_names),
        schooling=Schooling(lambda epoch: features.read(curriculum.view(epoch)), curriculum.lr_factors()),
        seed=recipe.seed,
        progress=progress,
    )


def _predict_held_out(
    recipe: Recipe,
    prepared: Prepared,
    features: ViewFeatures,
    views: Sequence[View],
    members: Bool[np.ndarray, "members n"],
    heads: Mapping[str, np.ndarray],
) -> Predictions:
    """Let each member answer for the drawings that it has not seen, the mean over views; rows in the table's order."""
    dataset = prepared.read.dataset
    probs = np.zeros((len(prepared.rows), len(dataset.class_names)), np.float32)
    folds = np.zeros(len(prepared.rows), np.int64)
    for view in views:
        shown = features.read(view)
        for member, seen in enumerate(members):
            probs[~seen] += head_probs(heads, head_spec(recipe), shown[~seen], member) / len(views)
            folds[~seen] = member
    held_out = np.flatnonzero(~members.all(0))
    held_out = held_out[np.argsort(prepared.rows[held_out])]
    rows = prepared.rows[held_out]
    return Predictions(
        dataset.train.image_paths[rows], probs[held_out], dataset.class_names, prepared.targets[held_out], folds[held_out]
    )


def _predict_test(
    recipe: Recipe,
    prepared: Prepared,
    features: ViewFeatures | None,
    views: Sequence[View],
    members: int,
    heads: Mapping[str, np.ndarray],
) -> Predictions | None:
    """Let every member answer, and average; a drawing that can't be read gets the classes' shares in training."""
    dataset = prepared.read.dataset
    if dataset.test is None:
        return None
    shares = np.bincount(prepared.targets, minlength=len(dataset.class_names)) / len(prepared.rows)
    fold_probs = np.empty((members, len(dataset.test), len(dataset.class_names)), np.float32)
    fold_probs[:] = shares
    if features is not None:
        fold_probs[:, prepared.test_whole] = 0
        for view in views:
            shown = features.read(view)
            for member in range(members):
                fold_probs[member, prepared.test_whole] += head_probs(heads, head_spec(recipe), shown, member) / len(views)
    return Predictions(
        dataset.test.image_paths,
        fold_probs.mean(0),
        dataset.class_names,
        prepared.read.test_targets,
        fold_probs=fold_probs,
    )


def _metrics(recipe: Recipe, prepared: Prepared, results: Results) -> dict[str, Any]:
    out_of_fold, test = results.out_of_fold, results.test
    assert out_of_fold.targets is not None
    assert out_of_fold.folds is not None
    folds = []
    for member, seen in enumerate(results.members):
        rows = out_of_fold.folds == member
        if rows.any():
            figures = measure(out_of_fold.probs[rows], out_of_fold.targets[rows])
            folds.append({"fold": member, "n_train": int(seen.sum()), **figures})
    metrics = {
        "data": {
            "n_train": len(prepared.rows),
            "n_test": 0 if test is None else len(test.probs),
            "num_classes": len(out_of_fold.class_names),
            "skipped": prepared.skipped,
        },
        "split": recipe.folds.split,
        "out_of_fold": measure(out_of_fold.probs, out_of_fold.targets, out_of_fold.class_names),
        "folds": folds,
    }
    if results.plain is not None:
        metrics["tta"] = {"views": list(recipe.tta), **_gain(results.plain, out_of_fold)}
    if test is not None and test.targets is not None:
        metrics["test"] = measure(test.probs, test.targets, test.class_names)
    return metrics


def _gain(before: Predictions, after: Predictions) -> dict[str, Any]:
    """Say what a change did to the accuracy out of fold, and whether it could be chance."""
    assert before.targets is not None
    right = [predictions.preds == before.targets for predictions in (before, after)]
    return {
        "accuracy_without": float(right[0].mean()),
        "accuracy_with": float(right[1].mean()),
        "p_value": mcnemar(right[0], right[1]),
    }


def _write(out: Path, recipe: Recipe, prepared: Prepared, results: Results) -> list[str]:
    dataset, test = prepared.read.dataset, results.test
    write_heads(out, results.heads, dataset.class_names)
    results.out_of_fold.save(out / OUT_OF_FOLD)
    write_json(out / "metrics.json", _metrics(recipe, prepared, results))
    write_json(out / CURVE, _curve(recipe, results.curve))
    if test is None:
        return [HEADS, OUT_OF_FOLD, "metrics.json", CURVE]
    test.save(out / TEST)
    sample = dataset.sample_submission
    ids = None if sample is None else sample.ids.tolist()
    columns = SUBMISSION_COLUMNS
    if sample is not None:
        known: dict[str, SubmissionPart] = {recipe.data.path_column: "path", recipe.data.target_column: "target"}
        columns = {name: known.get(name, "id") for name in sample.columns}
    values = dataset.class_targets[test.preds]
    write_submission(out / SUBMISSION, test.image_paths, values, dataset.class_targets, ids, columns)
    return [HEADS, OUT_OF_FOLD, "metrics.json", CURVE, TEST, SUBMISSION]


def _curve(recipe: Recipe, curve: Sequence["Epoch"]) -> dict[str, Any]:
    """Give the training curve with its stages as JSON values."""
    curriculum = build_curriculum(recipe)
    stages = [
        {
            "stage": number,
            "epochs": stage.epochs,
            "augment": [str(operation) for operation in stage.operations],
            "views": stage.views or "per_epoch",
            "lr_factor": stage.lr_factor,
        }
        for number, stage in enumerate(curriculum.stages)
    ]
    points = [
        {"epoch": epoch, "stage": curriculum.stage(epoch), "view": str(curriculum.view(epoch)), **asdict(point)}
        for epoch, point in enumerate(curve)
    ]
    return {"stages": stages, "epochs": points}


def _finish(
    out: Path, recipe: Recipe, prepared: Prepared, results: Results, work: tuple[Extractor, Cost], files: list[str]
) -> None:
    (extractor, cost), dataset = work, prepared.read.dataset
    warnings = [*dataset.problems, *few_drawings(dataset, recipe.folds.k)]
    write_cost(out, {**cost.as_json(), "precision": extractor.backbone.precision, "device": extractor.device})
    write_manifest(
        out,
        {
            "class_names": list(dataset.class_names),
            "class_targets": dataset.class_targets.tolist(),
            "members": [f"fold {member}" for member in range(len(results.members))],
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
