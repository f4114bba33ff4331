"""`inkfold check`: a data set read and judged, every drawing decoded, nothing written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inkfold.dataset import DataOptions, Dataset, few_drawings, read_dataset
from inkfold.errors import Problem
from inkfold.images import DEFAULT_PIXEL_LIMIT, BrokenImage, decode_image
from inkfold.progress import Progress, silent
from inkfold.shards import digest
from inkfold.store import map_in_processes

CHUNK = 64


@dataclass(frozen=True, slots=True)
class Checkup:
    """What was found.

    Attributes:
        dataset: What could be read.
        problems: All of them, errors and warnings.
        counts: Figures for people and programs.
    """

    dataset: Dataset
    problems: tuple[Problem, ...]
    counts: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether training could start as the data are."""
        return all(problem.severity == "warning" for problem in self.problems)

    def as_json(self) -> dict[str, Any]:
        """Give the findings as JSON values."""
        found = [
            {"kind": one.kind, "severity": one.severity, "where": one.where, "message": one.message} for one in self.problems
        ]
        return {"ok": self.ok, **self.counts, "problems": found}


def check_data(
    root: str | Path,
    options: DataOptions | None = None,
    *,
    k: int = 5,
    pixel_limit: int = DEFAULT_PIXEL_LIMIT,
    progress: Progress = silent,
) -> Checkup:
    """Read a data set and decode every drawing.

    Args:
        root: The folder, or a table.
        options: How to read it.
        k: Number of folds that each class should fill.
        pixel_limit: Drawings with more pixels are broken.
        progress: Told after each chunk.

    Returns:
        Everything that was found.

    Raises:
        DataError: If the root doesn't exist or holds nothing like a data set.
    """
    options = options or DataOptions()
    dataset = read_dataset(root, options, strict=False)
    problems = [*dataset.problems, *few_drawings(dataset, k)]
    answers = {}
    for name, drawings in (("train", dataset.train), ("test", dataset.test)):
        if drawings is None:
            continue
        present = np.flatnonzero(drawings.files != "")
        files = [str(file) for file in drawings.files[present]]
        tasks = [(files[i : i + CHUNK], pixel_limit) for i in range(0, len(files), CHUNK)]
        chunks = map_in_processes(_inspect, tasks, [len(task[0]) for task in tasks], f"decoding {name}", progress)
        answers[name] = [answer for chunk in chunks for answer in chunk]
        problems += [
            Problem(f"broken_{kind}", f"{name} {drawings.image_paths[row]}", message, options.missing)
            for row, (_, kind, message) in zip(present, answers[name], strict=True)
            if kind
        ]
    return Checkup(dataset, tuple(problems), _counts(dataset, answers))


def _counts(dataset: Dataset, answers: dict[str, list[tuple[str, str, str]]]) -> dict[str, Any]:
    per_class = np.bincount(np.asarray(dataset.train.targets, np.int64), minlength=len(dataset.class_names))
    digests = {name: [found for found, kind, _ in rows if not kind] for name, rows in answers.items()}
    train, test = digests.get("train", []), digests.get("test", [])
    return {
        "root": str(dataset.root),
        "layout": dataset.layout,
        "n_train": len(dataset.train),
        "n_test": 0 if dataset.test is None else len(dataset.test),
        "num_classes": len(dataset.class_names),
        "drawings_per_class": {
            "min": int(per_class.min(initial=0)) if not len(per_class) else int(per_class.min()),
            "median": float(np.median(per_class)) if len(per_class) else 0.0,
            "max": int(per_class.max(initial=0)),
        },
        "broken": sum(bool(kind) for rows in answers.values() for _, kind, _ in rows),
        "identical_files_in_train": len(train) - len(set(train)),
        "test_files_also_in_train": sum(found in set(train) for found in set(test)),
        "class_names": list(dataset.class_names),
    }


def _inspect(files: list[str], pixel_limit: int) -> list[tuple[str, str, str]]:
    """Decode each file; give its digest, and what is wrong: kind and message, empty when nothing is."""
    found = []
    for file in files:
        try:
            data = Path(file).read_bytes()
            decode_image(data, pixel_limit=pixel_limit)
            found.append((digest(data), "", ""))
        except BrokenImage as error:
            found.append(("", error.kind, str(error)))
        except OSError as error:
            found.append(("", "missing_file", f"{error.strerror}. Restore the file or leave it out."))
    return found
