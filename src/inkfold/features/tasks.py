"""The heavy work as a plan of cells: some drawings under one view, each cell giving one file that is whole or absent.

A plan is a function of what is missing, never of time, of how many work or of who they are. A cell fixes the batch size and
the thread count, which change the last bit of a few values: the same plan leaves the same bytes inline, in a pool and on Ray.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float16, Shaped, UInt8

from inkfold.augment.views import View, render_batch
from inkfold.errors import CacheError, RecipeError
from inkfold.features.bank import FeatureBank
from inkfold.images.preprocess import ImageOptions
from inkfold.models.weights import BackboneInfo
from inkfold.runtime.parallel import ahead, available_cores, one_opencv_thread
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.hashing import DIGEST_DTYPE, key_digest
from inkfold.storage.pixels import ImageStore

if TYPE_CHECKING:
    from inkfold.models.backbone import Backbone

# About so many drawings a cell, to the nearest whole batch: what a killed worker loses at most, and what a file holds. On a
# core of a CPU 64 are a second of EfficientNet-Lite0 and a minute of ViT-B; on an accelerator, which takes ten seconds to a
# minute for 2048 of the largest backbones, ten million drawings are 4,900 files.
CPU_CHUNK_ROWS, CHUNK_ROWS = 64, 2048
# Of one forward. More threads in one forward gain less than as many forwards at once, and would tie the result to the machine.
THREADS = 1
RENDERERS = 8  # threads that show drawings to an accelerator


@dataclass(frozen=True, slots=True)
class FeatureJob:
    """What makes features, besides the drawings and the view.

    Attributes:
        home: inkfold's directory; for several machines one that all of them see under this path.
        backbone: The resolved backbone.
        image: How drawings became pixels.
        device: `cpu`, `cuda` or `mps`.
        batch_size: Images a forward.
        threads: Of a forward on the CPU.
    """

    home: Path
    backbone: BackboneInfo
    image: ImageOptions
    device: str
    batch_size: int
    threads: int = THREADS

    @property
    def on_cpu(self) -> bool:
        """Whether processor cores do the work."""
        return self.device == "cpu"

    @property
    def cell_rows(self) -> int:
        """How many drawings a cell has: whole batches."""
        rows = CPU_CHUNK_ROWS if self.on_cpu else CHUNK_ROWS
        return self.batch_size * max(1, round(rows / self.batch_size))

    def store(self) -> ImageStore:
        """Open the pixel store."""
        return ImageStore(self.home / "pixels", self.image)

    def bank(self, view: View) -> FeatureBank:
        """Open the bank of one view."""
        return FeatureBank(self.home / "features", self.backbone.key(), self.store(), view)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of work that is done whole or not at all.

    Attributes:
        making: What makes the features.
        view: How the drawings are shown.
        directory: Where the driver expects the file.
        drawings: Digests, sorted.
    """

    making: FeatureJob
    view: View
    directory: Path
    drawings: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.drawings)

    def __str__(self) -> str:
        return f"{len(self)} drawings of '{self.making.backbone.name}' under {self.view}, the first {self.drawings[0].decode()}"


def plan_chunks(making: FeatureJob, missing: Mapping[View, Shaped[np.ndarray, " rows"]]) -> list[Chunk]:
    """Cut what is missing into cells.

    Whole cells that are done leave the others as they were: sorted drawings are cut at whole batches, and only the last cell
    is smaller.

    Args:
        making: What makes the features.
        missing: Digests by view, in any order, with or without repetitions.

    Returns:
        View by view; each drawing of a view in one cell.
    """
    cells = []
    for view, digests in missing.items():
        drawings = sorted(set(digests.tolist()))
        directory = making.bank(view).shards.directory
        for start in range(0, len(drawings), making.cell_rows):
            cells.append(Chunk(making, view, directory, tuple(drawings[start : start + making.cell_rows])))
    return cells


class Account:
    """What is done of a plan; threads may tell it at once.

    Args:
        cells: The plan.
        progress: Told of drawings.
    """

    def __init__(self, cells: Sequence[Chunk], progress: Progress = silent) -> None:
        self._total, self._done, self._progress = sum(map(len, cells)), 0, progress
        self._lock = threading.Lock()
        self._rows: dict[View, int] = {}
        self._seconds: dict[View, float] = {}
        self._first, self._last = float("inf"), 0.0

    def advance(self, rows: int) -> None:
        """Tell that so many drawings more went through the backbone."""
        with self._lock:
            self._done += rows
            self._progress("features", min(self._done, self._total), self._total)

    def finish(self, cell: Chunk, seconds: float) -> None:
        """Tell that a cell's file is there, and what it took whoever made it."""
        with self._lock:
            now = time.perf_counter()
            self._first, self._last = min(self._first, now - seconds), max(self._last, now)
            self._rows[cell.view] = self._rows.get(cell.view, 0) + len(cell)
            self._seconds[cell.view] = self._seconds.get(cell.view, 0.0) + seconds

    def spent(self) -> dict[View, tuple[int, float]]:
        """Give each view's drawings, and its share of the wall time from the first cell's start to the last one's end."""
        share = (self._last - self._first) / (sum(self._seconds.values()) or 1.0)
        return {view: (rows, self._seconds[view] * share) for view, rows in self._rows.items()}


class Worker:
    """What a process keeps from cell to cell: the backbone once it is built, and the index of the pixel store.

    Threads may work in it at once; on an accelerator their forwards take turns, and reading, showing and writing run beside.

    Args:
        making: Of all its cells.
        read: Gives the pixels of drawings by their digests, to several threads at once; None reads the pixel store.
        write: Takes each cell and its features, from several threads at once; None writes them to the feature bank.
    """

    def __init__(
        self,
        making: FeatureJob,
        read: Callable[[Shaped[np.ndarray, " n"]], UInt8[np.ndarray, "n size size *channels"]] | None = None,
        write: Callable[[Chunk, Float16[np.ndarray, "n d"]], None] | None = None,
    ) -> None:
        self._making = making
        self._backbone: Backbone | None = None
        self._store = making.store()
        self._read, self._write = read or self._read_store, write or _write_bank
        self._building, self._reading = threading.Lock(), threading.Lock()
        self._turn = contextlib.nullcontext() if making.on_cpu else threading.Lock()

    def run(self, cell: Chunk, tell: Callable[[int], None] | None = None) -> float:
        """Make a cell's file.

        Args:
            cell: Of this making; its drawings are in the pixel store.
            tell: Told how many drawings each batch has.

        Returns:
            Seconds, building the backbone left out.

        Raises:
            CacheError: If a drawing's pixels are gone, the disk is full, or this machine's libraries make other features.
            WeightsError: If the backbone can't be built, or gives what is no number.
            RecipeError: If a batch is too large for the device's memory.
        """
        import torch  # noqa: PLC0415 - seconds

        _refuse_other_libraries(cell)
        backbone = self._build()
        torch.set_num_threads(cell.making.threads)
        started, parts = time.perf_counter(), []
        with contextlib.closing(self._shown(cell)) as batches:
            for pixels in batches:
                with self._turn:
                    parts.append(_forward(backbone, pixels, cell))
                if tell is not None:
                    tell(len(pixels))
        self._write(cell, np.concatenate(parts))
        return time.perf_counter() - started

    def _build(self) -> "Backbone":
        with self._building:
            if self._backbone is None:
                self._backbone = build_backbone(self._making)
            return self._backbone

    def _read_store(self, batch: np.ndarray) -> np.ndarray:
        with self._reading:
            if not (self._store.grey.present(batch) | self._store.colour.present(batch)).all():
                self._store.look()
            return self._store.read(batch)

    def _shown(self, cell: Chunk) -> Generator[np.ndarray, None, None]:
        """Show batches as the view has them, on an accelerator ahead of it and beside it, in threads."""
        making, names = cell.making, np.array(cell.drawings, DIGEST_DTYPE)
        size_px, step = making.backbone.image_size, making.batch_size
        batches = (names[start : start + step] for start in range(0, len(names), step))
        tasks = ((self._read(batch), batch.tolist()) for batch in batches)

        def show(task: tuple[np.ndarray, list[bytes]]) -> np.ndarray:
            return render_batch(task[0], cell.view, task[1], size_px)

        if making.on_cpu or (not cell.view.operations and making.image.size_px == size_px):
            yield from map(show, tasks)  # other cells keep the cores busy meanwhile
            return
        workers = min(RENDERERS, available_cores())
        yield from ahead(show, tasks, workers, workers + 1)


def _write_bank(cell: Chunk, features: np.ndarray) -> None:
    cell.making.bank(cell.view).shards.append(np.array(cell.drawings, DIGEST_DTYPE), features)


def _forward(backbone: "Backbone", pixels: np.ndarray, cell: Chunk) -> np.ndarray:
    import torch  # noqa: PLC0415 - seconds

    try:
        return backbone.extract(pixels)
    except torch.OutOfMemoryError:
        raise RecipeError(
            f"{cell}: out of memory at {backbone.batch_size} drawings a forward. Free the device for it, or take a smaller "
            "backbone, a smaller image.size or backbone.precision=bfloat16."
        ) from None


def build_backbone(making: FeatureJob) -> "Backbone":
    """Build the backbone on the device.

    Args:
        making: Names both.

    Returns:
        It, ready to extract.

    Raises:
        WeightsError: If the weights aren't this model's.
    """
    from inkfold.models.backbone import Backbone, choose_device  # noqa: PLC0415 - torch takes a second

    return Backbone(making.backbone, choose_device(making.device), making.batch_size)


_kept: dict[str, Worker] = {}  # of a worker process: the workshop of its last cell
_for_ever = contextlib.ExitStack()


def run_chunk(cell: Chunk) -> float:
    """Make a cell's file in a worker process, which keeps the backbone for the cells that follow.

    Args:
        cell: What to do.

    Returns:
        Seconds, see `Worker.run`.
    """
    making = cell.making
    name = key_digest({**making.backbone.as_json(), "home": str(making.home), "image": str(making.image), "on": making.device})
    if name not in _kept:
        if not _kept:
            _for_ever.enter_context(undisturbed())
        _kept.clear()
        _kept[name] = Worker(making)
    return _kept[name].run(cell)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let cells run in this process: memory is kept, OpenCV and PyTorch leave threads to the cells, and get theirs back."""
    import torch  # noqa: PLC0415 - seconds

    from inkfold.models.backbone import keep_freed_memory  # noqa: PLC0415 - torch

    threads = torch.get_num_threads()
    try:
        with one_opencv_thread(), keep_freed_memory():
            yield
    finally:
        torch.set_num_threads(threads)


def _refuse_other_libraries(cell: Chunk) -> None:
    directory = cell.making.bank(cell.view).shards.directory
    wanted, found = cell.making.backbone.timm_version, version("timm")
    if directory != cell.directory or found != wanted:
        raise CacheError(
            f"{cell}: this machine's libraries would make other features than the one's that planned them: directory "
            f"{directory.name}, expected {cell.directory.name}; timm {found}, expected {wanted}. Install the same versions."
        )
