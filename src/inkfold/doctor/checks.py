"""The checks of `inkfold doctor`, in the order in which they are shown; each reports, also when it breaks."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from inkfold.doctor.limits import (
    GIB,
    allowed_processors,
    container_memory,
    container_processors,
    machine_memory,
    set_threads,
)
from inkfold.errors import PARTS

State = Literal["ok", "note", "slow", "broken"]
NEEDED = (
    "numpy",
    "pyarrow",
    "pydantic",
    "yaml",
    "PIL",
    "cv2",
    "scipy",
    "matplotlib",
    "onnxruntime",
    "safetensors",
    "simplejpeg",
)
SHOWN_VERSIONS = ("numpy", "pillow", "onnxruntime", "torch", "torchvision", "timm")
IMPORT_S = 120  # until `import timm` counts as hanging
TOO_LONG = f"it took more than {IMPORT_S} s"
WRITTEN_BYTES = 32 << 20
SLOW_DISK_MB_S = 50.0
LITTLE_DISK_BYTES, LITTLE_MEMORY_BYTES = 2 * GIB, 4 * GIB


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        name: What was looked at.
        text: What was found, in a line.
        state: `ok`; `note`, something that some commands lack; `slow`; or `broken`, without which inkfold can't be used.
        advice: What to do, such as a command to run; empty where there is nothing to do.
    """

    name: str
    text: str
    state: State = "ok"
    advice: str = ""

    def lines(self) -> list[str]:
        """Lay it out for a terminal."""
        mark = {"ok": "  ", "note": "- ", "slow": "! ", "broken": "X "}[self.state]
        line = f"{mark}{self.name:<12} {self.text}"
        return [line, f"{'':<15}-> {self.advice}"] if self.advice else [line]

    def as_json(self) -> dict[str, Any]:
        """Give it as a mapping."""
        return asdict(self)


def run_checks() -> Iterator[Finding]:
    """Look at one thing after the other.

    Yields:
        What was found, at least one finding for each check, as soon as it is known.
    """
    for check in CHECKS:
        name = check.__name__.strip("_").replace("_", " ")
        try:
            yield from check()
        except Exception as error:
            yield Finding(name, f"this check broke: {_line(error)}", "note")


def _versions() -> Iterator[Finding]:
    found = [f"{name} {known}" for name in SHOWN_VERSIONS if (known := _version(name))]
    system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Finding("inkfold", f"{_version('inkfold') or 'not installed as a package'}; {system}")
    yield Finding("versions", ", ".join(found) or "none of the usual packages is installed", "ok" if found else "broken")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _packages() -> Iterator[Finding]:
    """Import what inkfold can't do without, one package after the other."""
    broken = {}
    for name in NEEDED:
        try:
            import_module(name)
        except Exception as error:
            broken[name] = _line(error)
    for name, reason in broken.items():
        slow = name == "simplejpeg"
        advice = f"{sys.executable} -m pip install --force-reinstall --no-deps {PACKAGE_OF.get(name, name)}"
        yield Finding("packages", f"{name}: {reason}" + (": no JPEG can be read" if slow else ""), "broken", advice)
    if not broken:
        yield Finding("packages", f"all {len(NEEDED)} that inkfold needs can be imported")


PACKAGE_OF = {"yaml": "pyyaml", "PIL": "pillow", "cv2": "opencv-python-headless"}


def _parts() -> Iterator[Finding]:
    for part in dict.fromkeys(PARTS.values()):
        packages = [name for name, its_part in PARTS.items() if its_part == part]
        missing = [name for name in packages if find_spec(name) is None]
        if missing:
            yield Finding(f"[{part}]", f"missing: {', '.join(missing)}", "note", f"pip install 'inkfold[{part}]'")
        else:
            yield Finding(f"[{part}]", "installed")


def _device() -> Iterator[Finding]:
    if find_spec("torch") is None:
        yield Finding("device", "no PyTorch: training and audits can't run; checking, voting, reports and serving can", "note")
        return
    torch = import_module("torch")
    if torch.cuda.is_available():
        found = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        yield Finding("device", f"cuda: {found}")
    elif torch.backends.mps.is_available():
        yield Finding("device", "mps: Apple's GPU")
    else:
        yield Finding("device", "cpu: no GPU that PyTorch can use; recipes named cpu-... are made for it")
    yield _bfloat16(torch)


def _bfloat16(torch: Any) -> Finding:
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    known = [bool(getattr(torch.cpu, name)()) for name in names if hasattr(torch.cpu, name)]
    if any(known):
        return Finding("bfloat16", "the processor has instructions for it, so precision=auto takes it")
    return Finding("bfloat16", "the processor has no instructions for it, so it computes in float32, about half as fast", "ok")


def _timm() -> Iterator[Finding]:
    """Import timm in a process of its own, as notebooks do, and not as inkfold does."""
    if find_spec("timm") is None:
        return
    own = "from inkfold.models import timm"
    alone = _import_error("import timm")
    if alone == TOO_LONG:
        yield Finding("timm", f"`import timm`: {TOO_LONG}; the machine is busy or its disk slow", "slow")
        return
    if alone is None:
        yield Finding("timm", "`import timm` works by itself")
        return
    within = _import_error(own)
    if within is None:
        advice = (
            "inkfold isn't touched by it; in your own code write `from inkfold.models import timm` instead, or install "
            "torchvision for your torch, both from https://download.pytorch.org/whl/cpu"
        )
        yield Finding("timm", f"`import timm` fails by itself ({alone}), within inkfold it works", "note", advice)
    else:
        advice = "install torch and torchvision of the same build anew, then pip install 'inkfold[train]'"
        yield Finding("timm", f"can't be imported, so nothing can be trained: {within}", "broken", advice)


def _import_error(code: str) -> str | None:
    """Run some code in a new interpreter, and return the last line of its error; None if it has none."""
    try:
        done = subprocess.run(  # noqa: S603 - our own code
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=IMPORT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return TOO_LONG
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1][:200] if lines else f"exit code {done.returncode}"


def _processors() -> Iterator[Finding]:
    allowed, there = allowed_processors(), os.cpu_count() or 1
    text = f"{allowed} of {there} processors" if allowed < there else f"{there} processors"
    quota = container_processors()
    if quota is not None and quota < allowed:
        advice = f"allow the container more; until then: export OMP_NUM_THREADS={max(1, int(quota))}"
        text = f"{text}, but the container's limit (cgroup) is {quota:g} of them, which more threads than that wait for"
        yield Finding("processors", text, "slow", advice)
    else:
        yield Finding("processors", text)
    threads = set_threads()
    low = {name: value for name, value in threads.items() if value.isdecimal() and int(value) < min(allowed, quota or allowed)}
    if low:
        words = ", ".join(f"{name}={value}" for name, value in low.items())
        yield Finding("threads", f"{words}: training uses no more threads than that", "slow", f"unset {' '.join(low)}")
    else:
        yield Finding("threads", ", ".join(f"{name}={value}" for name, value in threads.items()) or "as many as processors")


def _memory() -> Iterator[Finding]:
    from inkfold.runtime.memory import NEEDED_BYTES, address_space_limit, what_is_needed  # noqa: PLC0415 - may be broken

    machine, container, ulimit = machine_memory(), container_memory(), address_space_limit()
    words = [f"{machine[0] / GIB:.1f} GiB, {machine[1] / GIB:.1f} GiB of them free"] if machine else []
    words += [f"the container's limit (cgroup) is {container / GIB:.1f} GiB"] if container else []
    words += [f"this process may use {ulimit / GIB:.1f} GiB (ulimit -v)"] if ulimit else []
    least = min(
        [*([machine[1]] if machine else []), *([container] if container else []), *([ulimit] if ulimit else [])] or [1 << 62]
    )
    is_short = least < (NEEDED_BYTES if ulimit and least == ulimit else LITTLE_MEMORY_BYTES)
    yield Finding(
        "memory",
        "; ".join(words) or "not known on this system",
        "note" if is_short else "ok",
        what_is_needed() if is_short else "",
    )


def _weights() -> Iterator[Finding]:
    yield Finding("weights", "ink-small comes with inkfold")
    directories = [Path(part).expanduser() for part in os.environ.get("INKFOLD_WEIGHTS", "").split(os.pathsep) if part]
    for directory in directories:
        if not directory.is_dir():
            yield Finding("weights", f"INKFOLD_WEIGHTS names {directory}, which is no directory", "note", "correct or unset it")
            continue
        files = sorted(file.name for file in directory.iterdir() if file.suffix in (".safetensors", ".pth", ".pt", ".bin"))
        yield Finding("weights", f"{directory}: {_some(files) or 'no file of weights'}", "ok" if files else "note")
    if not directories:
        yield Finding("weights", "INKFOLD_WEIGHTS isn't set: no directory of your own weights")
    if find_spec("huggingface_hub") is None or find_spec("safetensors") is None:
        return
    at_hand = import_module("inkfold.models.at_hand")
    place = import_module("huggingface_hub.constants").HF_HUB_CACHE
    cached = at_hand.cached_names()
    yield Finding("hub's cache", f"{place}: {_some(cached) or 'none of timm'}")


def _some(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _hub() -> Iterator[Finding]:
    if find_spec("huggingface_hub") is None:
        return
    constants = import_module("huggingface_hub.constants")
    if constants.HF_HUB_OFFLINE:
        yield Finding("hub", "HF_HUB_OFFLINE is set: weights come from this machine alone", "note", "unset HF_HUB_OFFLINE")
    elif import_module("inkfold.models.at_hand").hub_answers():
        yield Finding("hub", f"{constants.ENDPOINT} answers: weights that are missing are fetched")
    else:
        advice = "put files of weights into a directory and name it in INKFOLD_WEIGHTS, or use ink-small"
        yield Finding("hub", f"{constants.ENDPOINT} can't be reached: weights come from this machine alone", "note", advice)


def _cache() -> Iterator[Finding]:
    from inkfold.storage.cache import home, list_cache  # noqa: PLC0415 - may be broken

    place = home()
    entries = list_cache(place)
    size = sum(entry.bytes for entry in entries)
    name = "INKFOLD_HOME" if os.environ.get("INKFOLD_HOME") else "the system's directory of caches"
    yield Finding("cache", f"{place} ({name}): {size / 1e9:.2f} GB in {len(entries)} entries")
    above = next(path for path in (place, *place.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(above).free
    advice = "inkfold cache prune --older-than-days 30, or set INKFOLD_HOME to a larger disk"
    is_little = free < LITTLE_DISK_BYTES
    yield Finding("disk", f"{free / 1e9:.1f} GB free there", "note" if is_little else "ok", advice if is_little else "")
    if not os.access(above, os.W_OK):
        yield Finding("disk", f"{above}: can't be written", "broken", "set INKFOLD_HOME to a directory of yours")
    elif not is_little:
        yield _disk_speed(above)


def _disk_speed(directory: Path) -> Finding:
    """Write 32 MiB and wait until they are on the disk; the file has no name where the system allows it."""
    with tempfile.TemporaryFile(dir=directory) as file:
        content = os.urandom(1 << 20)
        start = time.perf_counter()
        for _ in range(WRITTEN_BYTES >> 20):
            file.write(content)
        file.flush()
        os.fsync(file.fileno())
        speed = WRITTEN_BYTES / 1e6 / max(time.perf_counter() - start, 1e-6)
    is_slow = speed < SLOW_DISK_MB_S
    advice = "set INKFOLD_HOME to a local disk, not one of a network" if is_slow else ""
    return Finding("disk speed", f"{speed:.0f} MB/s written", "slow" if is_slow else "ok", advice)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _versions,
    _packages,
    _parts,
    _device,
    _timm,
    _processors,
    _memory,
    _weights,
    _hub,
    _cache,
)
