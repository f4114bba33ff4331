"""From a recipe's settings and files to features: the part of the main path that training and predicting share."""

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float16, Int64, Shaped

from inkfold.augment.views import IDENTITY, View
from inkfold.data.fingerprints import SignatureStore
from inkfold.errors import CacheError, DataError, Problem
from inkfold.features.bank import FeatureBank
from inkfold.features.executors import Executor, InlineExecutor
from inkfold.features.tasks import Account, Chunk, FeatureJob, plan_chunks
from inkfold.images.preprocess import ImageOptions
from inkfold.models.weights import BackboneInfo
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.hashing import DIGEST_DTYPE
from inkfold.storage.pixels import BrokenFile, ImageStore, digest_files

log = logging.getLogger("inkfold.features")

ATTEMPTS = 3

KEPT_BYTES, KEPT_FILES = 1 << 30, 4  # of features of views in memory, and of those that are too large for it on disk


@dataclass(frozen=True, slots=True)
class DrawingFiles:
    """Drawings whose bytes have been read once.

    Attributes:
        names: As the data name the drawings, for messages.
        files: Absolute paths; empty where there is none.
        digests: Of the bytes; empty where there is no file.
    """

    names: Shaped[np.ndarray, " n"]
    files: Shaped[np.ndarray, " n"]
    digests: Shaped[np.ndarray, " n"]


@dataclass(frozen=True, slots=True)
class Extractor:
    """Everything that turns files into features.

    Attributes:
        home: inkfold's directory for what can be computed again.
        backbone: The resolved backbone.
        image: How drawings become pixels.
        device: Where the backbone runs.
        batch_size: Images a forward; None chooses.
        launcher: Who computes features; nothing of it is in them.
    """

    home: Path
    backbone: BackboneInfo
    image: ImageOptions
    device: str = "auto"
    batch_size: int | None = None
    launcher: Executor = field(default_factory=InlineExecutor)

    def decode(
        self,
        source: DrawingFiles,
        cost: Cost,
        progress: Progress = silent,
        views: Sequence[View] = (IDENTITY,),
        *,
        pixels: bool = False,
    ) -> list[BrokenFile]:
        """Bring the drawings into the pixel store.

        Args:
            source: The drawings; those without a file are passed over.
            cost: Added to.
            progress: Told of each shard.
            views: Whose features will be wanted; drawings whose features are all in the bank aren't decoded.
            pixels: The pixels themselves will be wanted too.

        Returns:
            The drawings that can't be decoded, by their place in the source.
        """
        store = self.store()
        present = np.flatnonzero(source.digests != b"")
        missing = np.zeros(len(source.digests), bool)
        missing[present] = pixels
        for view, rows in by_settled_view(source.digests[present], () if pixels else views).items():
            missing[present[rows]] |= self._bank(store, view).shards.missing(source.digests[present[rows]])
        wanted = np.flatnonzero(missing)
        with cost.timed("decode"):
            cost.decoded += int(store.missing(np.unique(source.digests[wanted])).sum()) if len(wanted) else 0
            broken = store.build(source.files[wanted].tolist(), source.digests[wanted], progress)
        cost.decoded -= len({source.digests[wanted[one.index]] for one in broken})
        return [BrokenFile(int(wanted[one.index]), one.kind, one.message) for one in broken]

    def extract(
        self,
        digests: Shaped[np.ndarray, " n"],
        cost: Cost,
        progress: Progress = silent,
        views: Sequence[View] = (IDENTITY,),
    ) -> "ViewFeatures":
        """Compute the features of decoded drawings that are missing.

        Args:
            digests: Of the drawings' bytes.
            cost: Added to.
            progress: Told of each batch or cell, over all views.
            views: How the drawings are shown.

        Returns:
            All of them, read when they are asked for.
        """
        with cost.timed("features"):
            wanted = {view: digests[rows] for view, rows in by_settled_view(digests, views).items()}
            took = extract(self.job(), wanted, self.launcher, progress)
            cost.forwards += took.forwards
            cost.forwards_cached += took.cached
        return ViewFeatures(digests, took.banks)

    def job(self) -> FeatureJob:
        """Settle the device and the batch size, which with the backbone and the image settings decide every feature."""
        from inkfold.models.backbone import choose_batch_size, choose_device  # noqa: PLC0415 - torch takes a second

        device = choose_device(self.device).type
        batch_size = self.batch_size or choose_batch_size(device, self.backbone.image_size)
        return FeatureJob(self.home.absolute(), self.backbone, self.image, device, batch_size)

    def store(self) -> ImageStore:
        """Give the store of the drawings' pixels."""
        return ImageStore(self.home / "pixels", self.image)

    def signatures(self) -> SignatureStore:
        """Give the store of what tells copies of a drawing."""
        return SignatureStore(self.home / "signatures", self.image.pixel_limit)

    def rate(self) -> float | None:
        """Give the drawings a second that went through the backbone as they are, when that was computed; None if unknown."""
        return self._bank(self.store(), IDENTITY).rate()

    def _bank(self, store: ImageStore, view: View) -> FeatureBank:
        return FeatureBank(self.home / "features", self.backbone.key(), store, view)


class ViewFeatures:
    """The features of some drawings under several views, on disk until they are asked for.

    Args:
        digests: Of the drawings' bytes.
        banks: By settled view, each with what was extracted.
    """

    def __init__(self, digests: Shaped[np.ndarray, " n"], banks: Mapping[View, FeatureBank]) -> None:
        self._digests, self._banks = digests, banks
        self._kept: OrderedDict[View, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Begin anew in another process, with nothing kept."""
        return ViewFeatures, (self._digests, self._banks)

    def read(self, view: View = IDENTITY) -> Float16[np.ndarray, "n d"]:
        """Gather the features of one view; some views' are kept. Threads may ask at once.

        Args:
            view: One of those that were extracted.

        Returns:
            In the order of the drawings.
        """
        with self._lock:
            if view not in self._kept:
                self._kept[view] = self._gather(view)
            self._kept.move_to_end(view)
            while len(self._kept) > 1 and _is_much(self._kept.values()):
                self._kept.popitem(last=False)
            return self._kept[view]

    def _gather(self, view: View) -> np.ndarray:
        groups = self._groups(view)
        parts = [(rows, self._banks[settled].read(self._digests[rows])) for settled, rows in groups]
        if len(parts) == 1:
            return parts[0][1]
        features = self._banks[groups[0][0]].empty((len(self._digests), parts[0][1].shape[1]), parts[0][1].dtype)
        for rows, part in parts:
            features[rows] = part
        return features

    def _groups(self, view: View) -> list[tuple[View, np.ndarray]]:
        return list(by_settled_view(self._digests, [view]).items())


def _is_much(kept: Collection[np.ndarray]) -> bool:
    files = sum(isinstance(features, np.memmap) for features in kept)
    return sum(map(_held_bytes, kept)) > KEPT_BYTES or files > KEPT_FILES


def _held_bytes(features: np.ndarray) -> int:
    return 0 if isinstance(features, np.memmap) else features.nbytes


def by_settled_view(digests: Shaped[np.ndarray, " n"], views: Sequence[View]) -> dict[View, Int64[np.ndarray, " rows"]]:
    """Say which drawings each settled view is needed for; rows rise."""
    everything = np.arange(len(digests))
    rows_of: dict[View, list[np.ndarray]] = {}
    for view in views:
        if view.settles_alike:
            rows_of.setdefault(view, []).append(everything)
            continue
        settled: dict[View, list[int]] = {}
        for row, drawing in enumerate(digests.tolist()):
            settled.setdefault(view.settled(drawing), []).append(row)
        for simplest, rows in settled.items():
            rows_of.setdefault(simplest, []).append(np.array(rows, np.int64))
    return {view: parts[0] if len(parts) == 1 else np.unique(np.concatenate(parts)) for view, parts in rows_of.items()}


def read_drawing_files(
    names: Sequence[str] | np.ndarray, files: Sequence[str] | np.ndarray, progress: Progress = silent
) -> tuple[DrawingFiles, list[BrokenFile]]:
    """Read every file once and name it by its bytes.

    Args:
        names: As the data name the drawings.
        files: Absolute paths; empty where there is none.
        progress: Told of each thousand.

    Returns:
        The source, and the files that can't be read.
    """
    names, files = np.asarray(names), np.asarray(files)
    present = np.flatnonzero(files != "")
    digests = np.zeros(len(files), DIGEST_DTYPE)
    digests[present], broken = digest_files([str(file) for file in files[present]], progress)
    return DrawingFiles(names, files, digests), [BrokenFile(int(present[one.index]), one.kind, one.message) for one in broken]


def refuse_broken(
    tables: Sequence[tuple[str, Sequence[str] | np.ndarray, Sequence[BrokenFile]]],
    on_broken: str,
    advice: str = "data.on_broken",
) -> None:
    """Stop at broken drawings unless they may be left out.

    Args:
        tables: For each: its name in messages, the names of its drawings, and those that can't be read.
        on_broken: `error` or `skip`.
        advice: What the user sets to `skip`.

    Raises:
        DataError: With every broken drawing of all tables, when `on_broken` is `error`.
    """
    problems = [
        Problem(f"broken_{one.kind}", f"{name} {drawings[one.index]}", one.message)
        for name, drawings, broken in tables
        for one in broken
    ]
    if problems and on_broken == "error":
        text = "set it to skip to leave broken drawings out and count them."
        raise DataError([*problems, Problem("advice", advice, text, "warning")])


def whole_drawings(source: DrawingFiles, broken: Sequence[BrokenFile]) -> Bool[np.ndarray, " n"]:
    """Tell which drawings have a file that can be read."""
    whole: np.ndarray = source.digests != b""
    whole[[one.index for one in broken]] = False
    return whole


@dataclass(frozen=True, slots=True)
class Extraction:
    """The banks, and what it took to have the features in them.

    Attributes:
        banks: By view.
        forwards: Drawings that went through the backbone now.
        cached: Drawings whose features were there.
    """

    banks: Mapping[View, FeatureBank]
    forwards: int
    cached: int


def extract(
    making: FeatureJob,
    wanted: Mapping[View, Shaped[np.ndarray, " rows"]],
    launcher: Executor,
    progress: Progress = silent,
) -> Extraction:
    """Compute the features that are missing.

    Another run that computes any of the same banks is waited for, and what it left is taken.

    Args:
        making: What makes features.
        wanted: By view, digests of drawings that are in the pixel store or whose features are there.
        launcher: Who carries the plan out.
        progress: Told of drawings, over all views.

    Returns:
        The banks.

    Raises:
        CacheError: If features are still missing after three plans, or what the launcher raises.
    """
    digests = {view: np.unique(rows) for view, rows in wanted.items()}
    banks = {view: making.bank(view) for view in digests}
    for bank in banks.values():
        bank.shards.create()
    lacking = [view for view, bank in banks.items() if bank.shards.missing(digests[view]).any()]
    forwards = 0
    with contextlib.ExitStack() as locks:
        for view in sorted(lacking, key=lambda view: banks[view].shards.directory):  # in one order: no two wait for each other
            locks.enter_context(banks[view].shards.lock())
        for attempt in range(ATTEMPTS + 1):
            missing = {view: digests[view][banks[view].shards.missing(digests[view])] for view in lacking}
            cells = plan_chunks(making, missing)
            if attempt == 0:
                _log_plan(making, digests, cells)
            if not cells:
                break
            if attempt == ATTEMPTS:
                raise CacheError(
                    f"{cells[0].directory}: {sum(map(len, cells))} features are still missing after {ATTEMPTS} plans that were "
                    "carried out. Their files went, or workers write elsewhere: all must share one INKFOLD_HOME."
                )
            account = Account(cells, progress)
            launcher.run(cells, account)
            forwards += sum(map(len, cells))
            for view, (rows, seconds) in account.spent().items():
                banks[view].note_rate(rows, seconds, making.device)
                log.info("view %s: %d features in %.1f s", view, rows, seconds)
    return Extraction(banks, forwards, sum(map(len, digests.values())) - forwards)


def _log_plan(job: FeatureJob, wanted: Mapping[View, np.ndarray], chunks: Sequence[Chunk]) -> None:
    """Log how many features the bank has, and what the forward passes for the others run on."""
    backbone, features, forwards = job.backbone, sum(map(len, wanted.values())), sum(map(len, chunks))
    log.info("%s: %d of %d features are in the bank, computing %d", backbone.name, features - forwards, features, forwards)
    if chunks:
        settings = (job.device, backbone.precision, backbone.image_size, job.batch_size)
        log.info("the backbone runs on %s in %s at %d px, with %d drawings in each forward pass", *settings)
    for view, digests in wanted.items():
        log.debug("view %s: %d features, in %s", view, len(digests), job.bank(view).shards.directory)
