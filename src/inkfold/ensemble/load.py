"""The members of `inkfold vote`: finished runs and other people's files, read, labelled and told apart."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from inkfold.data.dataset import Dataset, read_dataset
from inkfold.data.types import DataOptions, Drawings
from inkfold.ensemble.answers import MemberPredictions, path_keys
from inkfold.ensemble.external import Classes, read_member
from inkfold.ensemble.methods import METHODS, VotingMethod
from inkfold.ensemble.model import Ensemble, load_any
from inkfold.ensemble.voting import TieRule
from inkfold.errors import PredictionError, Problem, RecipeError
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.build import check_options
from inkfold.pipeline.manifest import MANIFEST
from inkfold.pipeline.run import Run
from inkfold.pipeline.run_files import OUT_OF_FOLD, TEST
from inkfold.storage.hashing import digest, key_digest

VOTE_NAMES = {VotingMethod(method, hot, ties).name for method in METHODS for hot in (False, True) for ties in get_args(TieRule)}


@dataclass(frozen=True, slots=True)
class LoadedMember:
    """One member.

    Attributes:
        panelist: What it says.
        run: Which can be asked about new drawings; None for a mere file.
    """

    panelist: MemberPredictions
    run: Run | None = None


@dataclass(frozen=True, slots=True)
class NamedData:
    """Data that name classes and true labels.

    Attributes:
        dataset: The data.
        options: How they were read.
    """

    dataset: Dataset
    options: DataOptions

    @property
    def classes(self) -> Classes:
        """For files that only number their classes."""
        options = self.options
        return Classes(self.dataset.class_names, self.dataset.class_targets, options.path_column, options.target_column)

    @property
    def fingerprint(self) -> str:
        """Of all that a vote takes from them."""
        dataset, sample = self.dataset, self.dataset.sample_submission
        tables = [(None, None) if part is None else (part.image_paths, part.targets) for part in (dataset.train, dataset.test)]
        return key_digest(
            {
                "class_names": dataset.class_names,
                "class_targets": dataset.class_targets.tolist(),
                "tables": [[None if column is None else column.tolist() for column in table] for table in tables],
                "sample": None if sample is None else [sample.columns, sample.ids.tolist()],
            }
        )


def read_named_data(data: str | Path | None, settings: Sequence[str]) -> NamedData | None:
    """Read the data that a vote names.

    Args:
        data: Their place; None if nobody named them.
        settings: `data.key=value`, or `key=value`.

    Returns:
        The data, None without any.

    Raises:
        RecipeError: If the settings don't validate, or there are settings of no data.
        DataError: With every problem of the data.
    """
    if data is None:
        if settings:
            raise RecipeError(f"data: is missing, which {', '.join(settings)} would say how to read. Add --data DIR.")
        return None
    options, _ = check_options(Path(data).absolute(), settings)
    return NamedData(read_dataset(data, options), options)


def load_members(paths: Sequence[Path], data: NamedData | None = None) -> list[LoadedMember]:
    """Read every member.

    Args:
        paths: Runs; files of predictions; directories with such files.
        data: Names the classes and the true labels for those that don't.

    Returns:
        The members, called after their files, no two alike and none like a way to vote.

    Raises:
        PredictionError: With every problem of every member.
    """
    problems: list[Problem] = []
    runs: dict[Path, Run] = {}
    for path in dict.fromkeys(path for path in paths if (path / MANIFEST).is_file()):
        try:
            loaded = load_any(path)
            if isinstance(loaded, Ensemble):
                raise PredictionError(f"{path}: is an ensemble, expected a run of one model. Name its members instead.")
            runs[path] = loaded
        except PredictionError as error:
            problems += _problems(path, error)
    classes = None if data is None else data.classes
    if classes is None and runs:
        classes = _classes_of(next(iter(runs.values())))
    voters = []
    for path in paths:
        if path not in runs and (path / MANIFEST).is_file():
            continue
        try:
            voter = member_of_run(runs[path], path.resolve().name) if path in runs else LoadedMember(read_member(path, classes))
            voters.append(voter if data is None else replace(voter, panelist=with_labels(voter.panelist, data.dataset)))
        except PredictionError as error:
            problems += _problems(path, error)
    if problems:
        raise PredictionError(problems)
    names = tell_apart([voter.panelist.name for voter in voters])
    return [replace(voter, panelist=replace(voter.panelist, name=name)) for voter, name in zip(voters, names, strict=True)]


def member_of_run(run: Run, name: str) -> LoadedMember:
    """Take what a finished run says.

    Args:
        run: Of one model.
        name: What to call it.

    Returns:
        The member.

    Raises:
        PredictionError: If its predictions can't be read.
    """
    test = Predictions.load(run.path / TEST) if (run.path / TEST).is_file() else None
    return LoadedMember(MemberPredictions(name, Predictions.load(run.path / OUT_OF_FOLD), test, run.path), run)


def tell_apart(names: Sequence[str]) -> list[str]:
    """Number the names that are there twice, and those that a way to vote has."""
    found: list[str] = []
    for name in names:
        alone = names.count(name) == 1 and name not in VOTE_NAMES
        numbered = (f"{name} {number}" for number in itertools.count(1))
        found.append(name if alone else next(one for one in numbered if one not in {*found, *names, *VOTE_NAMES}))
    return found


def with_labels(panelist: MemberPredictions, dataset: Dataset) -> MemberPredictions:
    """Add the data's true labels to predictions that have none.

    Args:
        panelist: A member.
        dataset: The data.

    Returns:
        The member with labels.

    Raises:
        PredictionError: If its classes or drawings aren't the data's.
    """
    labelled, problems = dict[str, Any](), list[Problem]()
    for part, drawings in (("out_of_fold", dataset.train), ("test", dataset.test)):
        given: Predictions | None = getattr(panelist, part)
        if given is None:
            continue
        where = f"{panelist.name}, {part.replace('_', ' ')}"
        if {*given.class_names} != {*dataset.class_names}:
            odd = sorted({*given.class_names} ^ {*dataset.class_names})
            text = f"has {len(given.class_names)} classes, the data {len(dataset.class_names)}, not both have {odd[0]!r}"
            problems.append(Problem("classes", where, f"{text}. Name the data that it was made for."))
        elif drawings is not None:
            problems += _drawing_problems(where, given, drawings, whole=part == "test")
            if not problems and given.targets is None and drawings.targets is not None:
                labelled[part] = replace(given, targets=_labels(given, drawings, dataset.class_names))
    if problems:
        raise PredictionError(problems)
    return replace(panelist, **labelled)


def digest_member(path: Path) -> str:
    """Digest all that a member's answers come from.

    Args:
        path: A run, a file, or a directory of files.

    Returns:
        A digest that changes when they do.
    """
    if (path / MANIFEST).is_file():
        return digest((path / MANIFEST).read_bytes())
    beside = [path.with_suffix(".csv")] if path.suffix.lower() == ".npy" else []  # it names the array's rows
    files = sorted(path.iterdir()) if path.is_dir() else [path, *beside]
    return key_digest({"files": [[file.name, digest(file.read_bytes())] for file in files if file.is_file()]})


def _problems(path: Path, error: PredictionError) -> Sequence[Problem]:
    return error.problems or [Problem("member", str(path), str(error).removeprefix(f"{path}: "))]


def _classes_of(run: Run) -> Classes:
    data = run.recipe.data
    return Classes(run.classes_, run.class_targets, data.path_column, data.target_column)


def _drawing_problems(where: str, given: Predictions, drawings: Drawings, *, whole: bool) -> list[Problem]:
    """Tell which drawings the data don't have, and, of a part that must be whole, which are missing."""
    own, theirs = ({*path_keys(paths.tolist())} for paths in (given.image_paths, drawings.image_paths))
    problems = []
    for odd, what in ((own - theirs, "that are not in the data"), (theirs - own if whole else set[str](), "too few")):
        if odd:
            text = f"has {len(odd)} drawings {what}, such as '{min(odd)}'. Name the data that it was made for, or complete it."
            problems.append(Problem("drawings", where, text))
    return problems


def _labels(given: Predictions, drawings: Drawings, class_names: Sequence[str]) -> np.ndarray:
    assert drawings.targets is not None
    target_of = dict(zip(path_keys(drawings.image_paths.tolist()), drawings.targets.tolist(), strict=True))
    columns = np.array([given.class_names.index(name) for name in class_names], np.int64)
    labels: np.ndarray = columns[[target_of[key] for key in path_keys(given.image_paths.tolist())]]
    return labels
