"""`inkfold check`: a data set read and judged, every drawing decoded; nothing is written but, for duplicates, the cache."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from inkfold.data.dataset import DataOptions, Dataset, few_drawings, read_dataset
from inkfold.data.duplicate_groups import CopyGroup, count_groups, find_groups, group_problems
from inkfold.data.fingerprints import SignatureStore
from inkfold.data.types import Drawings
from inkfold.errors import Problem
from inkfold.images.decode import DEFAULT_PIXEL_LIMIT, BrokenImage, decode_image
from inkfold.runtime.parallel import map_in_processes
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.cache import home
from inkfold.storage.hashing import DIGEST_DTYPE, digest
from inkfold.storage.pixels import digest_files

CHUNK = 64


@dataclass(frozen=True, slots=True)
class Checkup:
    """What was found.

    Attributes:
        dataset: What could be read.
        problems: All of them, errors and warnings.
        counts: Figures for people and programs.
        groups: Drawings that are one drawing; None where nobody looked.
    """

    dataset: Dataset
    problems: tuple[Problem, ...]
    counts: dict[str, Any]
    groups: tuple[CopyGroup, ...] | None = None

    @property
    def ok(self) -> bool:
        """Whether training could start as the data are."""
        return all(problem.severity == "warning" for problem in self.problems)

    def as_json(self) -> dict[str, Any]:
        """Give the findings as JSON values."""
        found = [
            {"kind": one.kind, "severity": one.severity, "where": one.where, "message": one.message} for one in self.problems
        ]
        groups = {} if self.groups is None else {"duplicates": [group.as_json() for group in self.groups]}
        return {"ok": self.ok, **self.counts, "problems": found, **groups}


def check_data(
    root: str | Path,
    options: DataOptions | None = None,
    *,
    k: int = 5,
    pixel_limit: int = DEFAULT_PIXEL_LIMIT,
    duplicates: bool = True,
    progress: Progress = silent,
) -> Checkup:
    """Read a data set, decode every drawing, and find those that are one drawing.

    Args:
        root: The folder, or a table.
        options: How to read it.
        k: Number of folds that each class should fill.
        pixel_limit: Drawings with more pixels are broken.
        duplicates: Whether to look for drawings that are one drawing, whose signatures go to the cache.
        progress: Told after each chunk.

    Returns:
        Everything that was found.

    Raises:
        DataError: If the root doesn't exist or holds nothing like a data set.
        CacheError: If signatures can't be kept.
    """
    options = options or DataOptions()
    dataset = read_dataset(root, options, strict=False)
    problems = [*dataset.problems, *few_drawings(dataset, k)]
    signatures = SignatureStore(home() / "signatures", pixel_limit) if duplicates else None
    decoded = {}
    for name, drawings in (("train", dataset.train), ("test", dataset.test)):
        if drawings is None:
            continue
        decoded[name], broken = _decode(name, drawings, signatures, pixel_limit, progress)
        problems += [Problem(f"broken_{kind}", f"{name} {path}", text, options.missing) for kind, path, text in broken]
    counts = {**_counts(dataset, decoded), "broken": sum(problem.kind.startswith("broken_") for problem in problems)}
    if signatures is None:
        return Checkup(dataset, tuple(problems), counts)
    groups = find_groups(dataset, list(decoded.values()), signatures, progress)
    problems += group_problems(groups)
    return Checkup(dataset, tuple(problems), {**counts, "duplicates_found": count_groups(groups)}, tuple(groups))


def _decode(
    name: str, drawings: Drawings, signatures: SignatureStore | None, pixel_limit: int, progress: Progress
) -> tuple[Shaped[np.ndarray, " n"], list[tuple[str, str, str]]]:
    """Decode each file, or sign it where that is wanted; give digests, empty where broken, and kind, path, message of those."""
    present = np.flatnonzero(drawings.files != "")
    files = [str(file) for file in drawings.files[present]]
    digests = np.zeros(len(drawings), DIGEST_DTYPE)
    if signatures is None:
        tasks = [(files[i : i + CHUNK], pixel_limit) for i in range(0, len(files), CHUNK)]
        chunks = map_in_processes(_inspect, tasks, [len(task[0]) for task in tasks], f"decoding {name}", progress)
        answers = [answer for chunk in chunks for answer in chunk]
        digests[present] = [found for found, _, _ in answers]
        wrong = [(int(row), kind, text) for row, (_, kind, text) in zip(present, answers, strict=True) if kind]
    else:
        digests[present], unread = digest_files(files, progress)
        read = np.flatnonzero(digests[present] != b"")
        undecoded = signatures.build([files[place] for place in read], digests[present[read]], progress)
        wrong = [(int(present[one.index]), one.kind, one.message) for one in unread]
        wrong += [(int(present[read[one.index]]), one.kind, one.message) for one in undecoded]
        digests[[row for row, _, _ in wrong]] = b""
    return digests, [(kind, str(drawings.image_paths[row]), text) for row, kind, text in sorted(wrong)]


def _counts(dataset: Dataset, decoded: dict[str, Shaped[np.ndarray, " n"]]) -> dict[str, Any]:
    per_class = np.bincount(np.asarray(dataset.train.targets, np.int64), minlength=len(dataset.class_names))
    train, test = ([found for found in decoded.get(name, np.empty(0)).tolist() if found] for name in ("train", "test"))
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
