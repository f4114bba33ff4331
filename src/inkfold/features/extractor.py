"""From files of drawings to features: reads and decodes drawings, and computes the features that the bank lacks."""

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float16, Int64, Shaped

from inkfold.augment.views import IDENTITY, View
from inkfold.data.fingerprints import SignatureStore
from inkfold.data.lines import CopyStores
from inkfold.errors import CacheError, DataError, Problem
from inkfold.features.bank import FeatureBank
from inkfold.features.executors import Executor, InlineExecutor
from inkfold.features.tasks import Chunk, ChunkTracker, FeatureJob, plan_chunks
from inkfold.images.preprocess import ImageOptions
from inkfold.models.weights import BackboneInfo
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.hashing import DIGEST_DTYPE
from inkfold.storage.pixels import BrokenFile, ImageStore, PageStore, build_rows, count_missing, digest_files
from inkfold.storage.statistics import StatisticsStore

log = logging.getLogger("inkfold.features")

ATTEMPTS = 3

KEPT_BYTES, KEPT_FILES = 1 << 30, 4  # limits of the views that are kept: bytes in memory, and files of larger ones on disk


@dataclass(frozen=True, slots=True)
class DrawingFiles:
    """Drawings whose files have been read once.

    Attributes:
        names: Names of the drawings in the data, for messages.
        files: Absolute paths; empty where there is no file.
        digests: Digests of the files' bytes; empty where there is no file or it can't be read.
    """

    names: Shaped[np.ndarray, " n"]
    files: Shaped[np.ndarray, " n"]
    digests: Shaped[np.ndarray, " n"]


@dataclass(frozen=True, slots=True)
class Extractor:
    """Everything that turns files into features.

    Attributes:
        home: inkfold's directory of caches.
        backbone: The network, its weights and the normalisation of its input.
        image: How drawings become pixels: size, colour, polarity, resizing.
        device: Device that the backbone runs on: `auto`, `cpu`, `cuda` or `mps`.
        batch_size: Drawings per forward pass, at least 1; None chooses for the device.
        executor: Computes the features; it changes nothing in them.
        others: Extractors of other backbones, whose features stand after this one's in each row.
    """

    home: Path
    backbone: BackboneInfo
    image: ImageOptions
    device: str = "auto"
    batch_size: int | None = None
    executor: Executor = field(default_factory=InlineExecutor)
    others: tuple["Extractor", ...] = ()

    @property
    def parts(self) -> tuple["Extractor", ...]:
        """One extractor for each backbone, in the order of their features."""
        return (replace(self, others=()), *self.others) if self.others else (self,)

    @property
    def has_blocks(self) -> bool:
        """Whether a row holds blocks of features that differ in scale: of several layers or backbones."""
        return bool(self.others) or self.backbone.features != "last"

    def read_as(self, image: ImageOptions) -> "Extractor":
        """Return the same backbones on drawings whose pages are cropped, and whose paper is flattened, as options say."""
        changed = {"resize": image.resize, "paper": image.paper}
        others = tuple(replace(part, image=part.image.model_copy(update=changed)) for part in self.others)
        return replace(self, image=self.image.model_copy(update=changed), others=others)

    def decode(
        self,
        source: DrawingFiles,
        cost: Cost,
        progress: Progress = silent,
        views: Sequence[View] = (IDENTITY,),
        *,
        pixels: bool = False,
        also: Sequence[PageStore] = (),
    ) -> list[BrokenFile]:
        """Decode drawings into the pixel store, each file once for this and other stores.

        Args:
            source: The drawings; those without a digest are ignored.
            cost: Decoded drawings and seconds are added to it.
            progress: Called after each shard.
            views: Views whose features will be needed; drawings whose features are all in the bank aren't decoded.
            pixels: Whether the pixels themselves will be needed, whatever the bank has.
            also: Stores that get a row of every drawing from the same decode, whatever the bank has.

        Returns:
            The drawings that can't be decoded, by their row in the source.
        """
        present = np.flatnonzero(source.digests != b"")
        digests = source.digests[present]
        missing = {image: np.full(len(digests), pixels) for image in dict.fromkeys(part.image for part in self.parts)}
        stores = {image: ImageStore(self.home / "pixels", image) for image in missing}
        for view, rows in by_settled_view(digests, () if pixels else views).items():
            for part in self.parts:
                bank = part._bank(stores[part.image], view)
                missing[part.image][rows] |= bank.shards.missing(digests[rows])
        wanted: dict[PageStore, np.ndarray] = {stores[image]: rows for image, rows in missing.items()}
        wanted |= {other: np.ones(len(present), bool) for other in also}
        with cost.timed("decode"):
            cost.decoded += count_missing(wanted, digests)
            broken = build_rows(wanted, source.files[present].tolist(), digests, progress)
        cost.decoded -= len({digests[file.index] for file in broken})
        return _with_rows(broken, present)

    def extract(
        self,
        digests: Shaped[np.ndarray, " n"],
        cost: Cost,
        progress: Progress = silent,
        views: Sequence[View] = (IDENTITY,),
    ) -> "ViewFeatures":
        """Compute the features of drawings that the bank lacks.

        Args:
            digests: Digests of drawings that have been decoded, or whose features are in the bank.
            cost: Forward passes and seconds are added to it.
            progress: Called after each batch or chunk, with the number of drawings done over all views.
            views: Views under which the backbone sees the drawings.

        Returns:
            The features of all drawings, which are read from the bank when they are first needed.
        """
        banks = []
        with cost.timed("features"):
            needed = {view: digests[rows] for view, rows in by_settled_view(digests, views).items()}
            for part in self.parts:
                extraction = extract(part.job(), needed, self.executor, progress)
                cost.forwards += extraction.forwards
                cost.forwards_cached += extraction.cached
                banks.append(extraction.banks)
        widths = [part.backbone.blocks for part in self.parts]
        others = [ViewFeatures(digests, own, blocks=blocks) for own, blocks in zip(banks[1:], widths[1:], strict=True)]
        return ViewFeatures(digests, banks[0], tuple(others), widths[0])

    def lacking(self, digests: Shaped[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Return which drawings' features the bank lacks, of some backbone; of the drawings as they are, not under a view."""
        lacking = [part._bank(part.store(), IDENTITY).shards.missing(digests) for part in self.parts]
        missing: np.ndarray = np.logical_or.reduce(lacking)
        return missing

    def job(self) -> FeatureJob:
        """Choose the device and the batch size, which with the backbone and the image options decide every feature."""
        from inkfold.models.backbone import choose_batch_size, choose_device  # noqa: PLC0415 - torch takes a second

        device = choose_device(self.device).type
        batch_size = self.batch_size or choose_batch_size(device, self.backbone.image_size)
        return FeatureJob(self.home.absolute(), self.backbone, self.image, device, batch_size)

    def store(self) -> ImageStore:
        """Open the store of the drawings' pixels."""
        return ImageStore(self.home / "pixels", self.image)

    def signatures(self) -> SignatureStore:
        """Open the store of the drawings' signatures."""
        return SignatureStore(self.home / "signatures", self.image.pixel_limit)

    def copy_stores(self) -> CopyStores:
        """Open the stores that copies of a drawing are found by."""
        return CopyStores.open(self.home, self.image.pixel_limit)

    def statistics(self) -> StatisticsStore:
        """Open the store of the pages' statistics."""
        return StatisticsStore(self.home / "statistics", self.image.pixel_limit)

    def rate(self) -> float | None:
        """Return how many drawings per second went through all backbones as they are; None if that isn't known."""
        rates = [part._bank(part.store(), IDENTITY).rate() for part in self.parts]
        known = [rate for rate in rates if rate]
        return 1 / sum(1 / rate for rate in known) if len(known) == len(rates) > 1 else rates[0] if len(rates) == 1 else None

    def _bank(self, store: ImageStore, view: View) -> FeatureBank:
        return FeatureBank(self.home / "features", self.backbone.key(), store, view)


class ViewFeatures:
    """The features of some drawings under several views, on disk until they are first read.

    Args:
        digests: Digest of each drawing's file; `read` returns rows in their order.
        banks: Feature banks by settled view, which have the features of every drawing that needs that view.
        beside: Features of the same drawings by other backbones, which stand after these in each row.
        blocks: Widths of this backbone's blocks of features, one for each layer; empty takes all of them as one.
    """

    def __init__(
        self,
        digests: Shaped[np.ndarray, " n"],
        banks: Mapping[View, FeatureBank],
        beside: tuple["ViewFeatures", ...] = (),
        blocks: tuple[int, ...] = (),
    ) -> None:
        self._digests, self._banks, self._beside, self._blocks = digests, banks, beside, blocks
        self._kept: OrderedDict[View, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process without the features that are in memory."""
        return ViewFeatures, (self._digests, self._banks, self._beside, self._blocks)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Widths of the blocks that differ in scale, one per layer and backbone; empty where there is only one."""
        if not self._beside:
            return self._blocks
        widths: list[int] = []
        for part in (self, *self._beside):
            widths += part._blocks or [part._gather_own(next(iter(part._banks))).shape[1]]
        return tuple(widths)

    def read(self, view: View = IDENTITY) -> Float16[np.ndarray, "n d"]:
        """Read the features of one view; those of the last few views stay in memory. Several threads may call it at once.

        Args:
            view: One of the views that were extracted.

        Returns:
            The features, in the order of the drawings.
        """
        with self._lock:
            if view not in self._kept:
                self._kept[view] = self._gather(view)
            self._kept.move_to_end(view)
            while len(self._kept) > 1 and _too_large(self._kept.values()):
                self._kept.popitem(last=False)
            return self._kept[view]

    def _gather(self, view: View) -> np.ndarray:
        own = self._gather_own(view)
        if not self._beside:
            return own
        parts = [own, *(other._gather(view) for other in self._beside)]
        bank = next(iter(self._banks.values()))
        joined = bank.empty((len(own), sum(part.shape[1] for part in parts)), own.dtype)
        return np.concatenate(parts, axis=1, out=joined)

    def _gather_own(self, view: View) -> np.ndarray:
        groups = list(by_settled_view(self._digests, [view]).items())
        parts = [(rows, self._banks[settled].read(self._digests[rows])) for settled, rows in groups]
        if len(parts) == 1:
            return parts[0][1]
        features = self._banks[groups[0][0]].empty((len(self._digests), parts[0][1].shape[1]), parts[0][1].dtype)
        for rows, part in parts:
            features[rows] = part
        return features


def _too_large(kept: Collection[np.ndarray]) -> bool:
    files = sum(isinstance(features, np.memmap) for features in kept)
    in_memory = sum(features.nbytes for features in kept if not isinstance(features, np.memmap))
    return in_memory > KEPT_BYTES or files > KEPT_FILES


def by_settled_view(digests: Shaped[np.ndarray, " n"], views: Sequence[View]) -> dict[View, Int64[np.ndarray, " rows"]]:
    """Find the settled views that drawings need: a view that is applied by chance is settled for each drawing.

    Args:
        digests: Digest of each drawing's file, by which chance decides what is applied to it.
        views: Views under which every drawing is needed.

    Returns:
        By settled view, the rows of the drawings that need it, in ascending order.
    """
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
    """Read every file once and compute its digest.

    Args:
        names: Path of each drawing as the data have it, for messages.
        files: Absolute paths; empty where there is no file.
        progress: Called after each thousand files.

    Returns:
        The drawings, and the files that can't be read, by their row.
    """
    names, files = np.asarray(names), np.asarray(files)
    present = np.flatnonzero(files != "")
    digests = np.zeros(len(files), DIGEST_DTYPE)
    digests[present], broken = digest_files([str(file) for file in files[present]], progress)
    return DrawingFiles(names, files, digests), _with_rows(broken, present)


def _with_rows(broken: Sequence[BrokenFile], rows: np.ndarray) -> list[BrokenFile]:
    """Replace the indices of broken files, which count some rows only, by those rows."""
    return [replace(file, index=int(rows[file.index])) for file in broken]


def refuse_broken(
    tables: Sequence[tuple[str, Sequence[str] | Mapping[int, str] | np.ndarray, Sequence[BrokenFile]]],
    on_broken: str,
    advice: str = "data.on_broken",
    others: Sequence[Problem] = (),
) -> None:
    """Raise an error for broken drawings, unless they may be left out.

    Args:
        tables: For each table its name in messages, the names of its drawings by row, and those that can't be read.
        on_broken: `error` raises; `skip` does nothing, and the caller leaves broken drawings out.
        advice: Name of the setting or argument that the user can set to `skip`.
        others: Errors that are raised together with these.

    Raises:
        DataError: With every broken drawing of all tables, when `on_broken` is `error`, and with the other errors.
    """
    problems = [
        Problem(f"broken_{file.kind}", f"{name} {drawings[file.index]}", file.message)
        for name, drawings, broken in tables
        for file in broken
    ]
    if problems and on_broken == "error":
        text = "set it to skip to leave broken drawings out and count them."
        raise DataError([*problems, *others, Problem("advice", advice, text, "warning")])
    if others:
        raise DataError(others)


def whole_drawings(source: DrawingFiles, broken: Sequence[BrokenFile]) -> Bool[np.ndarray, " n"]:
    """Return which drawings have a file that can be read and decoded."""
    whole: np.ndarray = source.digests != b""
    whole[[file.index for file in broken]] = False
    return whole


@dataclass(frozen=True, slots=True)
class Extraction:
    """The banks that have the features, and how many had to be computed.

    Attributes:
        banks: The bank of each view that was requested; it has the features of all requested drawings under it.
        forwards: Number of drawings that went through the backbone.
        cached: Number of drawings whose features were in the bank.
    """

    banks: Mapping[View, FeatureBank]
    forwards: int
    cached: int


def extract(
    job: FeatureJob,
    needed: Mapping[View, Shaped[np.ndarray, " rows"]],
    executor: Executor,
    progress: Progress = silent,
) -> Extraction:
    """Compute the features that the bank lacks.

    If another run is computing features of the same views, this waits for it and computes what is still missing.

    Args:
        job: Backbone, image options and device.
        needed: By view, digests of drawings that are in the pixel store or whose features are in the bank.
        executor: Computes the chunks of the plan.
        progress: Called with the number of drawings done, over all views.

    Returns:
        The banks, in which all features are.

    Raises:
        CacheError: If features are still missing after three plans, or what the executor raises.
    """
    digests = {view: np.unique(rows) for view, rows in needed.items()}
    banks = {view: job.bank(view) for view in digests}
    for bank in banks.values():
        bank.shards.create()
    lacking = [view for view, bank in banks.items() if bank.shards.missing(digests[view]).any()]
    forwards = 0
    with contextlib.ExitStack() as locks:
        for view in sorted(lacking, key=lambda view: banks[view].shards.directory):  # in one order: no two wait for each other
            locks.enter_context(banks[view].shards.lock())
        for attempt in range(ATTEMPTS + 1):
            missing = {view: digests[view][banks[view].shards.missing(digests[view])] for view in lacking}
            chunks = plan_chunks(job, missing)
            if attempt == 0:
                _log_plan(job, digests, chunks)
            if not chunks:
                break
            if attempt == ATTEMPTS:
                raise CacheError(
                    f"{chunks[0].directory}: {sum(map(len, chunks))} features are still missing after {ATTEMPTS} plans were "
                    "carried out. Their files were removed, or workers write elsewhere: all must share one INKFOLD_HOME."
                )
            tracker = ChunkTracker(chunks, progress)
            executor.run(chunks, tracker)
            forwards += sum(map(len, chunks))
            for view, (rows, seconds) in tracker.spent().items():
                banks[view].note_rate(rows, seconds, job.device)
                log.info("view %s: %d features in %.1f s", view, rows, seconds)
    return Extraction(banks, forwards, sum(map(len, digests.values())) - forwards)


def _log_plan(job: FeatureJob, needed: Mapping[View, np.ndarray], chunks: Sequence[Chunk]) -> None:
    """Log how many features the bank has, and what the forward passes for the others run on."""
    backbone, features, forwards = job.backbone, sum(map(len, needed.values())), sum(map(len, chunks))
    log.info("%s: %d of %d features are in the bank, computing %d", backbone.title, features - forwards, features, forwards)
    if chunks:
        settings = (job.device, backbone.precision, backbone.image_size, job.batch_size)
        log.info("the backbone runs on %s in %s at %d px, with %d drawings in each forward pass", *settings)
    for view, digests in needed.items():
        log.debug("view %s: %d features, in %s", view, len(digests), job.bank(view).shards.directory)
