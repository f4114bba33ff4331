"""Votes over the reference's number of files, and greedy selection among many models, against the usual loops.

hard-hard: 15 submissions (3 models x 5 folds) of 10,014 rows and 500 classes. The alternative is what the reference's users
write: read each CSV with pandas and go through the rows, a `.loc` for each cell, counting answers of folds and then of models,
the lowest class id in ties. Two ratios are printed: of the vote itself, and with the reading, checking and aligning by path of
all files. Both sides must give the same answers.

greedy: 30 models x 15,021 drawings x 500 classes, memory-mapped. The alternative adds up whole probability tables for each
candidate in each round, as the paper's algorithm is usually written; it is measured on some rounds and scaled up. Peak memory
is what a process of its own holds beyond the memory-mapped file's pages.

    .venv/bin/python benchmarks/vote.py [--quick]
"""

import argparse
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from inkfold.ensemble.external import Classes, read_member
from inkfold.ensemble.members import align_members
from inkfold.ensemble.stacking import select_greedily
from inkfold.ensemble.voting import hard_preds

MODELS, FOLDS = 3, 5
REPEATS = 5


def main() -> None:
    """Run both parts and print the RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, 6 models; seconds")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temp:
        result = votes(Path(temp), rows=1_000 if given.quick else 10_014, classes=500)
        shape = (6, 1_500, 100) if given.quick else (30, 15_021, 500)
        result |= greedy(Path(temp), shape)
    print("RESULT " + " ".join(f"{name}={value:.2f}" for name, value in result.items()))


def votes(root: Path, rows: int, classes: int) -> dict[str, float]:
    """Measure hard-hard over files."""
    files = write_submissions(root, rows, classes)
    started = time.perf_counter()
    tables = [pd.read_csv(file) for file in files]
    read_by_pandas = time.perf_counter() - started
    started = time.perf_counter()
    expected = row_by_row(tables)
    loop = time.perf_counter() - started

    numbers = Classes(tuple(f"class {i}" for i in range(classes)), np.arange(classes))
    started = time.perf_counter()
    aligned = align_members([read_member(directory, numbers) for directory in sorted({file.parent for file in files})])
    read_by_us = time.perf_counter() - started
    assert aligned.test is not None
    preds = [folds.argmax(2) for folds in aligned.test]
    ours, seconds = timed(lambda: hard_preds(np.stack([hard_preds(folds) for folds in preds])))
    if not np.array_equal(ours, expected):
        raise SystemExit("the two sides answer differently")
    print(f"hard-hard, {len(files)} submissions of {rows} rows, {classes} classes: equal answers")
    print(f"  {'':<28}{'vote s':>10}{'reading s':>12}{'together s':>12}")
    for name, vote, reading in (("row by row, pandas .loc", loop, read_by_pandas), ("inkfold", seconds, read_by_us)):
        print(f"  {name:<28}{vote:>10.4f}{reading:>12.3f}{vote + reading:>12.3f}")
    return {"ratio": loop / seconds, "ratio_with_reading": (loop + read_by_pandas) / (seconds + read_by_us)}


def write_submissions(root: Path, rows: int, classes: int) -> list[Path]:
    """Write a submission for each fold of each model: right in seven of ten drawings."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, classes, rows)
    files = []
    for model in range(MODELS):
        for fold in range(FOLDS):
            target = np.where(rng.random(rows) < 0.7, truth, rng.integers(0, classes, rows))
            file = root / f"model{model}" / f"test-{fold}.csv"
            file.parent.mkdir(exist_ok=True)
            paths = [f"test/{row}.JPEG" for row in range(rows)]
            pd.DataFrame({"ID": range(rows), "image_path": paths, "target": target}).to_csv(file, index=False)
            files.append(file)
    return files


def row_by_row(tables: list[pd.DataFrame]) -> np.ndarray:
    """Vote as it is usually written."""

    def most(answers: list[Any]) -> int:
        counts: dict[int, int] = {}
        for answer in answers:
            counts[int(answer)] = counts.get(int(answer), 0) + 1
        return min(counts, key=lambda one: (-counts[one], one))

    voted = []
    for row in range(len(tables[0])):
        of_models = [
            most([tables[model * FOLDS + fold].loc[row, "target"] for fold in range(FOLDS)]) for model in range(MODELS)
        ]
        voted.append(most(of_models))
    return np.array(voted)


def greedy(root: Path, shape: tuple[int, int, int]) -> dict[str, float]:
    """Measure greedy selection."""
    models, rows, classes = shape
    rng = np.random.default_rng(0)
    targets = rng.integers(0, classes, rows)
    file = root / "probs.npy"
    probs = np.lib.format.open_memmap(file, "w+", np.float32, shape)
    for model in range(models):
        logits = rng.normal(0, 1, (rows, classes)).astype(np.float32)
        logits[np.arange(rows), targets] += 2 + 3 * rng.random() + rng.normal(0, 1, rows)
        powers = np.exp(logits - logits.max(1, keepdims=True))
        probs[model] = powers / powers.sum(1, keepdims=True)
    probs.flush()
    np.save(root / "targets.npy", targets)
    print(f"greedy selection, {models} models x {rows} x {classes}, {probs.nbytes / 2**20:.0f} MiB memory-mapped, 50 rounds")
    print(f"  {'':<44}{'seconds':>10}{'MiB more':>10}")
    result: dict[str, float] = {}
    for name, side in (
        ("inkfold, 20 bags", "nll"),
        ("whole tables, 1 bag", "plain"),
    ):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            seconds, mib = pool.submit(greedy_side, side, root).result()
        remark = "  2 rounds measured" if side == "plain" else ""
        print(f"  {name:<44}{seconds:>10.2f}{mib:>10.0f}{remark}", flush=True)
        result |= {f"greedy_{side}_seconds": seconds, f"greedy_{side}_mib": mib}
    result["greedy_ratio"] = result["greedy_plain_seconds"] * 20 / 2 / result["greedy_nll_seconds"]  # 20 bags of half of them
    return result


def greedy_side(side: str, root: Path) -> tuple[float, float]:
    """Select in a fresh process; give the seconds for 50 rounds and the MiB that it took."""
    members, targets = np.load(root / "probs.npy", mmap_mode="r"), np.load(root / "targets.npy")
    with PeakMemory() as peak:
        started = time.perf_counter()
        if side == "nll":
            select_greedily(members, targets, rounds=50)
        else:
            plain_rounds(members, targets, 2)
        seconds = time.perf_counter() - started
    return seconds * 25 if side == "plain" else seconds, peak.mib


def plain_rounds(members: np.ndarray, targets: np.ndarray, rounds: int) -> list[int]:
    """Select greedily by adding whole tables up."""
    rows = np.arange(len(targets))
    total, chosen = np.zeros(members.shape[1:], np.float32), list[int]()
    for _ in range(rounds):
        losses = [-np.log(((total + one) / (len(chosen) + 1))[rows, targets]).mean() for one in members]
        chosen.append(int(np.argmin(losses)))
        total += members[chosen[-1]]
    return chosen


class PeakMemory:
    """Watch how much more private memory the process holds than at the start (Linux)."""

    def __enter__(self) -> "PeakMemory":
        self._ended, self._start, self._peak = threading.Event(), _private_kib(), 0
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._watcher.join()

    @property
    def mib(self) -> float:
        """The most, in MiB."""
        return max(0, self._peak - self._start) / 1024

    def _watch(self) -> None:
        while not self._ended.wait(0.005):
            self._peak = max(self._peak, _private_kib())


def _private_kib() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def timed(work: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    """Give the result and the median seconds."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        found = work()
        times.append(time.perf_counter() - started)
    return found, statistics.median(times)


if __name__ == "__main__":
    main()
