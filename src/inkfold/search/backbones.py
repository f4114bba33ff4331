"""Comparison of backbones on a data set: out-of-fold accuracy of a cosine head on frozen features, and its cost."""

import fnmatch
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from inkfold.config.recipe import Recipe
from inkfold.data.dataset import Dataset, read_dataset
from inkfold.errors import InkfoldError, RecipeError
from inkfold.evaluation.intervals import proportion_interval
from inkfold.evaluation.paired import mcnemar
from inkfold.evaluation.predictions import Predictions, evaluation_mask, is_worth_reporting
from inkfold.features.executors import INLINE, Executor, open_executor
from inkfold.models import ink_small as inksmall
from inkfold.models.at_hand import local_names
from inkfold.models.published import PUBLISHED
from inkfold.models.weights import BackboneInfo, BackboneSpec, find_weights_file
from inkfold.pipeline.build import TrainingPlan, build_plan, data_options, settle_recipe
from inkfold.pipeline.inputs import assign_to_folds, build_training_set, prepare_inputs
from inkfold.pipeline.out_of_fold import predict_held_out, shared_features
from inkfold.pipeline.prepare import ReadData, read_files
from inkfold.pipeline.run import backbone_spec
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.hashing import digest

log = logging.getLogger("inkfold.search")

# Small first: what a CPU can afford.
USUAL = (
    inksmall.NAME,
    "mobilenetv3_small_100.lamb_in1k",
    "mobilenetv2_100.ra_in1k",
    "tf_efficientnet_lite0.in1k",
    "resnet18.a1_in1k",
    "convnext_atto.d2_in1k",
    "efficientnet_b0.ra_in1k",
)
USUAL_ON_GPU = (
    "resnet50.fb_swsl_ig1b_ft_in1k",
    "vit_base_patch16_clip_224.laion2b_ft_in1k",
    "convnext_base.clip_laion2b_augreg_ft_in12k_in1k_384",
    "convnext_large_mlp.clip_laion2b_augreg_ft_in1k_384",
    "eva02_large_patch14_448.mim_m38m_ft_in22k_in1k",
)
# A head that suits any backbone: it uses directions only, so the features' scale has no influence.
RECIPE: dict[str, Any] = {
    "head": {"kind": "cosine"},
    "train_head": {
        "epochs": 12,
        "batch_size": 256,
        "optimiser": "adamw",
        "lr": 8e-3,
        "weight_decay": 0.1,
        "label_smoothing": 0.1,
    },
}


@dataclass(frozen=True, slots=True)
class BackboneScore:
    """How one backbone does on a data set.

    Attributes:
        name: The backbone's full name in timm, with the tag of its weights, such as `resnet18.a1_in1k`.
        accuracy: Out-of-fold accuracy, 0 to 1.
        accuracy_ci95: 95 % interval of the accuracy; whole groups of drawings are resampled where there are some.
        p_value: P-value of the difference from the best backbone, by `paired_difference`; 1 for the best itself.
        images_per_s: Features computed per second on this machine; None if that is not known.
        parameters: Number of parameters without a classifier.
        weights_bytes: Size of the weights in the precision of the forward pass.
        image_size: Side of the square input in px.
        precision: Precision of the forward pass: `float32` or `bfloat16`.
        forwards: Number of forward passes that this comparison needed; the other features were in the bank.
        imagenet_sketch_top1: Published accuracy of its own classifier on ImageNet-Sketch, percent; None if none is known for
            these very weights: a local file of the same name may hold others.
        n: Number of drawings scored, the same for all backbones.
        learnt: Number of training drawings that its weights were trained on before, as far as a list beside them says; 0 where
            they are too few to matter.
        groups: Number of groups of drawings that the interval and the p-value resample; None where drawings are independent.
    """

    name: str
    accuracy: float
    accuracy_ci95: tuple[float, float]
    p_value: float
    images_per_s: float | None
    parameters: int
    weights_bytes: int
    image_size: int
    precision: str
    forwards: int
    imagenet_sketch_top1: float | None
    n: int
    learnt: int
    groups: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Give all fields as JSON values, by name."""
        return {**asdict(self), "accuracy_ci95": list(self.accuracy_ci95)}


@dataclass(frozen=True, slots=True)
class _Trial:
    """A backbone's predictions: whether each is right, which drawings its weights were trained on before, and all groups."""

    score: BackboneScore
    right: Bool[np.ndarray, " n"]
    seen_in_pretraining: Bool[np.ndarray, " n"]
    groups: Int64[np.ndarray, " n"] | None


def explore(
    data: str | Path | None,
    patterns: Sequence[str] = (),
    overrides: Sequence[str] = (),
    *,
    sample: int | None = None,
    progress: Progress = silent,
    on: str | Executor = INLINE,
) -> tuple[list[BackboneScore], dict[str, str]]:
    """Compare backbones on a data set; features that are in the bank are not computed again.

    Args:
        data: The folder of labelled drawings, or a table in it; None takes the overrides' `data.root`.
        patterns: timm's names, also with `*`; none compares the weights in INKFOLD_WEIGHTS and some usual backbones.
        overrides: `dotted.key=value` of the recipe that all backbones share.
        sample: Approximate number of training drawings, in the classes' shares, but one of each class at least; None uses all.
        progress: Receives each stage's name, steps done and steps in total.
        on: Where features are computed; see `train`.

    Returns:
        The backbones' scores, the most accurate first, and, by name, why others could not be tried. Drawings that a backbone's
        weights were trained on before are left out of all scores.

    Raises:
        RecipeError: If an override doesn't validate or a pattern matches nothing.
        DataError: With every problem of the data.
    """
    opening = open_executor(on)
    names = backbone_names(patterns)
    first = _recipe(names[0], overrides, data)
    dataset = read_dataset(str(first.data.root), data_options(first, with_submission=False))
    dataset = dataset if sample is None else _sampled(dataset, sample, first.seed)
    cost = Cost()
    read = read_files(replace(dataset, test=None), cost, progress)
    trials: dict[str, _Trial] = {}
    problems: dict[str, str] = {}
    with opening as executor:
        for i, name in enumerate(names):
            progress("backbones", i, len(names))
            try:
                trial = _try_out(_recipe(name, overrides, data), read, progress, executor)
            except InkfoldError as error:
                log.info("%s: not tried: %s", name, error)
                problems[name] = str(error)
                continue
            trials.setdefault(trial.score.name, trial)
    progress("backbones", len(names), len(names))
    return _rank([*trials.values()]), problems


def _rank(trials: Sequence[_Trial]) -> list[BackboneScore]:
    """Score all by the drawings that no weights were trained on, and order them; by all drawings where that leaves none."""
    if not trials:
        return []
    scored = evaluation_mask(np.logical_or.reduce([trial.seen_in_pretraining for trial in trials]))
    ranked = sorted(trials, key=lambda trial: (-trial.right[scored].mean(), trial.score.name))
    best, groups = ranked[0].right[scored], ranked[0].groups
    groups = None if groups is None else groups[scored]
    scores = [(trial, trial.right[scored]) for trial in ranked]
    return [
        replace(
            trial.score,
            accuracy=float(right.mean()),
            accuracy_ci95=interval.bounds,
            p_value=mcnemar(best, right, groups),
            n=len(right),
            groups=interval.groups,
        )
        for trial, right, interval in ((trial, right, proportion_interval(right, groups)) for trial, right in scores)
    ]


def backbone_names(patterns: Sequence[str]) -> list[str]:
    """List the backbones that patterns match, each once.

    Args:
        patterns: timm's names, also with `*`; none gives local weights and usual backbones.

    Raises:
        RecipeError: If a pattern matches nothing.
    """
    if not patterns:
        from inkfold.models.backbone import choose_device  # noqa: PLC0415 - torch takes a second

        usual = USUAL if choose_device().type == "cpu" else (*USUAL, *USUAL_ON_GPU)
        local = local_names()
        return [*local, *(name for name in usual if not {name, name.partition(".")[0]} & {*local})]
    names = []
    for pattern in patterns:
        matches = _matches(pattern) if set(pattern) & set("*?[") else [pattern]
        if not matches:
            raise RecipeError(f"backbones: '{pattern}' matches none of timm's pretrained models. See timm.list_pretrained().")
        names += matches
    return list(dict.fromkeys(names))


def _matches(pattern: str) -> list[str]:
    from inkfold.models.torchvision_compat import declare_missing_operators  # noqa: PLC0415

    declare_missing_operators()
    import timm  # noqa: PLC0415 - seconds

    return fnmatch.filter(sorted({inksmall.NAME, *timm.list_pretrained(), *local_names()}), pattern)


def _recipe(name: str, overrides: Sequence[str], data: str | Path | None) -> Recipe:
    return settle_recipe({**RECIPE, "backbone": {"name": name}}, tuple(overrides), data)


def _sampled(dataset: Dataset, count: int, seed: int) -> Dataset:
    """Take a share of every class, at least one drawing, in an order that the seed and the image paths decide."""
    targets = dataset.train.targets
    assert targets is not None
    share = count / len(targets)
    keys = np.array([digest(f"{seed}|{name}".encode()) for name in dataset.train.image_paths.tolist()])
    rows = []
    for target in np.unique(targets):
        of_class = np.flatnonzero(targets == target)
        rows.append(of_class[np.argsort(keys[of_class])][: max(1, round(share * len(of_class)))])
    return replace(dataset, train=dataset.train.select(np.sort(np.concatenate(rows))))


def _try_out(recipe: Recipe, read: ReadData, progress: Progress, executor: Executor) -> _Trial:
    from inkfold.models.backbone import count_parameters  # noqa: PLC0415 - torch takes a second

    cost = Cost()
    plan = build_plan(recipe, executor)
    predictions = _cross_validate(plan, read, cost, progress)
    right: Bool[np.ndarray, " n"] = predictions.preds == predictions.targets
    seen = predictions.seen
    if seen is None or not is_worth_reporting(int(seen.sum()), len(seen)):
        seen = np.zeros_like(right)
    info = plan.extractor.backbone
    parameters = sum(count_parameters(part.backbone) for part in plan.extractor.parts)
    spent = f"{cost.forwards} forwards, {cost.forwards_cached} from the bank"
    log.info("%s: accuracy %.4f out of fold, %s", info.name, right.mean(), spent)
    score = BackboneScore(
        name=info.name,
        accuracy=math.nan,  # this and the next two are settled when all have been tried
        accuracy_ci95=(math.nan, math.nan),
        p_value=math.nan,
        images_per_s=plan.extractor.rate(),
        parameters=parameters,
        weights_bytes=parameters * (2 if info.precision == "bfloat16" else 4),
        image_size=info.image_size,
        precision=info.precision,
        forwards=cost.forwards,
        imagenet_sketch_top1=published(info, backbone_spec(recipe, info.precision)),
        n=len(right),
        learnt=int(seen.sum()),
    )
    return _Trial(score, right, seen, predictions.groups)


def _cross_validate(plan: TrainingPlan, read: ReadData, cost: Cost, progress: Progress) -> Predictions:
    """Fit the head in every fold, and predict each drawing by the fold that held it out."""
    from inkfold.heads.fit import fit_trials  # noqa: PLC0415 - torch takes a second

    inputs = prepare_inputs(plan, read, cost, progress, compare_readings=False)
    folds = assign_to_folds(plan.recipe, inputs.prepared)
    training_set = build_training_set(inputs, folds)
    [fitted] = fit_trials(training_set, [plan.trial], device=plan.device, threads_per_group=1, progress=progress)
    if fitted.heads is None:
        raise RecipeError(f"train_head.lr: with {plan.recipe.train_head.lr:g} the head's training diverged. Lower it.")
    features = shared_features(inputs.features, None, folds)
    return predict_held_out(features, inputs.prepared, plan.test_views, folds, fitted)


def published(info: BackboneInfo, spec: BackboneSpec) -> float | None:
    """Look up a backbone's published accuracy on ImageNet-Sketch: top-1, percent.

    None if there is none, or the weights may be others: untrained, or a local file.
    """
    own = info.init_seed is not None or find_weights_file(spec) is not None
    row = None if own else PUBLISHED.get(info.name)
    return None if row is None else row.imagenet_sketch_top1


def explored_json(data: str | Path, scores: Sequence[BackboneScore], problems: Mapping[str, str]) -> str:
    """Give the result of `explore` as JSON text."""
    return json.dumps(
        {"data": str(data), "backbones": [score.as_json() for score in scores], "problems": dict(problems)},
        indent=2,
        ensure_ascii=False,
    )
