"""A model on the web: the server of `inkfold serve`, its page to draw on, its HTTP API, and an ASGI application.

A finished run is exported once (`prepare`) and loaded in ONNX Runtime (`model`), so nothing here needs PyTorch. `routes` says
which path gives what, for both `http`, inkfold's own HTTP server, and `application`, the ASGI application.

`inkfold.serve(...)` is the function `inkfold.api.deployment.serve`: `help` on that describes it.
"""

from typing import TYPE_CHECKING

from inkfold.lazy import call_package, lazy_names

if TYPE_CHECKING:
    from inkfold.serve.access import AccessOptions as AccessOptions
    from inkfold.serve.application import asgi as asgi
    from inkfold.serve.background import BackgroundServer as BackgroundServer
    from inkfold.serve.model import OnnxModel as OnnxModel
    from inkfold.serve.server import ServeOptions as ServeOptions
    from inkfold.serve.server import serve as serve

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "AccessOptions": "access",
        "BackgroundServer": "background",
        "OnnxModel": "model",
        "ServeOptions": "server",
        "asgi": "application",
        "serve": "server",
    },
)

call_package(__name__, "inkfold.api.deployment:serve")
