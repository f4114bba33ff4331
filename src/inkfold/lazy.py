"""Public names that a package imports when they are first used, so that `import inkfold` doesn't wait for PyTorch.

Some functions have the name of a package below `inkfold`: `inkfold.audit(run)` beside `inkfold.audit.run_audit`. Python binds a
package to the name of the function that it would hide, so these packages are callable themselves (`call_package`), and the name
means the same whatever was imported before.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import Signature, signature
from types import ModuleType
from typing import Any

from inkfold.errors import missing_part


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make a package's `__getattr__` and `__dir__` (PEP 562).

    Args:
        package: The package's own `__name__`, below which the modules are.
        modules: The module of the package that defines each public name; `module:other` where it is called `other` there, and
            `module:` where it is the module itself.

    Returns:
        `__getattr__`, which imports the module of a name when the name is first used, and `__dir__`, which lists the names.
    """

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        place, separator, original = modules[name].partition(":")
        try:
            module = import_module(f"{package}.{place}")
            return module if separator and not original else getattr(module, original or name)
        except ModuleNotFoundError as error:
            if (line := missing_part(error)) is None:
                raise
            raise ModuleNotFoundError(f"{package}.{name}: {line}", name=error.name) from None

    return load, lambda: sorted(modules)


def call_package(package: str, function: str) -> None:
    """Let a package be called like a function, which is imported when it is first called.

    Args:
        package: The package's own `__name__`.
        function: The module and the name of the function, such as `inkfold.api.results:audit`.
    """
    sys.modules[package].__class__ = _CalledModule
    vars(sys.modules[package])["_called"] = function


class _CalledModule(ModuleType):
    """A module that is called like the function of its name."""

    _called: str

    @property
    def _function(self) -> Callable[..., Any]:
        module, _, name = self._called.partition(":")
        function: Callable[..., Any] = getattr(import_module(module), name)
        return function

    @property
    def __signature__(self) -> Signature:
        """The function's parameters, for `inspect` and editors."""
        return signature(self._function)

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        """Call the function of the module's name."""
        return self._function(*arguments, **settings)
