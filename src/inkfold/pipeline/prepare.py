"""Reads and decodes a data set's drawings, leaves broken ones out, and sorts the others by content: row order is irrelevant."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from inkfold.augment.views import IDENTITY, View
from inkfold.config.sections import DataSettings, OnBlank
from inkfold.data.blank import BlankDrawings, blank_problems, find_left_out, warn_of_blank
from inkfold.data.copy_units import Copies
from inkfold.data.dataset import Dataset
from inkfold.data.duplicates import CopySearch, Match, find_copies, group_matches
from inkfold.data.fingerprints import SignatureStore
from inkfold.data.lines import CopyStores
from inkfold.data.seen import mark_seen, read_seen_list
from inkfold.errors import DataError, Problem
from inkfold.features.extractor import DrawingFiles, Extractor, read_drawing_files, refuse_broken, whole_drawings
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.hashing import key_digest
from inkfold.storage.pixels import BrokenFile
from inkfold.storage.statistics import StatisticsStore

log = logging.getLogger("inkfold.pipeline")

SIGNATURES_AT_ONCE = 4096  # of 4 KB each


@dataclass(frozen=True, slots=True)
class ReadData:
    """A data set whose files have been read once.

    Attributes:
        dataset: The data set, as `read_dataset` returns it.
        train: The training drawings' files and digests, in the table's order.
        test: The test drawings' files and digests; None without any.
        broken_train: Training files that can't be read, by their row.
        broken_test: Test files that can't be read, by their row.
        fingerprint: Digest of the drawings, classes and groups; the order of training rows doesn't change it.
    """

    dataset: Dataset
    train: DrawingFiles
    test: DrawingFiles | None
    broken_train: Sequence[BrokenFile]
    broken_test: Sequence[BrokenFile]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """Drawings that can be trained on and predicted: decoded, in an order that their content alone decides.

    Attributes:
        read: The data set and its files.
        rows: Rows of the training table whose drawings can be read and decoded.
        test_whole: True where a test drawing can be read and decoded; None without a test table.
        duplicates: Group numbers, equal where usable training drawings are copies of each other; None if not searched for.
        seen: True where the backbone's weights were pretrained on a drawing; None where that isn't known.
        blank: Rows of the drawings without ink, whether they are used or not.
        matches: The pairs of copies that `duplicates` joins; none if not searched for.
        copy_notes: Warnings of searches for copies that a limit ended.
    """

    read: ReadData
    rows: Int64[np.ndarray, " n"]
    test_whole: Bool[np.ndarray, " tests"] | None
    duplicates: Int64[np.ndarray, " n"] | None = None
    seen: Bool[np.ndarray, " n"] | None = None
    blank: BlankDrawings = field(default_factory=BlankDrawings)
    matches: Sequence[Match] = ()
    copy_notes: tuple[str, ...] = ()

    @property
    def targets(self) -> Int64[np.ndarray, " n"]:
        """Class ids of the usable training drawings."""
        assert self.read.dataset.train.targets is not None
        targets: np.ndarray = self.read.dataset.train.targets[self.rows]
        return targets

    @property
    def digests(self) -> Shaped[np.ndarray, " n"]:
        """Digests of the usable training drawings' bytes."""
        digests: np.ndarray = self.read.train.digests[self.rows]
        return digests

    @property
    def named_groups(self) -> Shaped[np.ndarray, " n"] | None:
        """The groups of drawings that belong together, named by the user or proposed by names; None without any."""
        groups = self.read.dataset.train.all_groups
        return None if groups is None else groups[self.rows]

    @property
    def groups(self) -> Shaped[np.ndarray, " n"] | None:
        """The unit that intervals resample: named groups, else groups of copies; None where neither is known."""
        return self.duplicates if self.named_groups is None else self.named_groups

    @property
    def copies(self) -> Copies:
        """Which drawings are copies of which: those of equal bytes, and those that were found if they were searched for."""
        return Copies.of(self.digests, self.matches)

    def units(self, k: int) -> Shaped[np.ndarray, " n"]:
        """What stays in one of k folds: named groups as they are, else copies, of which chains that outgrow a fold are cut."""
        named = self.named_groups
        return self.copies.units(k) if named is None else named

    @property
    def test_digests(self) -> Shaped[np.ndarray, " m"] | None:
        """Digests of the usable test drawings' bytes; None if there are none."""
        if self.read.test is None or self.test_whole is None or not self.test_whole.any():
            return None
        digests: np.ndarray = self.read.test.digests[self.test_whole]
        return digests

    @property
    def skipped(self) -> dict[str, int]:
        """Number of drawings that were left out as broken or missing, by table."""
        tests = 0 if self.test_whole is None else int((~self.test_whole).sum())
        missing = sum(problem.kind == "missing_file" for problem in self.read.dataset.problems) - sum(
            file == "" for file in (self.read.test.files.tolist() if self.read.test else [])
        )
        unread = len(self.read.train.digests) - len(self.rows) - len(self.blank.left_out)
        return {"train": unread + max(missing, 0), "test": tests}

    @property
    def blank_warnings(self) -> list[str]:
        """A line for the blank drawings of each kind, with their number and the first names; none without any."""
        return warn_of_blank(self.blank, self.read.train.names, None if self.read.test is None else self.read.test.names)


@dataclass(frozen=True, slots=True)
class Needed:
    """What will be needed of drawings, besides their statistics. What caches have isn't decoded again.

    Attributes:
        views: Views of the training drawings whose features will be needed.
        test_views: Views of the test drawings whose features will be needed.
        pixels: Whether the pixels themselves will be needed, whatever the feature bank has.
        signatures: Whether the training drawings' signatures will be needed.
        copies: Whether copies among all drawings will be searched for, which needs signatures and lines of each.
    """

    views: Sequence[View] = (IDENTITY,)
    test_views: Sequence[View] = (IDENTITY,)
    pixels: bool = False
    signatures: bool = False
    copies: bool = False


FEATURES_ONLY = Needed()


def read_files(dataset: Dataset, cost: Cost, progress: Progress = silent) -> ReadData:
    """Read every file of a data set once.

    Args:
        dataset: The data set, as `read_dataset` returns it.
        cost: Seconds are added to it.
        progress: Called after each thousand files.

    Returns:
        The files' digests and the data's fingerprint.
    """
    with cost.timed("read"):
        train, broken_train = read_drawing_files(dataset.train.image_paths, dataset.train.files, progress)
        test, broken_test = None, list[BrokenFile]()
        if dataset.test is not None:
            test, broken_test = read_drawing_files(dataset.test.image_paths, dataset.test.files, progress)
    return ReadData(dataset, train, test, broken_train, broken_test, _fingerprint(dataset, train, test))


def decode(
    read: ReadData,
    extractor: Extractor,
    settings: DataSettings,
    cost: Cost,
    progress: Progress = silent,
    needed: Needed = FEATURES_ONLY,
) -> Prepared:
    """Decode all drawings: each file once, for the pixel store, the pages' statistics and the signatures.

    Args:
        read: The data set and its files.
        extractor: Has the image options, and knows which features are in the bank already.
        settings: Say what becomes of broken and of blank drawings.
        cost: Decoded drawings and seconds are added to it.
        progress: Called after each shard.
        needed: What will be needed of the drawings.

    Returns:
        The drawings that can be used, the training drawings sorted by content.

    Raises:
        DataError: With every broken or blank drawing that may not be left out, or if fewer than two classes are left.
    """
    statistics = extractor.statistics()
    by_copies = (statistics, *extractor.copy_stores().both) if needed.copies else (statistics,)
    also = (statistics, extractor.signatures()) if needed.signatures and not needed.copies else by_copies
    undecoded = extractor.decode(read.train, cost, progress, needed.views, pixels=needed.pixels, also=also)
    broken_train = [*read.broken_train, *undecoded]
    tables = [("train", read.train.names, broken_train)]
    test_whole = None
    if read.test is not None:
        undecoded = extractor.decode(read.test, cost, progress, needed.test_views, pixels=needed.pixels, also=by_copies)
        broken_test = [*read.broken_test, *undecoded]
        tables.append(("test", read.test.names, broken_test))
        test_whole = whole_drawings(read.test, broken_test)
    whole = whole_drawings(read.train, broken_train)
    blank = _find_blank(read, whole, test_whole, statistics, settings.on_blank)
    refuse_broken(tables, settings.on_broken, others=_blank_errors(read, blank) if settings.on_blank == "error" else ())
    whole[blank.left_out] = False
    used = np.flatnonzero(whole)
    assert read.dataset.train.targets is not None
    if len(np.unique(read.dataset.train.targets[used])) < 2:
        raise DataError(f"{read.dataset.root}: fewer than two classes have a drawing that can be read.")
    if broken_count := sum(len(broken) for _, _, broken in tables):
        log.info("%d broken drawings are left out: data.on_broken is skip", broken_count)
    order = np.lexsort((read.dataset.train.targets[used], read.train.digests[used]))
    prepared = Prepared(read, used[order], test_whole, blank=blank)
    for line in prepared.blank_warnings:
        log.warning("%s", line)
    return prepared


def _find_blank(
    read: ReadData,
    whole: Bool[np.ndarray, " n"],
    test_whole: Bool[np.ndarray, " tests"] | None,
    statistics: StatisticsStore,
    on_blank: OnBlank,
) -> BlankDrawings:
    """Find the blank drawings among those that can be read."""
    targets = read.dataset.train.targets
    assert targets is not None
    train, test = whole.copy(), np.zeros(0, bool)
    train[whole] = statistics.blank(read.train.digests[whole])
    if read.test is not None and test_whole is not None:
        test = test_whole.copy()
        test[test_whole] = statistics.blank(read.test.digests[test_whole])
    left_out = np.zeros_like(whole)
    left_out[whole] = find_left_out(train[whole], targets[whole], len(read.dataset.class_names), on_blank)
    return BlankDrawings(*map(np.flatnonzero, (train, left_out, test)))


def _blank_errors(read: ReadData, blank: BlankDrawings) -> list[Problem]:
    """Report each blank drawing as an error."""
    targets = read.dataset.train.targets
    assert targets is not None
    class_names = [read.dataset.class_names[target] for target in targets[blank.train]]
    problems = blank_problems("train", read.train.names[blank.train].tolist(), "error", class_names)
    tests = [] if read.test is None else read.test.names[blank.test].tolist()
    return [*problems, *blank_problems("test", tests, "error")]


def group_duplicates(
    prepared: Prepared, stores: CopyStores, cost: Cost, progress: Progress = silent, most_pairs: int | None = None
) -> Prepared:
    """Find the training drawings that are copies of each other.

    Args:
        prepared: The decoded drawings, of which the training drawings are compared.
        stores: Stores of the drawings' signatures and lines.
        cost: Seconds are added to it.
        progress: Called as the search advances.
        most_pairs: Most comparisons of two drawings, at least 1, the most similar drawings first; None makes all.

    Returns:
        The drawings, with the groups of copies, and a note where not all likely pairs were compared.

    Raises:
        DataError: If a file has changed since it was read.
    """
    with cost.timed("duplicates"):
        sign_drawings(prepared, stores, progress)
        search = find_copies(prepared.digests, stores, progress, most_pairs)
    matches, notes = search.matches, note_limit(search, "the training drawings")
    return replace(prepared, duplicates=group_matches(len(prepared.rows), matches), matches=matches, copy_notes=notes)


def note_limit(search: CopySearch, among: str) -> tuple[str, ...]:
    """Write a warning where a limit kept a search for copies from comparing all pairs that were likely to be some.

    Args:
        search: The search, with its numbers of comparisons.
        among: What was searched, such as `the training drawings`.

    Returns:
        One line; none where everything was compared.
    """
    if search.compared >= search.likely:
        return ()
    return (
        f"copies among {among} were searched for by the {search.compared:,} most similar of {search.likely:,} likely pairs "
        "(folds.copy_pairs): copies among the others may make the accuracy optimistic. folds.copy_pairs=null compares all",
    )


def find_seen(
    prepared: Prepared, weights: Path | None, signatures: SignatureStore, cost: Cost, progress: Progress = silent
) -> Prepared:
    """Find the training drawings that a backbone's weights were pretrained on.

    Args:
        prepared: The decoded drawings, of which the training drawings are looked up.
        weights: File of the backbone's weights; None for untrained ones.
        signatures: Store of the drawings' signatures.
        cost: Seconds are added to it.
        progress: Called as the search advances.

    Returns:
        The drawings, marked if a list of the pretraining drawings lies beside the weights; those that were marked stay so.

    Raises:
        WeightsError: If the list is broken.
        DataError: If a file has changed since it was read.
    """
    seen_list = None if weights is None else read_seen_list(weights)
    if seen_list is None:
        return prepared
    with cost.timed("duplicates"):
        sign_drawings(prepared, signatures, progress)
        parts = np.array_split(prepared.digests, -(-len(prepared.digests) // SIGNATURES_AT_ONCE))
        seen = np.concatenate([mark_seen(signatures.read(part), seen_list) for part in parts])
        seen = seen if prepared.seen is None else seen | prepared.seen
    log.info("the backbone was pretrained on %d of %d training drawings", seen.sum(), len(seen))
    return replace(prepared, seen=seen)


def sign_drawings(prepared: Prepared, store: SignatureStore | CopyStores, progress: Progress, *, tests: bool = False) -> None:
    """Compute the signatures or lines that are missing; every drawing was decoded before.

    Args:
        prepared: The training and test drawings, all decoded before, with their files and digests.
        store: Store of the drawings' signatures, or those of all that copies are found by.
        progress: Called after each chunk.
        tests: Whether the test drawings are meant instead of the training drawings.

    Raises:
        DataError: If a file has changed since it was read.
    """
    source, rows = (prepared.read.test, prepared.test_whole) if tests else (prepared.read.train, prepared.rows)
    assert source is not None
    store.build_all(source.files[rows].tolist(), source.names[rows].tolist(), source.digests[rows], progress)


def _fingerprint(dataset: Dataset, train: DrawingFiles, test: DrawingFiles | None) -> str:
    columns = [train.names.tolist(), train.digests.astype(str).tolist()]
    columns += [
        values.tolist()
        for values in (dataset.train.targets, dataset.train.groups, dataset.train.given_val)
        if values is not None
    ]
    test_targets = None if dataset.test is None else dataset.test.targets
    tests = [] if test is None else [test.names.tolist(), test.digests.astype(str).tolist()]
    return key_digest(
        {
            "class_names": dataset.class_names,
            "class_targets": dataset.class_targets.tolist(),
            "train": sorted(zip(*columns, strict=True)),
            "test": tests,
            "test_targets": None if test_targets is None else test_targets.tolist(),
        }
    )
