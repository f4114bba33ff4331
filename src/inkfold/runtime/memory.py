"""Says in words that memory did not suffice: libraries report it by a dozen exceptions, many of which don't name it."""

import errno
import os
import re
from collections.abc import Iterator

GIB = 1 << 30
# Measured: training on a CPU takes 1.5 GiB of address space, most of it PyTorch's libraries; 1 GiB doesn't hold them.
NEEDED_BYTES = 2 * GIB

_BYTES = (
    re.compile(r"tried to allocate (\d+) bytes"),  # PyTorch on the CPU
    re.compile(r"[Ff]ailed to allocate (\d+) bytes"),  # OpenCV, ONNX Runtime
    re.compile(r"(?:malloc|realloc) of size (\d+) failed"),  # Arrow
)
_WORDED = re.compile(r"Unable to allocate (\S+ \S+) for (an array .*)")  # NumPy
_MEANT = re.compile(
    r"can't allocate memory|cannot allocate memory|not enough memory|insufficient memory|out of memory|bad_alloc|bad allocation"
    r"|failed to map segment|os error 12\b|failed to allocate|pthread_create failed",
    re.IGNORECASE,
)
_ONEDNN = "could not create a primitive"  # also of layers that it can't do
_OF_A_DEVICE = re.compile(r"\b(?:CUDA|HIP|MPS|XPU)\b.*out of memory", re.IGNORECASE | re.DOTALL)


def lack_of_memory(error: BaseException) -> str | None:
    """Say what an exception, or one that it was raised from, reports that there was no memory for.

    Where this process may use less address space than inkfold needs, it is the likely cause of any exception: compiled code
    that gets no memory fails in ways that nobody has provided for.

    Args:
        error: What ended the work; PyTorch's error of a device's memory is none of the machine's.

    Returns:
        What there was no memory for, in words, such as `1.2 GiB`; None if the exception is about something else.
    """
    for cause in _chain(error):
        text = str(cause)
        if _OF_A_DEVICE.search(text):
            return None
        refused = _refused(cause, text)
        if refused is not None:
            return refused
    is_short, is_plain = is_address_space_short(), isinstance(error, OSError | KeyboardInterrupt)
    return f"the next step ({type(error).__name__}: {error})" if is_short and not is_plain else None


def is_lack_of_memory(error: BaseException) -> bool:
    """Return whether an exception itself reports that memory or address space did not suffice.

    Args:
        error: An exception of Python's or of a library, which often has the type of an unreadable file's.
    """
    return _means_memory(error, str(error))


def address_space_limit() -> int | None:
    """Return how many bytes of address space this process may use (`ulimit -v`); None without a limit."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def is_address_space_short() -> bool:
    """Return whether this process may use less address space than training and predicting need."""
    limit = address_space_limit()
    return limit is not None and limit < NEEDED_BYTES


def what_is_needed() -> str:
    """Give the sentence that says how much memory this process has and needs, and where it can be got."""
    limit = address_space_limit()
    needed = f"Training and predicting need at least {_size(NEEDED_BYTES)}, large backbones more"
    if limit is None:
        return f"{needed}: end other programs, or lower backbone.batch_size or image.size."
    return f"This process may use {_size(limit)} (ulimit -v). {needed}: raise it (ulimit -v unlimited), or lower image.size."


def _refused(error: BaseException, text: str) -> str | None:
    if not _means_memory(error, text):
        return None
    if worded := _WORDED.search(text):
        return f"{worded[2]} ({worded[1]})"
    for pattern in _BYTES:
        if number := pattern.search(text):
            return _size(int(number[1]))
    if "new thread" in text:
        return "another thread"
    return "the program's libraries" if isinstance(error, ImportError) else "the next step"


def _means_memory(error: BaseException, text: str) -> bool:
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError) and text.startswith("can't start new thread"):
        return True
    if isinstance(error, RuntimeError) and text.startswith(_ONEDNN):
        return address_space_limit() is not None
    is_candidate = isinstance(error, RuntimeError | OSError | ImportError) or _is_of_a_library(error)
    return is_candidate and bool(_MEANT.search(text))


def _is_of_a_library(error: BaseException) -> bool:
    """Recognise errors of compiled libraries by where they come from: none of them is imported for it."""
    return type(error).__module__.partition(".")[0] in ("cv2", "safetensors_rust", "safetensors", "onnxruntime", "pyarrow")


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    rest: BaseException | None = error
    while rest is not None and id(rest) not in seen:
        seen.add(id(rest))
        yield rest
        rest = rest.__cause__ or (None if rest.__suppress_context__ else rest.__context__)


def _size(count: int) -> str:
    for unit, name in ((GIB, "GiB"), (1 << 20, "MiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"


def spare_address_space() -> bool:
    """Let OpenBLAS start one thread where address space is short: it ends the process where it can't have memory for each.

    Returns:
        Whether address space is short.
    """
    is_short = is_address_space_short()
    if is_short:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return is_short
