"""Time, memory and disk per drawing, from 10,000 to 1,000,000 small drawings.

Drawings are pages of 48 px with a few random strokes, in class folders; every fiftieth is a copy of its predecessor, byte for
byte. On each size check, train (ink-small, linear head, 5 folds), audit, report, vote (the run and a second one of fewer
epochs) and export run one after the other, each in a process of its own:

- wall: seconds; cpu: seconds of processor, children included: the figure to compare where other programs run, too;
- peak: the most resident bytes of the process and its children together, asked for every 50 ms, and what of it is memory of
  their own, not pages of mapped files;
- disk: what the command added to INKFOLD_HOME and its output.

Growth is what the own memory grows by from the smallest size to the largest, for each drawing more; slowdown is the processor
time per drawing at the largest size over that at the smallest. The aims: at most 400 bytes, at most 1.3, a report under 4 MB.

    .venv/bin/python benchmarks/scale.py [--drawings N ...] [--classes N] [--dir DIR] [--plot FILE] [--quick]
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

SIZE_PX = 48
COPY_EVERY = 50
SAMPLED_S = 0.05
AIM_BYTES, AIM_SLOWDOWN, AIM_REPORT_BYTES = 400, 1.3, 4_000_000
SETTINGS = ("backbone.name=ink-small", "backbone.device=cpu", "image.size=64", "folds.k=5")


@dataclass(frozen=True)
class Cost:
    """What a command cost.

    Attributes:
        command: Its name.
        drawings: How many drawings it worked on.
        wall_s: Seconds by the clock.
        cpu_s: Seconds of processor, of the process and its children.
        peak_bytes: The most resident memory at once, of all its processes.
        own_bytes: The most memory at once that is no file's pages.
        disk_bytes: What it added on disk.
    """

    command: str
    drawings: int
    wall_s: float
    cpu_s: float
    peak_bytes: int
    own_bytes: int
    disk_bytes: int


def main() -> None:
    """Measure all sizes, and print the table and the RESULT line."""
    given = parse()
    sizes = [500, 2_000] if given.quick else given.drawings
    classes = 20 if given.quick else given.classes
    costs: list[Cost] = []
    reports: list[int] = []
    with tempfile.TemporaryDirectory(dir=given.dir) as temp:
        for drawings in sizes:
            place = Path(temp) / str(drawings)
            make_drawings(place / "data", drawings, classes)
            costs += measure(place, drawings)
            reports.append((place / "run" / "report.html").stat().st_size)
            shutil.rmtree(place)
    print_table(costs)
    print_result(costs, sizes, classes, max(reports))
    if given.plot:
        plot(costs, given.plot)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drawings", type=int, nargs="+", default=[10_000, 100_000], help="how many drawings, in turn")
    parser.add_argument("--classes", type=int, default=345, help="how many classes; 345 and 5000 are the aims'")
    parser.add_argument("--dir", type=Path, help="where drawings and results lie while they are needed: 10 kB a drawing")
    parser.add_argument("--plot", type=Path, help="a picture of bytes and seconds by the number of drawings")
    parser.add_argument("--quick", action="store_true", help="500 and 2,000 drawings of 20 classes")
    return parser.parse_args()


def make_drawings(root: Path, drawings: int, classes: int) -> None:
    """Draw pages in class folders; the strokes of a class start near the same places, which can be trained on."""
    rng = np.random.default_rng(0)
    starts = rng.integers(4, SIZE_PX - 4, (classes, 4, 2))
    for k in range(classes):
        (root / f"class {k:04d}").mkdir(parents=True)
    data = b""
    for i in range(drawings):
        is_copy = i > 0 and i % COPY_EVERY == 0
        original = i - 1 if is_copy else i
        k = (original // COPY_EVERY + original) % classes  # so that not the same classes have all the copies
        if not is_copy:
            page = np.full((SIZE_PX, SIZE_PX), 255, np.uint8)
            points = np.clip(starts[k] + rng.integers(-4, 5, (4, 2)), 1, SIZE_PX - 2).astype(np.int32)
            cv2.polylines(page, [points.reshape(-1, 1, 2)], isClosed=False, color=0, thickness=1)
            cv2.line(page, points[0].tolist(), rng.integers(1, SIZE_PX - 1, 2).tolist(), 0, 1)
            data = cv2.imencode(".png", page, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()
        (root / f"class {k:04d}" / f"{i:07d}.png").write_bytes(data)


def measure(place: Path, drawings: int) -> list[Cost]:
    """Run all commands on one size."""
    data, run, other = place / "data", place / "run", place / "other"
    train = ["train", "first", f"data={data}", *SETTINGS]
    commands = {
        "check": ["check", str(data)],
        "train": [*train, f"out={run}"],
        "audit": ["audit", str(run)],
        "report": ["report", str(run)],
        "train again": [*train, f"out={other}", "train_head.epochs=4"],
        "vote": ["vote", str(run), str(other), "--out", str(place / "ensemble")],
        "export": ["export", str(run), "--out", str(place / "model.onnx")],
    }
    return [measured(name, arguments, place, drawings) for name, arguments in commands.items()]


def measured(name: str, arguments: list[str], place: Path, drawings: int) -> Cost:
    """Run a command in a process of its own."""
    before, started, cpu = disk_of(place), time.perf_counter(), children_s()
    environment = os.environ | {"INKFOLD_HOME": str(place / "home"), "HF_HUB_OFFLINE": "1"}
    environment.pop("INKFOLD_WEIGHTS", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "inkfold", *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    peak = own = 0
    while process.poll() is None:
        resident, anonymous = memory_of(process.pid)
        peak, own = max(peak, resident), max(own, anonymous)
        time.sleep(SAMPLED_S)
    wall = time.perf_counter() - started
    if process.returncode not in (0, 1) or (process.returncode and name != "check"):  # 1: check has found duplicates
        raise SystemExit(f"inkfold {' '.join(arguments)}: ended with exit code {process.returncode}")
    print(f"{drawings:>9,} {name:<12} {wall:8.1f} s wall {children_s() - cpu:8.1f} s cpu {peak / 1e6:8.0f} MB", flush=True)
    return Cost(name, drawings, wall, children_s() - cpu, peak, own, disk_of(place) - before)


def children_s() -> float:
    """Give the processor time of all children that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def memory_of(root: int) -> tuple[int, int]:
    """Add up the resident memory of a process and its descendants, and what of it is no file's pages."""
    resident = anonymous = 0
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            children = [Path(f"/proc/{pid}/task/{task.name}/children") for task in Path(f"/proc/{pid}/task").iterdir()]
            waiting += [int(child) for file in children for child in file.read_text().split()]
        except OSError:  # it has ended
            continue
        values = dict(line.split(":", 1) for line in status.splitlines() if line.startswith("Rss") or line.startswith("VmRSS"))
        resident += int(values.get("VmRSS", "0 kB").split()[0]) << 10
        anonymous += int(values.get("RssAnon", "0 kB").split()[0]) << 10
    return resident, anonymous


def disk_of(place: Path) -> int:
    """Add up what is on disk besides the drawings."""
    total = 0
    for directory, names, files in os.walk(place):
        if Path(directory) == place:
            names[:] = [name for name in names if name != "data"]
        total += sum((Path(directory) / file).lstat().st_size for file in files)
    return total


def print_table(costs: list[Cost]) -> None:
    """Print a row for each command and size."""
    names = ("wall s", "cpu s", "ms/drawing", "peak MB", "own MB", "disk B/drawing")
    print(f"\n{'drawings':>9} {'command':<12}" + "".join(f"{name:>15}" for name in names))
    for cost in costs:
        each = 1000 * cost.cpu_s / cost.drawings
        print(
            f"{cost.drawings:>9,} {cost.command:<12}{cost.wall_s:>15.1f}{cost.cpu_s:>15.1f}{each:>15.2f}"
            f"{cost.peak_bytes / 1e6:>15.0f}{cost.own_bytes / 1e6:>15.0f}{cost.disk_bytes / cost.drawings:>15.0f}"
        )


def print_result(costs: list[Cost], sizes: list[int], classes: int, report: int) -> None:
    """Print growth and slowdown of each command, and the RESULT line with the worst."""
    growth, slowdown = {}, {}
    for first in (cost for cost in costs if cost.drawings == sizes[0]):
        last = next(cost for cost in costs if cost.drawings == sizes[-1] and cost.command == first.command)
        growth[first.command] = (last.own_bytes - first.own_bytes) / max(1, sizes[-1] - sizes[0])
        slowdown[first.command] = last.cpu_s / last.drawings / (first.cpu_s / first.drawings)
        print(f"{first.command:<12} {growth[first.command]:8.0f} B/drawing more, {slowdown[first.command]:5.2f} times the time")
    print(
        f"RESULT drawings={sizes[-1]} classes={classes} growth_bytes={max(growth.values()):.0f} aim_bytes={AIM_BYTES} "
        f"slowdown={max(slowdown.values()):.2f} aim_slowdown={AIM_SLOWDOWN} "
        f"report_bytes={report} aim_report_bytes={AIM_REPORT_BYTES}"
    )


def plot(costs: list[Cost], file: Path) -> None:
    """Draw own memory and processor time per drawing, a line for each command."""
    import matplotlib.pyplot as plt

    figure, (memory, seconds) = plt.subplots(1, 2, figsize=(10, 4))
    for name in dict.fromkeys(cost.command for cost in costs):
        own = [cost for cost in costs if cost.command == name]
        memory.plot([cost.drawings for cost in own], [cost.own_bytes / 1e6 for cost in own], marker="o", label=name)
        seconds.plot([cost.drawings for cost in own], [1000 * cost.cpu_s / cost.drawings for cost in own], marker="o")
    for axes, label in ((memory, "memory of its own, MB"), (seconds, "processor time, ms per drawing")):
        axes.set(xscale="log", yscale="log", xlabel="drawings", ylabel=label)
    memory.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(file)


if __name__ == "__main__":
    main()
