"""The plan of an extraction: chunks of drawings under one view, each of which becomes one file that is whole or absent.

A plan depends only on which features are missing: not on time, nor on how many workers there are or where they run. A chunk
fixes the batch size and the thread count, which change the last bit of a few values: the same plan leaves the same bytes
inline, in a pool and on Ray.
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

# Drawings per chunk, to the nearest whole batch: what a killed worker loses at most, and what one file holds. On a core of a
# CPU 64 take a second with EfficientNet-Lite0 and a minute with ViT-B; an accelerator takes ten seconds to a minute for 2048
# with the largest backbones, and ten million drawings make 4,900 files.
CPU_CHUNK_ROWS, CHUNK_ROWS = 64, 2048
# Of one forward pass. More gain less than as many passes at once, and would tie the result to the machine.
THREADS = 1
RENDERERS = 8  # threads that render views for an accelerator


@dataclass(frozen=True, slots=True)
class FeatureJob:
    """Everything that decides features, besides the drawings and the view.

    Attributes:
        home: inkfold's directory; on several machines, all of them see it under this path.
        backbone: The network, its weights and the normalisation of its input.
        image: Image options of the pixel store that the drawings are read from.
        device: Where the backbone runs: `cpu`, `cuda` or `mps`.
        batch_size: Drawings per forward pass, at least 1.
        threads: Threads of a forward pass on the CPU, at least 1.
    """

    home: Path
    backbone: BackboneInfo
    image: ImageOptions
    device: str
    batch_size: int
    threads: int = THREADS

    @property
    def on_cpu(self) -> bool:
        """Whether the backbone runs on the CPU."""
        return self.device == "cpu"

    @property
    def chunk_rows(self) -> int:
        """Number of drawings in a chunk: whole batches."""
        rows = CPU_CHUNK_ROWS if self.on_cpu else CHUNK_ROWS
        return self.batch_size * max(1, round(rows / self.batch_size))

    def store(self) -> ImageStore:
        """Open the pixel store."""
        return ImageStore(self.home / "pixels", self.image)

    def bank(self, view: View) -> FeatureBank:
        """Open the feature bank of this job's backbone under one view."""
        return FeatureBank(self.home / "features", self.backbone.key(), self.store(), view)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Drawings under one view, whose features are computed whole or not at all.

    Attributes:
        job: Backbone, image options and device.
        view: View under which the drawings are rendered.
        directory: Where the process that planned the chunk expects its file.
        drawings: Digests of the drawings' bytes, sorted.
    """

    job: FeatureJob
    view: View
    directory: Path
    drawings: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.drawings)

    def __str__(self) -> str:
        return f"{len(self)} drawings of '{self.job.backbone.name}' under {self.view}, the first {self.drawings[0].decode()}"


def plan_chunks(job: FeatureJob, missing: Mapping[View, Shaped[np.ndarray, " rows"]]) -> list[Chunk]:
    """Divide the missing features into chunks.

    Chunks that are done don't change the others: sorted drawings are cut at whole batches, and only the last chunk is smaller.

    Args:
        job: Backbone, image options and device.
        missing: By view, the digests of the drawings whose features are missing, in any order; they may repeat.

    Returns:
        The chunks, view by view; each drawing of a view is in one of them.
    """
    chunks = []
    for view, digests in missing.items():
        drawings = sorted(set(digests.tolist()))
        directory = job.bank(view).shards.directory
        for start in range(0, len(drawings), job.chunk_rows):
            chunks.append(Chunk(job, view, directory, tuple(drawings[start : start + job.chunk_rows])))
    return chunks


class ChunkTracker:
    """Counts what is done of a plan. Several threads may call it at once.

    Args:
        chunks: All chunks of the plan; their numbers of drawings add up to the total that `progress` gets.
        progress: Called with the number of drawings done.
    """

    def __init__(self, chunks: Sequence[Chunk], progress: Progress = silent) -> None:
        self._total, self._done, self._progress = sum(map(len, chunks)), 0, progress
        self._lock = threading.Lock()
        self._rows: dict[View, int] = {}
        self._seconds: dict[View, float] = {}
        self._first, self._last = float("inf"), 0.0

    def advance(self, rows: int) -> None:
        """Count drawings that went through the backbone."""
        with self._lock:
            self._done += rows
            self._progress("features", min(self._done, self._total), self._total)

    def finish(self, chunk: Chunk, seconds: float) -> None:
        """Count a chunk whose file is complete, with the seconds that its worker took."""
        with self._lock:
            now = time.perf_counter()
            self._first, self._last = min(self._first, now - seconds), max(self._last, now)
            self._rows[chunk.view] = self._rows.get(chunk.view, 0) + len(chunk)
            self._seconds[chunk.view] = self._seconds.get(chunk.view, 0.0) + seconds

    def spent(self) -> dict[View, tuple[int, float]]:
        """Return each view's drawings, and its share of the wall time from the first chunk's start to the last one's end."""
        share = (self._last - self._first) / (sum(self._seconds.values()) or 1.0)
        return {view: (rows, self._seconds[view] * share) for view, rows in self._rows.items()}


class Worker:
    """Computes the chunks of one job, and keeps the backbone and the index of the pixel store from chunk to chunk.

    Several threads may call `run` at once; on an accelerator their forward passes take turns, while others read, render and
    write.

    Args:
        job: The job that all its chunks belong to.
        read: Returns the pixels of drawings by their digests; called from several threads. None reads the pixel store.
        write: Stores a chunk's features; called from several threads. None writes them to the feature bank.
    """

    def __init__(
        self,
        job: FeatureJob,
        read: Callable[[Shaped[np.ndarray, " n"]], UInt8[np.ndarray, "n size size *channels"]] | None = None,
        write: Callable[[Chunk, Float16[np.ndarray, "n d"]], None] | None = None,
    ) -> None:
        self._job = job
        self._backbone: Backbone | None = None
        self._store = job.store()
        self._read, self._write = read or self._read_store, write or _write_bank
        self._building, self._reading = threading.Lock(), threading.Lock()
        self._turn = contextlib.nullcontext() if job.on_cpu else threading.Lock()

    def run(self, chunk: Chunk, on_batch: Callable[[int], None] | None = None) -> float:
        """Compute a chunk's features and store them.

        Args:
            chunk: A chunk of this worker's job.
            on_batch: Called after each batch with its number of drawings.

        Returns:
            Seconds that it took, without building the backbone.

        Raises:
            CacheError: If a drawing's pixels are gone, the disk is full, or this machine's libraries give other features.
            WeightsError: If the backbone can't be built, or returns values that are not finite.
            RecipeError: If a batch is too large for the device's memory.
        """
        import torch  # noqa: PLC0415 - seconds

        _refuse_other_libraries(chunk)
        backbone = self._build()
        torch.set_num_threads(chunk.job.threads)
        started, parts = time.perf_counter(), []
        with contextlib.closing(self._rendered(chunk)) as batches:
            for pixels in batches:
                with self._turn:
                    parts.append(_forward(backbone, pixels, chunk))
                if on_batch is not None:
                    on_batch(len(pixels))
        self._write(chunk, np.concatenate(parts))
        return time.perf_counter() - started

    def _build(self) -> "Backbone":
        with self._building:
            if self._backbone is None:
                self._backbone = build_backbone(self._job)
            return self._backbone

    def _read_store(self, batch: np.ndarray) -> np.ndarray:
        with self._reading:
            if not (self._store.grey.present(batch) | self._store.colour.present(batch)).all():
                self._store.look()
            return self._store.read(batch)

    def _rendered(self, chunk: Chunk) -> Generator[np.ndarray, None, None]:
        """Render the chunk's batches under its view; for an accelerator in threads, ahead of its forward passes."""
        job, names = chunk.job, np.array(chunk.drawings, DIGEST_DTYPE)
        size_px, step = job.backbone.image_size, job.batch_size
        batches = (names[start : start + step] for start in range(0, len(names), step))
        tasks = ((self._read(batch), batch.tolist()) for batch in batches)

        def render_task(task: tuple[np.ndarray, list[bytes]]) -> np.ndarray:
            return render_batch(task[0], chunk.view, task[1], size_px)

        if job.on_cpu or (not chunk.view.operations and job.image.size_px == size_px):
            yield from map(render_task, tasks)  # other chunks keep the cores busy meanwhile
            return
        workers = min(RENDERERS, available_cores())
        yield from ahead(render_task, tasks, workers, workers + 1)


def _write_bank(chunk: Chunk, features: np.ndarray) -> None:
    chunk.job.bank(chunk.view).shards.append(np.array(chunk.drawings, DIGEST_DTYPE), features)


def _forward(backbone: "Backbone", pixels: np.ndarray, chunk: Chunk) -> np.ndarray:
    import torch  # noqa: PLC0415 - seconds

    try:
        return backbone.extract(pixels)
    except torch.OutOfMemoryError:
        raise RecipeError(
            f"{chunk}: out of memory with {backbone.batch_size} drawings per forward pass. Free the device for it, or take a "
            "smaller backbone, a smaller image.size or backbone.precision=bfloat16."
        ) from None


def build_backbone(job: FeatureJob) -> "Backbone":
    """Build a job's backbone on its device.

    Args:
        job: Names the backbone, the device and the batch size.

    Returns:
        The backbone with its weights.

    Raises:
        WeightsError: If the weights aren't this model's.
    """
    from inkfold.models.backbone import Backbone, choose_device  # noqa: PLC0415 - torch takes a second

    return Backbone(job.backbone, choose_device(job.device), job.batch_size)


_last_worker: dict[str, Worker] = {}  # of this worker process, by the job of its last chunk
_process_lifetime = contextlib.ExitStack()


def run_chunk(chunk: Chunk) -> float:
    """Compute a chunk in a worker process, which keeps the backbone for the next chunks of the same job.

    Args:
        chunk: The drawings, the view and the job, which may differ from the job of the last call.

    Returns:
        Seconds that it took; see `Worker.run`.
    """
    job = chunk.job
    name = key_digest({**job.backbone.as_json(), "home": str(job.home), "image": str(job.image), "on": job.device})
    if name not in _last_worker:
        if not _last_worker:
            _process_lifetime.enter_context(worker_settings())
        _last_worker.clear()
        _last_worker[name] = Worker(job)
    return _last_worker[name].run(chunk)


@contextlib.contextmanager
def worker_settings() -> Iterator[None]:
    """Prepare this process for chunks while the block runs: freed memory is kept, and OpenCV starts no threads of its own.

    PyTorch's thread count, which each chunk sets, is restored at the end.
    """
    import torch  # noqa: PLC0415 - seconds

    from inkfold.models.backbone import keep_freed_memory  # noqa: PLC0415 - torch

    threads = torch.get_num_threads()
    try:
        with one_opencv_thread(), keep_freed_memory():
            yield
    finally:
        torch.set_num_threads(threads)


def _refuse_other_libraries(chunk: Chunk) -> None:
    directory = chunk.job.bank(chunk.view).shards.directory
    expected, installed = chunk.job.backbone.timm_version, version("timm")
    if directory != chunk.directory or installed != expected:
        raise CacheError(
            f"{chunk}: this machine's libraries would give other features than those of the machine that planned them: "
            f"directory {directory.name}, expected {chunk.directory.name}; timm {installed}, expected {expected}. Install "
            "the same versions."
        )
