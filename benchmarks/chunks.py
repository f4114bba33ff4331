"""One plan of cells inline, in a pool and on Ray: seconds, what the launchers cost, what a killed worker costs, and the bytes.

Every side computes the same features of the same drawings into a directory of its own, in turn. The first call of a side pays
for its start (processes that import PyTorch, Ray's daemons), the second one is the plan alone under another view; in the third
a worker is killed at a third of the plan, but for inline, which has none. What inline takes includes building the backbone,
which workers have kept. `ratio` is the plan's seconds inline over those of the first side; `identical` says whether all files
of all sides have the same bytes.

    .venv/bin/python benchmarks/chunks.py [--sides pool:2 ray] [--backbone NAME] [--drawings N] [--quick]
"""

import argparse
import contextlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from inkfold.augment.views import View, parse_view
from inkfold.features.executors import Executor, open_executor
from inkfold.features.extractor import extract
from inkfold.features.tasks import FeatureJob, plan_chunks
from inkfold.images.preprocess import ImageOptions
from inkfold.models.backbone import choose_batch_size, choose_device, choose_precision
from inkfold.models.weights import UNTRAINED, BackboneSpec, resolve_backbone
from inkfold.storage.hashing import digest

START, PLAN, KILLED = (parse_view(text) for text in ("identity", "hflip", "vflip"))


def main() -> None:
    """Run all sides in turn and print the table and the RESULT line."""
    given = parse()
    result: dict[str, float] = {}
    print(f"{'':<10}{'start + plan s':>16}{'plan s':>9}{'drawings/s':>12}{'with a kill s':>15}{'bytes as inline':>17}")
    with tempfile.TemporaryDirectory() as temp:
        inline: dict[str, bytes] = {}
        for side in ("inline", *given.sides):
            made, digests = prepare(Path(temp) / side.replace(":", "-"), given)
            started, plan, killed = measure(side, made, digests)
            files = {
                f"{path.parent.name}/{path.name}": path.read_bytes() for path in made.home.rglob("features/*/*.safetensors")
            }
            inline = inline or files
            kill = "-" if killed is None else f"{killed:.2f}"
            rate = len(digests) / plan
            print(f"{side:<10}{started:>16.2f}{plan:>9.2f}{rate:>12.1f}{kill:>15}{files == inline!s:>17}", flush=True)
            name = side.partition(":")[0]
            result |= {
                f"{name}_s": plan,
                f"{name}_start_s": started - plan,
                f"{name}_ratio": result.get("inline_s", plan) / plan,
            }
            result |= {} if killed is None else {f"{name}_kill_s": killed - plan}
            result["identical"] = min(result.get("identical", 1.0), float(files == inline))
        result["cells"] = len(plan_chunks(made, {PLAN: digests}))
    result["ratio"] = result[f"{given.sides[0].partition(':')[0]}_ratio"]
    print("RESULT " + " ".join(f"{name}={value:.4g}" for name, value in result.items()))


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", nargs="+", default=["pool:2", "ray"], help="in turn, after inline; ratio is the first one's")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--drawings", type=int, default=3000)
    parser.add_argument("--quick", action="store_true", help="1024 drawings of 128 px; under a minute")
    given = parser.parse_args()
    if given.quick:
        given.drawings, given.size = 1024, 128
    return given


def prepare(home: Path, given: argparse.Namespace) -> tuple[FeatureJob, np.ndarray]:
    """Fill a pixel store with noise, whose features take as long as those of drawings."""
    device = choose_device()
    spec = BackboneSpec(
        name=given.backbone, weights=UNTRAINED, image_size=given.size, precision=choose_precision("auto", device)
    )
    batch_size = choose_batch_size(device.type, given.size)
    made = FeatureJob(home, resolve_backbone(spec), ImageOptions(size_px=given.size), device.type, batch_size)
    digests = np.array([digest(b"%d" % i) for i in range(given.drawings)], "S32")
    store, random = made.store(), np.random.default_rng(0)
    store.grey.create()
    for start in range(0, given.drawings, 500):
        part = digests[start : start + 500]
        store.grey.append(part, random.integers(0, 256, (len(part), given.size, given.size), np.uint8))
    return made, digests


def measure(side: str, made: FeatureJob, digests: np.ndarray) -> tuple[float, float, float | None]:
    """Time one side's start with a plan, a plan alone, and a plan in which a worker is killed."""
    with open_executor(side) as carrier:
        started = timed(made, START, digests, carrier)
        plan = timed(made, PLAN, digests, carrier)
        if side == "inline":
            timed(made, KILLED, digests, carrier)
            return started, plan, None
        with kill_at(len(digests) // 3) as progress:
            return started, plan, timed(made, KILLED, digests, carrier, progress)


def timed(made: FeatureJob, view: View, digests: np.ndarray, carrier: Executor, progress: "Killer | None" = None) -> float:
    """Time one plan."""
    started = time.perf_counter()
    took = extract(made, {view: digests}, carrier, *([progress] if progress else []))
    assert took.forwards == len(digests)
    return time.perf_counter() - started


class Killer:
    """A progress that kills one worker once so many drawings are done."""

    def __init__(self, after: int) -> None:
        self.after, self.lock = after, threading.Lock()
        self.victim: int | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Kill the first worker that is found at work."""
        with self.lock:
            if self.victim is None and done >= self.after:
                self.victim = busiest_child()
                os.kill(self.victim, signal.SIGKILL)


@contextlib.contextmanager
def kill_at(after: int) -> Iterator[Killer]:
    """Give a killer, and make sure that it killed."""
    killer = Killer(after)
    yield killer
    assert killer.victim is not None


def busiest_child() -> int:
    """Find the process below this one that has used the processor most, which is a worker."""
    used: dict[int, tuple[int, float]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text(encoding="utf-8").rsplit(")", 1)[1].split()
            used[int(path.parent.name)] = int(fields[1]), float(fields[11]) + float(fields[12])
    family = {os.getpid()}
    while new := {child for child, (parent, _) in used.items() if parent in family} - family:
        family |= new
    return max(family - {os.getpid()}, key=lambda pid: used[pid][1])


if __name__ == "__main__":
    main()
