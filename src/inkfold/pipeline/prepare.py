"""From a data set to drawings that are read, whole, decoded and in an order that content alone decides."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from inkfold.augment.views import IDENTITY, View
from inkfold.data.dataset import Dataset
from inkfold.data.duplicates import find_copies, group_matches
from inkfold.data.fingerprints import SignatureStore
from inkfold.data.seen import mark_seen, read_seen_list
from inkfold.data.splits import join_groups
from inkfold.errors import DataError
from inkfold.features.extractor import DrawingFiles, Extractor, read_drawing_files, refuse_broken, whole_drawings
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.hashing import key_digest
from inkfold.storage.pixels import BrokenFile

LEARNT_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class ReadData:
    """A data set whose files have been read once.

    Attributes:
        dataset: As `read_dataset` gives it.
        train: The training drawings' files and digests, in the table's order.
        test: The test drawings', None without any.
        broken_train: Training drawings that can't be read.
        broken_test: Test drawings that can't be read.
        test_targets: True class ids of the test drawings, where they were given for measuring.
        fingerprint: Of all that is to be learnt; the order of training rows is no part of it.
    """

    dataset: Dataset
    train: DrawingFiles
    test: DrawingFiles | None
    broken_train: Sequence[BrokenFile]
    broken_test: Sequence[BrokenFile]
    test_targets: Int64[np.ndarray, " tests"] | None
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """Drawings that can be learnt from and predicted: decoded, in an order that content alone decides.

    Attributes:
        read: The data set and its files.
        rows: Of the training table: the whole drawings.
        test_whole: Which test drawings can be read; None without a test table.
        duplicates: Equal where usable training drawings are copies of each other; None where nobody looked.
        learnt: Which of them the backbone's own weights learnt from before; None where nobody says.
    """

    read: ReadData
    rows: Int64[np.ndarray, " n"]
    test_whole: Bool[np.ndarray, " tests"] | None
    duplicates: Int64[np.ndarray, " n"] | None = None
    learnt: Bool[np.ndarray, " n"] | None = None

    @property
    def targets(self) -> Int64[np.ndarray, " n"]:
        """Class ids of the usable training drawings."""
        assert self.read.dataset.train.targets is not None
        targets: np.ndarray = self.read.dataset.train.targets[self.rows]
        return targets

    @property
    def digests(self) -> Shaped[np.ndarray, " n"]:
        """Of the usable training drawings' bytes."""
        digests: np.ndarray = self.read.train.digests[self.rows]
        return digests

    @property
    def named_groups(self) -> Shaped[np.ndarray, " n"] | None:
        """What the table says belongs together."""
        groups = self.read.dataset.train.groups
        return None if groups is None else groups[self.rows]

    @property
    def groups(self) -> Shaped[np.ndarray, " n"] | None:
        """What stays in one fold: the table's groups, and copies of one drawing."""
        return join_groups(self.named_groups, self.duplicates)

    @property
    def test_digests(self) -> Shaped[np.ndarray, " m"] | None:
        """Of the usable test drawings' bytes."""
        return None if self.read.test is None else self.read.test.digests[self.test_whole]

    @property
    def skipped(self) -> dict[str, int]:
        """How many drawings were left out, by table."""
        tests = 0 if self.test_whole is None else int((~self.test_whole).sum())
        missing = sum(problem.kind == "missing_file" for problem in self.read.dataset.problems) - sum(
            file == "" for file in (self.read.test.files.tolist() if self.read.test else [])
        )
        return {"train": len(self.read.train.digests) - len(self.rows) + max(missing, 0), "test": tests}


def read_files(
    dataset: Dataset, test_targets: Int64[np.ndarray, " tests"] | None, cost: Cost, progress: Progress = silent
) -> ReadData:
    """Read every file of a data set once.

    Args:
        dataset: As `read_dataset` gives it.
        test_targets: True class ids of the test drawings, where they are known.
        cost: Added to.
        progress: Told of each thousand files.

    Returns:
        The files' digests and the data's fingerprint.
    """
    with cost.timed("read"):
        train, broken_train = read_drawing_files(dataset.train.image_paths, dataset.train.files, progress)
        test, broken_test = None, list[BrokenFile]()
        if dataset.test is not None:
            test, broken_test = read_drawing_files(dataset.test.image_paths, dataset.test.files, progress)
    fingerprint = _fingerprint(dataset, train, test, test_targets)
    return ReadData(dataset, train, test, broken_train, broken_test, test_targets, fingerprint)


def decode(
    read: ReadData,
    extractor: Extractor,
    on_broken: str,
    cost: Cost,
    progress: Progress = silent,
    *,
    views: Sequence[View] = (IDENTITY,),
    test_views: Sequence[View] = (IDENTITY,),
    pixels: bool = False,
) -> Prepared:
    """Bring all drawings into the pixel store.

    Args:
        read: The files.
        extractor: Which knows the image settings and what is in the feature bank already.
        on_broken: `error` or `skip`.
        cost: Added to.
        progress: Told of each shard.
        views: Of the training drawings, whose features will be wanted.
        test_views: Of the test drawings.
        pixels: The pixels themselves will be wanted too.

    Returns:
        The drawings that can be used.

    Raises:
        DataError: With every broken drawing, or if none is left.
    """
    broken_train = [*read.broken_train, *extractor.decode(read.train, cost, progress, views, pixels=pixels)]
    tables = [("train", read.train, broken_train)]
    test_whole = None
    if read.test is not None:
        broken_test = [*read.broken_test, *extractor.decode(read.test, cost, progress, test_views, pixels=pixels)]
        tables.append(("test", read.test, broken_test))
        test_whole = whole_drawings(read.test, broken_test)
    refuse_broken(tables, on_broken)
    whole = np.flatnonzero(whole_drawings(read.train, broken_train))
    assert read.dataset.train.targets is not None
    if len(np.unique(read.dataset.train.targets[whole])) < 2:
        raise DataError(f"{read.dataset.root}: fewer than two classes have a drawing that can be read.")
    order = np.lexsort((read.dataset.train.targets[whole], read.train.digests[whole]))
    return Prepared(read, whole[order], test_whole)


def group_duplicates(prepared: Prepared, signatures: SignatureStore, cost: Cost, progress: Progress = silent) -> Prepared:
    """Find the training drawings that are copies of each other.

    Args:
        prepared: The drawings.
        signatures: Where their signatures are kept.
        cost: Added to.
        progress: Told how far it is.

    Returns:
        The same drawings, with what belongs together.

    Raises:
        DataError: If a file has changed since it was read.
    """
    with cost.timed("duplicates"):
        _sign(prepared, signatures, progress)
        matches = find_copies(prepared.digests, signatures, progress)
    return replace(prepared, duplicates=group_matches(len(prepared.rows), matches))


def find_seen(
    prepared: Prepared, weights: Path | None, signatures: SignatureStore, cost: Cost, progress: Progress = silent
) -> Prepared:
    """Find the training drawings that a backbone's weights learnt from before.

    Args:
        prepared: The drawings.
        weights: The backbone's file; None for untrained weights.
        signatures: Where the drawings' signatures are kept.
        cost: Added to.
        progress: Told how far it is.

    Returns:
        The same drawings, with what is known of them, if the weights have a list.

    Raises:
        WeightsError: If the list is broken.
        DataError: If a file has changed since it was read.
    """
    learnt = None if weights is None else read_seen_list(weights)
    if learnt is None:
        return prepared
    with cost.timed("duplicates"):
        _sign(prepared, signatures, progress)
        parts = np.array_split(prepared.digests, -(-len(prepared.digests) // LEARNT_CHUNK))
        known = np.concatenate([mark_seen(signatures.read(part), learnt) for part in parts])
    return replace(prepared, learnt=known)


def _sign(prepared: Prepared, signatures: SignatureStore, progress: Progress) -> None:
    files, names = (values[prepared.rows] for values in (prepared.read.train.files, prepared.read.train.names))
    signatures.build_all(files.tolist(), names.tolist(), prepared.digests, progress)  # each was decoded before


def _fingerprint(dataset: Dataset, train: DrawingFiles, test: DrawingFiles | None, test_targets: np.ndarray | None) -> str:
    columns = [train.names.tolist(), train.digests.astype(str).tolist()]
    columns += [
        values.tolist()
        for values in (dataset.train.targets, dataset.train.groups, dataset.train.given_val)
        if values is not None
    ]
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
