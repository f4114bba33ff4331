"""Reads what a container or the user's settings leave of this machine's processors and memory."""

import os
from pathlib import Path

GIB = 1 << 30
CGROUPS = Path("/sys/fs/cgroup")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def allowed_processors() -> int:
    """Return the number of processors that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1


def container_processors(root: Path = CGROUPS) -> float | None:
    """Return how many processors' time a container (cgroup) allows; None without such a limit.

    Args:
        root: Where cgroups are mounted; both versions of them are read.
    """
    quota, _, period = _first_line(root / "cpu.max").partition(" ")
    if not quota:
        quota, period = _first_line(root / "cpu/cpu.cfs_quota_us"), _first_line(root / "cpu/cpu.cfs_period_us")
    try:
        share = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # `max`, or no cgroups
        return None
    return share if share > 0 else None


def container_memory(root: Path = CGROUPS) -> int | None:
    """Return how many bytes of memory a container (cgroup) allows; None without such a limit.

    Args:
        root: Where cgroups are mounted; both versions of them are read.
    """
    text = _first_line(root / "memory.max") or _first_line(root / "memory/memory.limit_in_bytes")
    limit = int(text) if text.isdecimal() else None
    return None if limit is None or limit >= 1 << 60 else limit  # version 1 writes nearly 2^63 for none


def machine_memory(meminfo: Path = Path("/proc/meminfo")) -> tuple[int, int] | None:
    """Return the bytes of memory that the machine has and that are available; None where it isn't known.

    Args:
        meminfo: Linux's figures of memory.
    """
    try:
        rows = dict(line.split(":", 1) for line in meminfo.read_text("ascii").splitlines() if ":" in line)
        return tuple(int(rows[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))  # type: ignore[return-value]
    except (OSError, ValueError, KeyError, IndexError):
        return None


def set_threads() -> dict[str, str]:
    """Return the environment's variables that set the number of threads, by name."""
    return {name: os.environ[name] for name in THREAD_VARIABLES if os.environ.get(name)}


def _first_line(path: Path) -> str:
    try:
        return path.read_text("ascii").partition("\n")[0].strip()
    except (OSError, ValueError):
        return ""
