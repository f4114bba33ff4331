"""A model on the web: the server of `inkfold serve`, its page to draw on, its HTTP API, and an ASGI application.

A finished run is exported once (`prepare`) and loaded in ONNX Runtime (`model`), so nothing here needs PyTorch. `routes` says
which path gives what, for both `http`, inkfold's own HTTP server, and `application`, the ASGI application.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inkfold.serve.application import asgi as asgi
    from inkfold.serve.server import ServeOptions as ServeOptions
    from inkfold.serve.server import serve as serve

_MODULES = {"ServeOptions": "server", "asgi": "application", "serve": "server"}
__all__ = ["ServeOptions", "asgi", "serve"]


def __getattr__(name: str) -> Any:
    """Import a public name on its first use."""
    if name not in _MODULES:
        raise AttributeError(f"module 'inkfold.serve' has no attribute {name!r}")
    return getattr(import_module(f"inkfold.serve.{_MODULES[name]}"), name)
