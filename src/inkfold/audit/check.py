"""`inkfold check`: reads a data set, decodes every drawing, and reports all problems and duplicates.

Nothing is written but the signatures by which duplicates are found, which go to the cache.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from inkfold.data.dataset import DataOptions, Dataset, few_drawings, read_dataset
from inkfold.data.duplicate_groups import CopyGroup, count_groups, counts_in_words, find_groups, group_problems
from inkfold.data.fingerprints import SignatureStore
from inkfold.data.layouts import find_tables
from inkfold.data.submission_sample import find_sample
from inkfold.data.submission_settings import propose_settings
from inkfold.data.types import Drawings
from inkfold.errors import Problem
from inkfold.images.decode import DEFAULT_PIXEL_LIMIT, BrokenImage, decode_image
from inkfold.runtime.parallel import map_in_processes
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.cache import home
from inkfold.storage.hashing import DIGEST_DTYPE, digest
from inkfold.storage.pixels import digest_files

CHUNK = 64
log = logging.getLogger("inkfold.audit")


@dataclass(frozen=True, slots=True)
class Checkup:
    """What the check of a data set found.

    Attributes:
        dataset: The part of the data set that could be read.
        problems: Everything that is wrong: errors, which hinder training, and warnings, which don't.
        counts: Numbers of drawings, classes, broken files and duplicates, by name.
        groups: Groups of duplicates; None where duplicates were not searched.
    """

    dataset: Dataset
    problems: tuple[Problem, ...]
    counts: dict[str, Any]
    groups: tuple[CopyGroup, ...] | None = None

    @property
    def ok(self) -> bool:
        """Whether training can start on the data as they are: there are warnings at most."""
        return all(problem.severity == "warning" for problem in self.problems)

    @property
    def can_skip(self) -> bool:
        """Whether `data.on_broken=skip` would leave out all that hinders training."""
        errors = [problem for problem in self.problems if problem.severity == "error"]
        return all(problem.kind.startswith("broken_") or problem.kind == "missing_file" for problem in errors)

    @property
    def lines(self) -> dict[str, str]:
        """The counts in words, by their names; without the names of classes."""
        words = {
            "drawings_per_class": lambda counts: ", ".join(f"{name} {count:g}" for name, count in counts.items()),
            "duplicates_found": counts_in_words,
        }
        return {name: words.get(name, str)(count) for name, count in self.counts.items() if name != "class_names"}

    def as_json(self) -> dict[str, Any]:
        """Return the findings as JSON values."""
        problems = [
            {"kind": one.kind, "severity": one.severity, "where": one.where, "message": one.message} for one in self.problems
        ]
        groups = {} if self.groups is None else {"duplicates": [group.as_json() for group in self.groups]}
        return {"ok": self.ok, **self.counts, "problems": problems, **groups}


def check_data(
    root: str | Path,
    options: DataOptions | None = None,
    *,
    k: int = 5,
    pixel_limit: int = DEFAULT_PIXEL_LIMIT,
    duplicates: bool = True,
    progress: Progress = silent,
) -> Checkup:
    """Read a data set, decode every drawing, and find duplicates.

    Args:
        root: The folder of the data set, or a table in it.
        options: How to read the data set; None for the defaults.
        k: Number of folds; a class with fewer drawings gets a warning.
        pixel_limit: A drawing with more pixels counts as broken.
        duplicates: Whether to search for duplicates; their signatures are kept in the cache.
        progress: Called after each chunk of drawings.

    Returns:
        All problems, counts and duplicates.

    Raises:
        DataError: If the root doesn't exist or contains no data set.
        CacheError: If signatures can't be written to the cache.
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
    counts |= _submission_in_words(Path(root), dataset, options)
    log.info("%s: %s layout, %d training and %d test drawings", root, counts["layout"], counts["n_train"], counts["n_test"])
    if signatures is None:
        return Checkup(dataset, tuple(problems), counts)
    groups = find_groups(dataset, list(decoded.values()), signatures, progress)
    problems += group_problems(groups)
    return Checkup(dataset, tuple(problems), {**counts, "duplicates_found": count_groups(groups)}, tuple(groups))


def _decode(
    name: str, drawings: Drawings, signatures: SignatureStore | None, pixel_limit: int, progress: Progress
) -> tuple[Shaped[np.ndarray, " n"], list[tuple[str, str, str]]]:
    """Decode each file, or compute its signature where there is a store for it.

    Returns the files' digests, empty for broken ones, and kind, path and message of each broken one.
    """
    present = np.flatnonzero(drawings.files != "")
    files = [str(file) for file in drawings.files[present]]
    digests = np.zeros(len(drawings), DIGEST_DTYPE)
    if signatures is None:
        tasks = [(files[i : i + CHUNK], pixel_limit) for i in range(0, len(files), CHUNK)]
        chunks = map_in_processes(_inspect, tasks, [len(task[0]) for task in tasks], f"decoding {name}", progress)
        results = [result for chunk in chunks for result in chunk]
        digests[present] = [file_digest for file_digest, _, _ in results]
        broken = [(int(row), kind, text) for row, (_, kind, text) in zip(present, results, strict=True) if kind]
    else:
        digests[present], unread = digest_files(files, progress)
        read = np.flatnonzero(digests[present] != b"")
        undecoded = signatures.build([files[place] for place in read], digests[present[read]], progress)
        broken = [(int(present[one.index]), one.kind, one.message) for one in unread]
        broken += [(int(present[read[one.index]]), one.kind, one.message) for one in undecoded]
        digests[[row for row, _, _ in broken]] = b""
    return digests, [(kind, str(drawings.image_paths[row]), text) for row, kind, text in sorted(broken)]


def _counts(dataset: Dataset, decoded: dict[str, Shaped[np.ndarray, " n"]]) -> dict[str, Any]:
    per_class = np.bincount(np.asarray(dataset.train.targets, np.int64), minlength=len(dataset.class_names))
    train, test = ([name for name in decoded.get(part, np.empty(0)).tolist() if name] for part in ("train", "test"))
    return {
        "root": str(dataset.root),
        "layout": dataset.layout,
        "n_train": len(dataset.train),
        "n_test": 0 if dataset.test is None else len(dataset.test),
        "num_classes": len(dataset.class_names),
        "drawings_per_class": {
            "min": int(per_class.min()) if len(per_class) else 0,
            "median": float(np.median(per_class)) if len(per_class) else 0.0,
            "max": int(per_class.max(initial=0)),
        },
        "identical_files_in_train": len(train) - len(set(train)),
        "test_files_also_in_train": len(set(train) & set(test)),
        "class_names": list(dataset.class_names),
    }


def _submission_in_words(root: Path, dataset: Dataset, options: DataOptions) -> dict[str, str]:
    """Say which form the submission will have, or how another one is had where no sample says it."""
    if dataset.submission is not None:
        return {"submission": dataset.submission.summary}
    if dataset.test is None or dataset.test.targets is not None or dataset.sample_submission is not None:
        return {}
    if options.submission.columns is not None or find_sample([dataset.root], None, []) is not None:
        return {}
    tables = find_tables(root.resolve(), dataset.layout, options)
    return {"submission": propose_settings(options, tables["train"])}


def _inspect(files: list[str], pixel_limit: int) -> list[tuple[str, str, str]]:
    """Decode each file; return its digest, and the kind and message of its problem, both empty if it has none."""
    results = []
    for file in files:
        try:
            data = Path(file).read_bytes()
            decode_image(data, pixel_limit=pixel_limit)
            results.append((digest(data), "", ""))
        except BrokenImage as error:
            results.append(("", error.kind, str(error)))
        except OSError as error:
            results.append(("", "missing_file", f"{error.strerror}. Restore the file or leave it out."))
    return results
