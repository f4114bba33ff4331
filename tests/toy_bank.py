"""Drawings and a backbone that cost nothing, for the tests of the feature bank and of who fills it."""

import contextlib
import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch

from forks import Process
from inkfold.augment.views import IDENTITY
from inkfold.features import ray_cluster as cluster
from inkfold.features.bank import FeatureBank
from inkfold.features.executors import Executor, InlineExecutor
from inkfold.features.extractor import Extraction, extract
from inkfold.features.tasks import Chunk, FeatureJob, plan_chunks, run_chunk
from inkfold.images.preprocess import ImageOptions
from inkfold.models.weights import BackboneInfo, BackboneSpec, resolve_backbone
from inkfold.runtime.progress import silent
from inkfold.storage.hashing import digest
from inkfold.storage.pixels import ImageStore
from toy import job_of

OPTIONS = ImageOptions(size_px=8)
DRIVER = """
import warnings
warnings.simplefilter("default")  # Ray may warn
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever starts tests in the background may have it ignored
sys.path.insert(0, sys.argv[3])
import inkfold.features.tasks, inkfold.features.ray_cluster, inkfold.features.process_pool
import toy_bank
from inkfold.augment.views import IDENTITY
from inkfold.features.extractor import extract
from inkfold.features.executors import open_executor

inkfold.features.tasks.CPU_CHUNK_ROWS = 32
inkfold.features.process_pool.run_chunk = toy_bank.noted
inkfold.features.ray_cluster._run_on_machine = toy_bank.noted_on_machine
if sys.argv[2].startswith("ray"):
    import ray
    ray.cloudpickle.register_pickle_by_value(toy_bank)
job, digests = toy_bank.real_bank(Path(sys.argv[1]), 64)
with open_executor(sys.argv[2]) as executor:
    extract(job, {IDENTITY: digests}, executor)
"""


class Stub:
    """Counts what goes through it; a drawing's features are its mean, its first pixel and its last."""

    def __init__(self, batch_size: int = 16) -> None:
        self.batch_size = batch_size
        self.device = torch.device("cpu")
        self.builds = self.forwards = 0

    def extract(self, pixels: np.ndarray) -> np.ndarray:
        assert 0 < len(pixels) <= self.batch_size
        self.forwards += len(pixels)
        grey = pixels if pixels.ndim == 3 else pixels[..., 1]
        return np.stack([grey.mean(axis=(1, 2)), grey[:, 0, 0], grey[:, -1, -1]], axis=1).astype(np.float16)


def use(monkeypatch, stub: Stub) -> Stub:
    """Take a stub wherever a backbone would be built."""

    def build(job: FeatureJob) -> Stub:
        stub.builds += 1
        return stub

    monkeypatch.setattr("inkfold.features.tasks.build_backbone", build)
    return stub


def pictures(ids, side: int = 8) -> np.ndarray:
    return np.stack([np.random.default_rng(i).integers(0, 256, (side, side), np.uint8) for i in ids])


def named(ids) -> np.ndarray:
    return np.array([digest(b"%d" % i) for i in ids], "S32")


def fill(home: Path, ids, options: ImageOptions = OPTIONS) -> np.ndarray:
    store = ImageStore(home / "pixels", options)
    store.grey.create()
    store.grey.append(named(ids), pictures(ids, options.size_px))
    return named(ids)


def expected(ids) -> np.ndarray:
    return Stub(10**6).extract(pictures(ids))


@cache
def info(side: int = 8) -> BackboneInfo:
    return resolve_backbone(BackboneSpec(name="test_resnet", weights="untrained", image_size=side))


def toy_job(home: Path, batch_size: int = 16, side: int = 8, stored: int | None = None) -> FeatureJob:
    return FeatureJob(home, info(side), ImageOptions(size_px=stored or side), "cpu", batch_size)


def fill_bank(job: FeatureJob, digests, view=IDENTITY, progress=silent) -> tuple[Extraction, FeatureBank]:
    """Compute what is missing of one view, inline."""
    extraction = extract(job, {view: digests}, InlineExecutor(), progress)
    return extraction, extraction.banks[view]


def shard_files(home: Path) -> dict[str, bytes]:
    """All features, by file."""
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in (home / "features").rglob("*.safetensors")}


def real_bank(home: Path, drawings: int, rows: int = 32) -> tuple[FeatureJob, np.ndarray]:
    """Pixels for a real network, which worker processes can build; a batch is half a chunk where chunks have `rows`."""
    digests = fill(home, range(drawings), ImageOptions(size_px=32))
    return toy_job(home, rows // 2, side=32), digests


def name_of(chunk: Chunk) -> str:
    return chunk.drawings[0].decode()


def noted(chunk: Chunk) -> float:
    """Run a chunk as a worker does, note its beginning, and hang where the test wants to kill."""
    home = chunk.job.home
    with (home / "begun").open("a", encoding="utf-8") as file:
        file.write(f"{name_of(chunk)}\n")
    victim = home / "victim"
    if victim.is_file() and victim.read_text(encoding="utf-8") == name_of(chunk):
        victim.unlink()
        (home / "pid.new").write_text(str(os.getpid()), encoding="utf-8")
        (home / "pid.new").rename(home / "pid")
        time.sleep(600)
    return run_chunk(chunk)


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Let nothing be written any more."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    real, os.fsync = os.fsync, full
    try:
        yield
    finally:
        os.fsync = real


def on_full_disk(chunk: Chunk) -> float:
    with full_disk():
        return run_chunk(chunk)


def on_machine_with_full_disk(chunk: Chunk, marker: str) -> object:
    """The same in Ray's worker, where no change of the driver's modules arrives."""
    with full_disk():
        return cluster._run_on_machine(chunk, marker)


def noted_on_machine(chunk: Chunk, marker: str) -> float:
    """The same in Ray's worker."""
    assert (chunk.job.home / marker).is_file()
    return noted(chunk)


def die(chunk: Chunk) -> float:
    """Be a process that the system kills at every attempt."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def hanging_pid(home: Path, within_s: float = 300.0) -> int:
    """Wait for the worker that hangs."""
    until = time.monotonic() + within_s
    while not (home / "pid").exists():
        assert time.monotonic() < until, "no worker came to the chunk"
        time.sleep(0.02)
    return int((home / "pid").read_text(encoding="utf-8"))


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def killed_once(
    job: FeatureJob, digests: np.ndarray, executor: Executor, victim: int, end: Callable[[int], None] = kill
) -> list[str]:
    """Compute a plan while the worker at one of its chunks is ended; give the chunks' names as they were begun."""
    plan = plan_chunks(job, {IDENTITY: digests})
    (job.home / "victim").write_text(name_of(plan[victim]), encoding="utf-8")
    killer = threading.Thread(target=lambda: end(hanging_pid(job.home)), daemon=True)
    killer.start()
    extraction = extract(job, {IDENTITY: digests}, executor)
    killer.join()
    assert extraction.forwards == len(digests)
    return (job.home / "begun").read_text(encoding="utf-8").split()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def descendants(pid: int) -> set[int]:
    """Find a process and those below it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text(encoding="utf-8").rsplit(")", 1)[1].split()[1])
    family = {pid}
    while new := {child for child, parent in parents.items() if parent in family} - family:
        family |= new
    return family


def ended(home: Path, on: str, ending: signal.Signals) -> str:
    """End a driver while its second chunk hangs and the first one is done; wait until all its processes are gone."""
    job, digests = real_bank(home, 64)
    second = plan_chunks(job, {IDENTITY: digests})[1]
    (home / "victim").write_text(name_of(second), encoding="utf-8")
    tests = str(Path(__file__).parent)
    with Process(job_of(DRIVER, home, on, tests, PYTHONPATH=tests)) as driver:
        hanging_pid(home)
        while not shard_files(home):
            time.sleep(0.02)
        family = descendants(driver.pid)
        driver.kill(ending)
        errors = driver.stderr.read()
    until = time.monotonic() + 300
    while left := [pid for pid in family if is_alive(pid)]:
        assert time.monotonic() < until, f"{left} live on"
        time.sleep(0.05)
    return errors
