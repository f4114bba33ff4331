"""From a recipe's settings and files to features: the part of the main path that training and predicting share."""

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float16, Int64, Shaped

from inkfold.augment.views import IDENTITY, View
from inkfold.data.fingerprints import SignatureStore
from inkfold.errors import DataError, Problem
from inkfold.features.bank import FeatureBank
from inkfold.features.executors import Inline, Launcher
from inkfold.features.extraction import extract
from inkfold.features.tasks import Making
from inkfold.images.preprocess import ImageOptions
from inkfold.models.weights import BackboneInfo
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.pixels import BrokenFile, ImageStore, digest_files
from inkfold.storage.shards import DIGEST_DTYPE

KEPT_BYTES, KEPT_FILES = 1 << 30, 4  # of features of views in memory, and of those that are too large for it on disk


@dataclass(slots=True)
class Cost:
    """What a run took so far.

    Attributes:
        forwards: Drawings that went through the backbone.
        forwards_cached: Drawings whose features were in the bank.
        decoded: Drawings that were decoded.
        trained: Drawings that went through the backbone forwards and backwards.
        waited: Share of the training's time in which it waited for drawings; None where nothing was trained.
        seconds: Wall time by stage.
        started: When, on `time.perf_counter`'s clock.
    """

    forwards: int = 0
    forwards_cached: int = 0
    decoded: int = 0
    trained: int = 0
    waited: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the block's wall time to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started

    def as_json(self) -> dict[str, Any]:
        """Give the figures, with the total time until now."""
        seconds = {**self.seconds, "total": time.perf_counter() - self.started}
        trained = {} if self.waited is None else {"trained": self.trained, "waited_for_data_fraction": self.waited}
        return {
            "forwards": self.forwards,
            "forwards_cached": self.forwards_cached,
            "decoded": self.decoded,
            **trained,
            "seconds": {stage: round(took, 3) for stage, took in seconds.items()},
        }


@dataclass(frozen=True, slots=True)
class Source:
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
    launcher: Launcher = field(default_factory=Inline)

    def decode(
        self,
        source: Source,
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
        for view, rows in _by_settled_view(source.digests[present], () if pixels else views).items():
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
        from inkfold.models.backbone import choose_batch_size, choose_device  # noqa: PLC0415 - torch takes a second

        with cost.timed("features"):
            device = choose_device(self.device).type
            batch_size = self.batch_size or choose_batch_size(device, self.backbone.image_size)
            making = Making(self.home.absolute(), self.backbone, self.image, device, batch_size)
            wanted = {view: digests[rows] for view, rows in _by_settled_view(digests, views).items()}
            took = extract(making, wanted, self.launcher, progress)
            cost.forwards += took.forwards
            cost.forwards_cached += took.cached
        return ViewFeatures(digests, took.banks)

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
        return list(_by_settled_view(self._digests, [view]).items())


def _is_much(kept: Collection[np.ndarray]) -> bool:
    files = sum(isinstance(features, np.memmap) for features in kept)
    return sum(map(_held_bytes, kept)) > KEPT_BYTES or files > KEPT_FILES


def _held_bytes(features: np.ndarray) -> int:
    return 0 if isinstance(features, np.memmap) else features.nbytes


def _by_settled_view(digests: Shaped[np.ndarray, " n"], views: Sequence[View]) -> dict[View, Int64[np.ndarray, " rows"]]:
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


def read_source(
    names: Sequence[str] | np.ndarray, files: Sequence[str] | np.ndarray, progress: Progress = silent
) -> tuple[Source, list[BrokenFile]]:
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
    return Source(names, files, digests), [BrokenFile(int(present[one.index]), one.kind, one.message) for one in broken]


def refuse_broken(
    tables: Sequence[tuple[str, Source, Sequence[BrokenFile]]], on_broken: str, advice: str = "data.on_broken"
) -> None:
    """Stop at broken drawings unless they may be left out.

    Args:
        tables: For each: its name in messages, its drawings, and those that can't be read.
        on_broken: `error` or `skip`.
        advice: What the user sets to `skip`.

    Raises:
        DataError: With every broken drawing of all tables, when `on_broken` is `error`.
    """
    problems = [
        Problem(f"broken_{one.kind}", f"{name} {source.names[one.index]}", one.message)
        for name, source, broken in tables
        for one in broken
    ]
    if problems and on_broken == "error":
        text = "set it to skip to leave broken drawings out and count them."
        raise DataError([*problems, Problem("advice", advice, text, "warning")])


def whole_drawings(source: Source, broken: Sequence[BrokenFile]) -> Bool[np.ndarray, " n"]:
    """Tell which drawings have a file that can be read."""
    whole: np.ndarray = source.digests != b""
    whole[[one.index for one in broken]] = False
    return whole
