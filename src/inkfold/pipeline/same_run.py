"""Finds what made a finished run and is different now: it is returned for the same recipe only if all of that is the same.

Recipe and drawings are compared elsewhere (`run_dir`). Here are the files that a recipe only names, and the versions by which
inkfold itself tells cached results apart: of timm, which builds the networks, and of inkfold's own rules. Other packages, such
as PyTorch, change the last bits of some figures at most: a log line names those that are different.
"""

import logging
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from inkfold.augment.views import AUGMENT_VERSION
from inkfold.config.recipe import Recipe
from inkfold.data.class_prior import ClassPrior
from inkfold.data.duplicates import COMPARED_VERSION
from inkfold.data.fingerprints import SIGNATURE_VERSION
from inkfold.data.lines import LINES_VERSION
from inkfold.errors import InkfoldError, PredictionError, Problem
from inkfold.images.preprocess import FITTING_VERSION
from inkfold.images.statistics import STATISTICS_VERSION
from inkfold.models.weights import UNTRAINED, BackboneInfo, BackboneSpec, digest_weights, find_weights_file, resolve_backbone
from inkfold.pipeline.manifest import MANIFEST
from inkfold.pipeline.run import Run, backbone_specs
from inkfold.storage.cache import home
from inkfold.storage.hashing import digest_file

log = logging.getLogger("inkfold.pipeline")

RULES = {
    "fitting": FITTING_VERSION,
    "views": AUGMENT_VERSION,
    "copies": COMPARED_VERSION,
    "signatures": SIGNATURE_VERSION,
    "lines": LINES_VERSION,
    "statistics": STATISTICS_VERSION,
}
OTHER_OUT = "Choose another out= for the new run."


def made_by(recipe: Recipe) -> dict[str, Any]:
    """Describe for the manifest what made a run besides its recipe, its drawings, its backbones and its class prior.

    Args:
        recipe: The run's recipe, with nothing left open.

    Returns:
        JSON values: the versions of inkfold's rules, and the digest of the teacher's manifest where the run has a teacher.
    """
    teacher = _teacher(recipe)
    return {"rules": RULES, **({} if teacher is None else {"teacher": teacher})}


def refuse_changes(run: Run, recipe: Recipe, prior: ClassPrior | None) -> None:
    """Refuse to return a finished run that the same recipe would now make otherwise.

    Args:
        run: The finished run, of this recipe and of the drawings as they are.
        recipe: The recipe, whose files are looked at as they are now. One that is gone can't have changed the run, and is
            reported in the log alone.
        prior: The class prior that the recipe names, read now; None if it names none.

    Raises:
        PredictionError: With everything that is different now.
    """
    problems = [*_backbone_changes(run, recipe), *_prior_changes(run, prior), *_made_by_changes(run, recipe)]
    if problems:
        raise PredictionError(problems)
    _warn_of_packages(run)


def _backbone_changes(run: Run, recipe: Recipe) -> list[Problem]:
    raw = [run.manifest["backbone"], *run.manifest.get("beside", ())]
    trained = [BackboneInfo.from_json(values) for values in raw]
    specs = backbone_specs(recipe, trained[0].precision)
    return [problem for pair in zip(specs, trained, strict=False) for problem in _changes_of_backbone(run.path, *pair)]


def _changes_of_backbone(out: Path, spec: BackboneSpec, trained: BackboneInfo) -> list[Problem]:
    """Compare a backbone with the one that a run was trained with; no weights are downloaded for that."""
    try:
        now = _key_now(spec, trained)
    except (InkfoldError, OSError) as error:
        log.warning("%s: can't be compared with its backbone: %s", out, str(error).splitlines()[0])
        return []
    before, source = trained.key(), trained.weights_source
    return [
        Problem("other_backbone", f"{out}: {trained.name}", f"{name} {_was(before.get(name), value)} ({source}). {OTHER_OUT}")
        for name, value in now.items()
        if before.get(name) != value
    ]


def _key_now(spec: BackboneSpec, trained: BackboneInfo) -> dict[str, Any]:
    """Return all that decides the features, as far as it can be known without a network."""
    if spec.weights == UNTRAINED or find_weights_file(spec) is not None:
        return resolve_backbone(spec, home() / "backbones").key()
    now = {"timm_version": version("timm")}
    if trained.weights_file is None or not Path(trained.weights_file).is_file():
        log.warning("%s: its weights are gone from %s, so they can't be compared", spec.name, trained.weights_file)
        return now
    return {**now, "weights_digest": digest_weights(Path(trained.weights_file))}


def _prior_changes(run: Run, prior: ClassPrior | None) -> list[Problem]:
    before = run.prior
    if prior is None or before is None or (prior.shares, prior.trained) == (before.shares, before.trained):
        return []
    names = [name for name, old, new in zip(run.classes_, before.shares, prior.shares, strict=True) if old != new]
    text = f"has other shares than the run was made with, of {', '.join(names[:5])}{' and others' if len(names) > 5 else ''}"
    return [Problem("other_prior", f"{run.path}: predict.prior {prior.source}", f"{text}. {OTHER_OUT}")]


def _made_by_changes(run: Run, recipe: Recipe) -> list[Problem]:
    """Compare what `made_by` describes; manifests of versions that didn't write it have nothing to compare."""
    before = run.manifest.get("made_by", {})
    known = {name: number for name, number in before.get("rules", {}).items() if name in RULES}
    problems = [
        Problem("other_rules", f"{run.path}: inkfold's rules of {name}", f"{_was(number, RULES[name])}. {OTHER_OUT}")
        for name, number in known.items()
        if number != RULES[name]
    ]
    teacher = _teacher(recipe)
    if teacher is not None and before.get("teacher", teacher) != teacher:
        where = f"{run.path}: finetune.teacher {recipe.finetune.teacher}"
        problems.append(Problem("other_teacher", where, f"is another run than it was. {OTHER_OUT}"))
    return problems


def _teacher(recipe: Recipe) -> str | None:
    """Digest the teacher's manifest, which has the digests of all of its files; None without a teacher, or if it is gone."""
    teacher = recipe.finetune.teacher if recipe.is_finetuned else None
    if teacher is None or not (Path(teacher) / MANIFEST).is_file():
        return None
    return digest_file(Path(teacher) / MANIFEST)


def _warn_of_packages(run: Run) -> None:
    """Log which packages have another version than the run was made with."""
    other = []
    for name, before in run.manifest.get("versions", {}).items():
        try:
            now = version(name)
        except PackageNotFoundError:  # Python itself, or one that isn't needed any more
            continue
        if now != before:
            other.append(f"{name} {before} (now {now})")
    if other:
        log.warning("%s: was made with %s; to train again with those of now, choose another out=", run.path, ", ".join(other))


def _was(before: Any, now: Any) -> str:
    return f"is {before!r} there, {now!r} now"
