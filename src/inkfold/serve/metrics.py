"""Figures for Prometheus, in its text format: counters, gauges that are asked when they are read, and histograms."""

import mmap
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
BATCHES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)

Labels = tuple[tuple[str, str], ...]


class Counters:
    """All figures of a server. Their names and labels are few and fixed: nothing that clients send becomes a label."""

    def __init__(self) -> None:
        self._help: dict[str, tuple[str, str]] = {}
        self._counts: dict[str, Counter[Labels]] = defaultdict(Counter)
        self._gauges: dict[str, Callable[[], float]] = {}
        self._bounds: dict[str, tuple[float, ...]] = {}
        self._observed: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def add_counter(self, name: str, about: str) -> None:
        """Announce what is counted."""
        self._help[name] = ("counter", about)

    def add_gauge(self, name: str, about: str, read: Callable[[], float]) -> None:
        """Announce what is read when it is asked for."""
        self._help[name] = ("gauge", about)
        self._gauges[name] = read

    def add_histogram(self, name: str, about: str, bounds: tuple[float, ...] = SECONDS) -> None:
        """Announce what is sorted into buckets.

        Args:
            name: With its unit.
            about: What it is.
            bounds: Upper ones, rising.
        """
        self._help[name] = ("histogram", about)
        self._bounds[name], self._observed[name], self._sums[name] = bounds, [0] * (len(bounds) + 1), 0.0

    def count(self, name: str, **labels: str) -> None:
        """Count one."""
        self._counts[name][tuple(sorted(labels.items()))] += 1

    def observe(self, name: str, value: float) -> None:
        """Put a value into its bucket."""
        self._observed[name][bisect_left(self._bounds[name], value)] += 1
        self._sums[name] += value

    def text(self) -> str:
        """Give all figures in Prometheus's text format 0.0.4."""
        lines: list[str] = []
        for name, (kind, about) in self._help.items():
            lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
            if kind == "gauge":
                lines.append(f"{name} {self._gauges[name]():g}")
            elif kind == "counter":
                lines += [f"{name}{_braced(labels)} {count}" for labels, count in sorted(self._counts[name].items())]
            else:
                lines += self._histogram(name)
        return "\n".join(lines) + "\n"

    def _histogram(self, name: str) -> list[str]:
        lines, below = [], 0
        for bound, count in zip((*map("{:g}".format, self._bounds[name]), "+Inf"), self._observed[name], strict=True):
            below += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {below}')
        return [*lines, f"{name}_sum {self._sums[name]:.6f}", f"{name}_count {below}"]


def _braced(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}" if labels else ""


def resident_bytes() -> float:
    """Give the memory that this process holds, where the system tells it cheaply; else 0."""
    try:
        return float(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0.0
