"""Public names that a package imports when they are first used, so that `import inkfold` doesn't wait for PyTorch."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from inkfold.errors import missing_part


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make a package's `__getattr__` and `__dir__` (PEP 562).

    Args:
        package: The package's own `__name__`, below which the modules are.
        modules: The module of the package that defines each public name; `module:other` where it is called `other` there.

    Returns:
        `__getattr__`, which imports the module of a name when the name is first used, and `__dir__`, which lists the names.
    """

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, original = modules[name].partition(":")
        try:
            return getattr(import_module(f"{package}.{module}"), original or name)
        except ModuleNotFoundError as error:
            if (line := missing_part(error)) is None:
                raise
            raise ModuleNotFoundError(f"{package}.{name}: {line}", name=error.name) from None

    return load, lambda: sorted(modules)
