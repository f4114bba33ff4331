"""`inkfold check`: reads a data set, decodes every drawing, and reports all problems and duplicates.

Nothing is written but the signatures by which duplicates are found, and the pages' statistics, which go to the cache.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from inkfold.audit.changed_pages import ChangedPages, find_changed_pages, pages_in_words
from inkfold.config.recipe import Recipe
from inkfold.data.blank import blank_problems, find_left_out
from inkfold.data.copy_units import Copies
from inkfold.data.corrections import corrections_in_words
from inkfold.data.dataset import DataOptions, Dataset, few_drawings, read_dataset
from inkfold.data.duplicate_groups import CopyGroup, count_groups, counts_in_words, find_groups, group_problems
from inkfold.data.fold_notes import describe_folds
from inkfold.data.layouts import find_tables
from inkfold.data.lines import CopyStores
from inkfold.data.splits import assign_folds
from inkfold.data.submission_sample import find_sample
from inkfold.data.submission_settings import propose_settings
from inkfold.data.types import Drawings
from inkfold.errors import Problem
from inkfold.images.blank import is_blank
from inkfold.images.decode import DEFAULT_PIXEL_LIMIT, BrokenImage
from inkfold.images.page import Page
from inkfold.runtime.display import fit_line
from inkfold.runtime.parallel import map_in_processes
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.cache import home
from inkfold.storage.hashing import DIGEST_DTYPE, digest
from inkfold.storage.pixels import PageStore, build_rows, digest_files, missing_file
from inkfold.storage.statistics import StatisticsStore

CHUNK = 64
DEFAULT_SEED: int = Recipe.model_fields["seed"].default
log = logging.getLogger("inkfold.audit")


@dataclass(frozen=True, slots=True, repr=False)
class Checkup:
    """What the check of a data set found.

    Attributes:
        dataset: The part of the data set that could be read.
        problems: Everything that is wrong: errors, which hinder training, and warnings, which don't.
        counts: Numbers of drawings, classes, broken files and duplicates, by name.
        groups: Groups of duplicates; None where duplicates were not searched.
        pages: The pages that reading changes; None where duplicates were not searched, as it takes the cache too.
    """

    dataset: Dataset
    problems: tuple[Problem, ...]
    counts: dict[str, Any]
    groups: tuple[CopyGroup, ...] | None = None
    pages: ChangedPages | None = None

    def __repr__(self) -> str:
        errors = sum(problem.severity == "error" for problem in self.problems)
        first = f"\n  {fit_line(str(self.problems[0]))}" if self.problems else ""
        found = f"{'ok' if self.ok else 'not ok'}: {errors} errors, {len(self.problems) - errors} warnings"
        return f"<Checkup {found}, {len(self.dataset.train):,} training drawings{first}>"

    @property
    def ok(self) -> bool:
        """Whether training can start on the data as they are: there are warnings at most."""
        return all(problem.severity == "warning" for problem in self.problems)

    @property
    def can_skip(self) -> bool:
        """Whether `data.on_broken=skip` would leave out all that hinders training."""
        errors = [problem for problem in self.problems if problem.severity == "error"]
        return all(_is_broken_drawing(problem) or problem.kind == "missing_file" for problem in errors)

    @property
    def lines(self) -> dict[str, str]:
        """The counts in words, by their names; without the names of classes."""
        words: dict[str, Callable[[Any], str]] = {
            "drawings_per_class": lambda counts: ", ".join(f"{name} {count:g}" for name, count in counts.items()),
            "duplicates_found": counts_in_words,
            "pages": pages_in_words,
            "groups": lambda groups: f"{groups['groups']} by {groups['key']}",
            "corrections": corrections_in_words,
        }
        return {name: words.get(name, str)(count) for name, count in self.counts.items() if name != "class_names"}

    def as_json(self) -> dict[str, Any]:
        """Return the findings as JSON values."""
        problems = [
            {"kind": one.kind, "severity": one.severity, "where": one.where, "message": one.message} for one in self.problems
        ]
        groups = {} if self.groups is None else {"duplicates": [group.as_json() for group in self.groups]}
        return {"ok": self.ok, **self.counts, "problems": problems, **groups}


def _is_broken_drawing(problem: Problem) -> bool:
    return problem.kind.startswith("broken_") and problem.kind not in ("broken_csv", "broken_parquet")


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
        duplicates: Whether to search for duplicates; the drawings' signatures and statistics are then kept in the cache.
        progress: Called after each chunk of drawings.

    Returns:
        All problems, counts and duplicates.

    Raises:
        DataError: If the root doesn't exist or contains no data set.
        CacheError: If signatures or statistics can't be written to the cache.
    """
    options = options or DataOptions()
    dataset = read_dataset(root, options, strict=False)
    problems = [*dataset.problems, *few_drawings(dataset, k)]
    copy_stores, statistics = CopyStores.open(home(), pixel_limit), StatisticsStore(home() / "statistics", pixel_limit)
    stores: tuple[PageStore, ...] = (statistics, *copy_stores.both)
    decoded = {}
    for name, drawings in (("train", dataset.train), ("test", dataset.test)):
        if drawings is None:
            continue
        decoded[name] = _decode(name, drawings, (statistics, stores) if duplicates else None, pixel_limit, progress)
        broken = decoded[name].broken
        problems += [Problem(f"broken_{kind}", f"{name} {path}", text, options.missing) for kind, path, text in broken]
    problems += _unreadable_classes(dataset, decoded["train"].digests)
    problems += _blank_problems(dataset, decoded, options)
    counts = {
        **_counts(dataset, {name: one.digests for name, one in decoded.items()}),
        "broken": sum(map(_is_broken_drawing, problems)),
        "blank": sum(int(one.blank.sum()) for one in decoded.values()),
    }
    if dataset.grouping is not None:
        counts["groups"] = dataset.grouping.as_json(dataset.train.all_groups)
    counts |= _submission_in_words(Path(root), dataset, options)
    log.info("%s: %s layout, %d training and %d test drawings", root, counts["layout"], counts["n_train"], counts["n_test"])
    if not duplicates:
        problems += _fold_problems(dataset, decoded["train"].digests, (), k)
        return Checkup(dataset, tuple(problems), counts)
    groups = find_groups(dataset, [one.digests for one in decoded.values()], copy_stores, progress)
    problems += group_problems(groups)
    problems += _fold_problems(dataset, decoded["train"].digests, groups, k)
    pages = _changed_pages(dataset, decoded, statistics)
    counts |= {"duplicates_found": count_groups(groups), "pages": pages.counts}
    return Checkup(dataset, tuple(problems), counts, tuple(groups), pages)


@dataclass(frozen=True, slots=True)
class _Decoded:
    """What decoding a table's drawings found.

    Attributes:
        digests: Digests of the files, empty for broken and missing ones.
        blank: True for drawings without ink.
        broken: Kind, path and message of each broken drawing.
    """

    digests: Shaped[np.ndarray, " n"]
    blank: Bool[np.ndarray, " n"]
    broken: list[tuple[str, str, str]]


def _decode(
    name: str,
    drawings: Drawings,
    stores: tuple[StatisticsStore, Sequence[PageStore]] | None,
    pixel_limit: int,
    progress: Progress,
) -> _Decoded:
    """Decode each file once; its signature and statistics are computed where there are stores for them."""
    present = np.flatnonzero(drawings.files != "")
    files = [str(file) for file in drawings.files[present]]
    digests, blank = np.zeros(len(drawings), DIGEST_DTYPE), np.zeros(len(drawings), bool)
    if stores is None:
        tasks = [(files[i : i + CHUNK], pixel_limit) for i in range(0, len(files), CHUNK)]
        chunks = map_in_processes(_inspect, tasks, [len(task[0]) for task in tasks], f"decoding {name}", progress)
        results = [result for chunk in chunks for result in chunk]
        digests[present] = [result.digest for result in results]
        blank[present] = [result.blank for result in results]
        broken = [(int(row), result.kind, result.message) for row, result in zip(present, results, strict=True) if result.kind]
    else:
        digests[present], unread = digest_files(files, progress)
        read = np.flatnonzero(digests[present] != b"")
        everything = np.ones(len(read), bool)
        wanted: dict[PageStore, np.ndarray] = dict.fromkeys(stores[1], everything)
        undecoded = build_rows(wanted, [files[place] for place in read], digests[present[read]], progress)
        broken = [(int(present[one.index]), one.kind, one.message) for one in unread]
        broken += [(int(present[read[one.index]]), one.kind, one.message) for one in undecoded]
        digests[[row for row, _, _ in broken]] = b""
        whole = np.flatnonzero(digests != b"")
        blank[whole] = stores[0].blank(digests[whole])
    reported = [(kind, str(drawings.image_paths[row]), text) for row, kind, text in sorted(broken)]
    return _Decoded(digests, blank, reported)


def _changed_pages(dataset: Dataset, decoded: Mapping[str, _Decoded], statistics: StatisticsStore) -> ChangedPages:
    """Find the pages that reading changes, by the statistics that decoding has stored."""
    parts = {part: table for part, table in (("train", dataset.train), ("test", dataset.test)) if table is not None}
    digests = {part: decoded[part].digests for part in parts}
    records = {part: statistics.read(own[own != b""]) for part, own in digests.items()}
    return find_changed_pages(parts, digests, records)


def _fold_problems(dataset: Dataset, digests: Shaped[np.ndarray, " n"], copies: Sequence[CopyGroup], k: int) -> list[Problem]:
    """Divide the drawings as training does by default, and report folds that groups or copies make lopsided."""
    train = dataset.train
    used = np.flatnonzero(digests != b"")
    if train.targets is None or len(used) < k or (train.all_groups is None and not copies):
        return []
    row_of = dict(zip(train.image_paths[used].tolist(), range(len(used)), strict=True))
    matches = []
    for group in copies:
        rows = [row_of.get(member.image_path, -1) if member.part != "test" else -1 for member in group.members]
        ends = ((match, rows[match.first], rows[match.second]) for match in group.matches)
        matches += [replace(match, first=first, second=second) for match, first, second in ends if min(first, second) >= 0]
    targets, named = train.targets[used], None if train.all_groups is None else train.all_groups[used]
    known = Copies.of(digests[used], matches)
    parts = assign_folds(targets, digests[used], k, DEFAULT_SEED, known.units(k) if named is None else named)
    folds = known.leave_out(np.stack([parts == fold for fold in range(k)]), k, targets)
    return [
        Problem("folds", f"{k} folds", text, "warning") for text in describe_folds(folds, targets, dataset.class_names, named)
    ]


def _blank_problems(dataset: Dataset, decoded: Mapping[str, _Decoded], options: DataOptions) -> list[Problem]:
    """Report the drawings without ink, and what training will do with them."""
    problems = []
    for part, drawings in (("train", dataset.train), ("test", dataset.test)):
        if drawings is None:
            continue
        rows = np.flatnonzero(decoded[part].blank)
        names, class_names, left_out = drawings.image_paths[rows].tolist(), None, None
        if part == "train" and drawings.targets is not None:
            readable, targets = decoded[part].digests != b"", drawings.targets
            away = np.zeros(len(drawings), bool)
            blank = decoded[part].blank[readable]
            away[readable] = find_left_out(blank, targets[readable], len(dataset.class_names), options.on_blank)
            class_names, left_out = [dataset.class_names[target] for target in targets[rows]], away[rows].tolist()
        problems += blank_problems(part, names, options.on_blank, class_names, left_out)
    return problems


def _unreadable_classes(dataset: Dataset, digests: Shaped[np.ndarray, " n"]) -> list[Problem]:
    """Warn of classes that have drawings, none of which can be read."""
    targets = np.asarray(dataset.train.targets, np.int64)
    all_counts, whole = (np.bincount(rows, minlength=len(dataset.class_names)) for rows in (targets, targets[digests != b""]))
    text = "none of its {} drawing(s) can be read, so it can't be trained. Fetch them again; until then its number stays."
    return [
        Problem("unreadable_class", f"class {dataset.class_names[index]!r}", text.format(all_counts[index]), "warning")
        for index in np.flatnonzero((all_counts > 0) & (whole == 0))
    ]


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
        **({} if dataset.corrected is None else {"corrections": dataset.corrected.as_json()}),
    }


@dataclass(frozen=True, slots=True)
class _Inspected:
    """One file's digest and whether it is blank; or the kind and message of its problem, and no digest."""

    digest: str = ""
    kind: str = ""
    message: str = ""
    blank: bool = False


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


def _inspect(files: list[str], pixel_limit: int) -> list[_Inspected]:
    """Decode each file, without writing anything."""
    results = []
    for file in files:
        try:
            data = Path(file).read_bytes()
            blank = is_blank(Page(data, pixel_limit).pixels())
            results.append(_Inspected(digest(data), blank=blank))
        except BrokenImage as error:
            results.append(_Inspected(kind=error.kind, message=str(error)))
        except OSError as error:
            missing = missing_file(0, error)
            results.append(_Inspected(kind=missing.kind, message=missing.message))
    return results
