"""The members of `inkfold vote`: finished runs and files of predictions, read, labelled and given different names."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from inkfold.config.sections import TieRule
from inkfold.data.dataset import Dataset, read_dataset
from inkfold.data.types import DataOptions, Drawings
from inkfold.ensemble.external import Classes, read_member
from inkfold.ensemble.matching import match_drawings
from inkfold.ensemble.member_predictions import MemberPredictions
from inkfold.ensemble.methods import METHODS, VotingMethod
from inkfold.ensemble.model import Ensemble, load_run
from inkfold.errors import PredictionError, Problem, RecipeError
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.build import check_options
from inkfold.pipeline.manifest import MANIFEST
from inkfold.pipeline.run import Run
from inkfold.pipeline.run_files import OUT_OF_FOLD, TEST
from inkfold.storage.hashing import digest, digest_file, key_digest

VOTE_NAMES = {VotingMethod(kind, hot, ties).name for kind in METHODS for hot in (False, True) for ties in get_args(TieRule)}


@dataclass(frozen=True, slots=True)
class LoadedMember:
    """A member of an ensemble, with the run that it comes from.

    Attributes:
        predictions: Its out-of-fold and test predictions, with its name.
        run: The run, which can predict new drawings; None for a file of predictions.
        directory: The run's directory, relative to the ensemble's; None for a file, and for a run that isn't below it yet.
    """

    predictions: MemberPredictions
    run: Run | None = None
    directory: str | None = None


@dataclass(frozen=True, slots=True)
class NamedData:
    """The data that a vote takes class names and true labels from.

    Attributes:
        dataset: Its classes, their numbers, and the paths and labels of its drawings.
        options: The options that the dataset was read with, among them the names of the tables' columns.
    """

    dataset: Dataset
    options: DataOptions

    @property
    def classes(self) -> Classes:
        """The classes, for files that only number them."""
        options = self.options
        return Classes(self.dataset.class_names, self.dataset.class_targets, options.path_column, options.target_column)

    @property
    def fingerprint(self) -> str:
        """A digest of everything that a vote takes from the data."""
        dataset, sample = self.dataset, self.dataset.sample_submission
        tables = [(None, None) if part is None else (part.image_paths, part.targets) for part in (dataset.train, dataset.test)]
        return key_digest(
            {
                "class_names": dataset.class_names,
                "class_targets": dataset.class_targets.tolist(),
                "tables": [[None if column is None else column.tolist() for column in table] for table in tables],
                "sample": None if sample is None else [sample.columns, sample.ids.tolist()],
                **({} if dataset.submission is None else {"submission": dataset.submission.as_json()}),
            }
        )


def read_named_data(data: str | Path | None, settings: Sequence[str]) -> NamedData | None:
    """Read the data that a vote names; None if it names none.

    Args:
        data: The data's folder or table; None if the vote names none.
        settings: `data.key=value`, or `key=value`: how the data are read.

    Raises:
        RecipeError: If the settings don't validate, or there are settings but no data.
        DataError: With every problem of the data.
    """
    if data is None:
        if settings:
            raise RecipeError(f"data: is missing, which {', '.join(settings)} would say how to read. Add --data DIR.")
        return None
    options, _ = check_options(Path(data).absolute(), settings)
    return NamedData(read_dataset(data, options), options)


def load_members(paths: Sequence[Path], data: NamedData | None = None) -> list[LoadedMember]:
    """Read every member of a vote.

    Args:
        paths: Directories of finished runs; files of predictions; directories with such files.
        data: Class names and true labels for files that have none; None uses the first run's class names.

    Returns:
        The members, named after their files; no two share a name, and none has a voting method's name.

    Raises:
        PredictionError: With every problem of every member.
    """
    problems: list[Problem] = []
    runs = _load_runs(paths, problems)
    classes = None if data is None else data.classes
    if classes is None and runs:
        first = next(iter(runs.values()))
        columns = first.recipe.data
        classes = Classes(first.classes_, first.class_targets, columns.path_column, columns.target_column)
    members = []
    for path in paths:
        if path not in runs and (path / MANIFEST).is_file():
            continue
        try:
            member = (
                member_of_run(runs[path], path.resolve().name) if path in runs else LoadedMember(read_member(path, classes))
            )
            if data is not None:
                member = replace(member, predictions=with_labels(member.predictions, data.dataset))
            members.append(member)
        except PredictionError as error:
            problems += _problems(path, error)
    if problems:
        raise PredictionError(problems)
    names = tell_apart([member.predictions.name for member in members])
    return [
        replace(member, predictions=replace(member.predictions, name=name)) for member, name in zip(members, names, strict=True)
    ]


def _load_runs(paths: Sequence[Path], problems: list[Problem]) -> dict[Path, Run]:
    """Load each finished run among the members once; what can't be loaded is appended to the problems."""
    runs: dict[Path, Run] = {}
    for path in dict.fromkeys(path for path in paths if (path / MANIFEST).is_file()):
        try:
            loaded = load_run(path)
            if isinstance(loaded, Ensemble):
                raise PredictionError(f"{path}: is an ensemble, expected a run of one model. Name its members instead.")
            runs[path] = loaded
        except PredictionError as error:
            problems += _problems(path, error)
    return runs


def member_of_run(run: Run, name: str) -> LoadedMember:
    """Make a member of a vote out of a finished run: its out-of-fold and test predictions.

    Args:
        run: A finished run of one model; an ensemble can't be a member.
        name: What tables and messages call the member; no two members of a vote may share it.

    Raises:
        PredictionError: If its predictions can't be read.
    """
    test = Predictions.load(run.path / TEST) if (run.path / TEST).is_file() else None
    return LoadedMember(MemberPredictions(name, Predictions.load(run.path / OUT_OF_FOLD), test, run.path), run)


def tell_apart(names: Sequence[str]) -> list[str]:
    """Make members' names unique by numbers behind those that occur twice or that a voting method has."""
    distinct: list[str] = []
    for name in names:
        alone = names.count(name) == 1 and name not in VOTE_NAMES
        numbered = (f"{name} {number}" for number in itertools.count(1))
        distinct.append(name if alone else next(text for text in numbered if text not in {*distinct, *names, *VOTE_NAMES}))
    return distinct


def with_labels(member: MemberPredictions, dataset: Dataset) -> MemberPredictions:
    """Add the data's true labels to a member's predictions that have none.

    Raises:
        PredictionError: If the member's classes or drawings aren't the data's.
    """
    labelled, problems = dict[str, Any](), list[Problem]()
    for part, drawings in (("out_of_fold", dataset.train), ("test", dataset.test)):
        predictions: Predictions | None = getattr(member, part)
        if predictions is None:
            continue
        where = f"{member.name}, {part.replace('_', ' ')}"
        if {*predictions.class_names} != {*dataset.class_names}:
            odd = sorted({*predictions.class_names} ^ {*dataset.class_names})
            text = f"has {len(predictions.class_names)} classes, the data {len(dataset.class_names)}, not both have {odd[0]!r}"
            problems.append(Problem("classes", where, f"{text}. Name the data that it was made for."))
        elif drawings is not None:
            own, known = _matched(predictions, drawings)
            problems += _drawing_problems(where, own, known, whole=part == "test")
            if not problems and predictions.targets is None and drawings.targets is not None:
                targets = _labels(predictions, own, known, drawings.targets, dataset.class_names)
                labelled[part] = replace(predictions, targets=targets)
    if problems:
        raise PredictionError(problems)
    return replace(member, **labelled)


def digest_member(path: Path) -> str:
    """Digest the source of a member's predictions: a run's manifest, a file, or all files of a directory."""
    if (path / MANIFEST).is_file():
        return digest((path / MANIFEST).read_bytes())
    beside = [path.with_suffix(".csv")] if path.suffix.lower() == ".npy" else []  # it names the array's rows
    files = sorted(path.iterdir()) if path.is_dir() else [path, *beside]
    return key_digest({"files": [[file.name, digest(file.read_bytes())] for file in files if file.is_file()]})


def _problems(path: Path, error: PredictionError) -> Sequence[Problem]:
    return error.problems or [Problem("member", str(path), str(error).removeprefix(f"{path}: "))]


def _matched(predictions: Predictions, drawings: Drawings) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Number the rows of predictions and of the data by their drawings, with their paths.

    The data's files are read, to match them by content, only where paths don't fit and the predictions know contents.
    """
    names, class_names = drawings.image_paths, predictions.class_names
    data = Predictions(names, np.empty((len(names), 0)), class_names)
    pair = match_drawings([data, replace(predictions, targets=None, digests=None)])
    if predictions.digests is not None and not np.isin(pair[1], pair[0]).all():
        files = [digest_file(Path(file)) if file else "" for file in drawings.files.tolist()]
        pair = match_drawings([replace(data, digests=np.array(files, "S")), predictions])
    known, own = (
        [*zip(numbers.tolist(), paths.tolist(), strict=True)]
        for numbers, paths in zip(pair, (names, predictions.image_paths), strict=True)
    )
    return own, known


def _drawing_problems(
    where: str, own: Sequence[tuple[int, str]], known: Sequence[tuple[int, str]], *, whole: bool
) -> list[Problem]:
    """Find drawings that the data don't have, and, of a part that must be whole, those that are missing."""
    problems = []
    for some, others, what in ((own, known, "that are not in the data"), (known, own if whole else known, "too few")):
        there = {number for number, _ in others}
        if odd := {number: path for number, path in some if number not in there}:
            first = min(odd.values())
            text = f"has {len(odd)} drawings {what}, such as '{first}'. Name the data that it was made for, or complete it."
            problems.append(Problem("drawings", where, text))
    return problems


def _labels(
    predictions: Predictions,
    own: Sequence[tuple[int, str]],
    known: Sequence[tuple[int, str]],
    targets: np.ndarray,
    class_names: Sequence[str],
) -> np.ndarray:
    target_of = {number: target for (number, _), target in zip(known, targets.tolist(), strict=True)}
    columns = np.array([predictions.class_names.index(name) for name in class_names], np.int64)
    return columns[[target_of[number] for number, _ in own]]
