"""Lets timm be imported where torchvision's operators don't fit the installed PyTorch, and without PyTorch's compiler.

PyPI's torchvision wheel is linked with CUDA. Beside a CPU build of PyTorch its library doesn't load, and `import torchvision`
fails on `operator torchvision::nms does not exist`. inkfold uses no compiled operator, so declaring the two schemas is enough.

timm and torchvision import PyTorch's compiler, 2 of the 5 seconds in which a process starts, for two functions that most
processes never call. They get others of the same meaning, which import it when they are called.
"""

import contextlib
import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
COMPILER, COMPILER_UTILS = "torch._dynamo", "torch._dynamo.utils"
_kept_alive: "list[torch.library.Library]" = []  # a Library's declarations go when it is collected


def declare_missing_operators() -> bool:
    """Import timm, and declare torchvision's operators where importing it fails on them; call it before `import timm`.

    Returns:
        Whether the operators were missing.
    """
    with _compiler_later():
        missing = bool(_kept_alive) or not _torchvision_loads()
        if missing and not _kept_alive:
            _declare()
        import_module("timm")
    return missing


def _torchvision_loads() -> bool:
    try:
        import torchvision  # noqa: F401, PLC0415
    except (RuntimeError, ImportError, AttributeError) as error:
        if "torchvision" not in str(error):
            raise
        return False
    return True


def _declare() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # the failed import leaves half-made modules
    import torch  # noqa: PLC0415 - reading and checking drawings need no PyTorch

    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _kept_alive.append(library)


@contextlib.contextmanager
def _compiler_later() -> Iterator[None]:
    """Let those who want one of the two functions have it without the compiler, unless that is loaded."""
    import torch  # noqa: PLC0415 - reading and checking drawings need no PyTorch

    real, watch = torch.compiler.disable, _Watch()
    if COMPILER not in sys.modules:
        utils = _Utils(COMPILER_UTILS)
        utils.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
        sys.modules[COMPILER_UTILS] = utils
        sys.meta_path.insert(0, watch)
        torch.compiler.disable = _disable
    try:
        yield
    finally:
        torch.compiler.disable = real
        _remove_utils()
        if watch in sys.meta_path:
            sys.meta_path.remove(watch)


class _Utils(ModuleType):
    """Stands for the compiler's `utils`; asked for anything else than its one function, the real one is imported."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # of those who look through all modules
            raise AttributeError(name)
        import_module(COMPILER)
        return getattr(import_module(COMPILER_UTILS), name)


class _Watch:
    """Sees when the compiler is imported, and removes what stands for a part of it before."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == COMPILER:
            _remove_utils()


def _remove_utils() -> None:
    if isinstance(sys.modules.get(COMPILER_UTILS), _Utils):
        del sys.modules[COMPILER_UTILS]


def _disable(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """Mark a function as not to be compiled, as PyTorch marks its own: the compiler is imported at the first call."""
    try:
        from torch._compile import _disable_dynamo  # noqa: PLC0415
    except ImportError:  # that is no documented interface
        return import_module(COMPILER).disable(fn, recursive, reason=reason)
    return _disable_dynamo(fn, recursive)


def _is_compile_supported(device_type: str) -> bool:
    return bool(import_module(COMPILER_UTILS).is_compile_supported(device_type))


def __getattr__(name: str) -> ModuleType:
    """Give timm itself under its name, imported so that it works."""
    if name != "timm":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    declare_missing_operators()
    return import_module("timm")
