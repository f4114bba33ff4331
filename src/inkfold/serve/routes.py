"""Which path gives what, and what every answer carries; whatever goes wrong becomes an answer."""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from inkfold.serve.http import HttpLimits
from inkfold.serve.messages import Refusal, Request, Response, json_response
from inkfold.serve.metrics import CONTENT_TYPE, Counters, resident_bytes
from inkfold.serve.openapi import describe, docs_page, docs_style
from inkfold.serve.predict import Predictor
from inkfold.serve.security import HEADERS, check_origin
from inkfold.serve.static import StaticFiles

log = logging.getLogger("inkfold.serve")

Handler = Callable[[Request], Awaitable[Response]]


class Service:
    """The routes.

    Args:
        shelf: The page's files.
        counters: Told of every answer.
        limits: What clients can hold, to tell them.
        guarded: Whether foreign hosts and origins are refused.
    """

    def __init__(self, shelf: StaticFiles, counters: Counters, limits: HttpLimits, *, guarded: bool) -> None:
        self.desk: Predictor | None = None  # while the model loads
        self.is_stopping = False
        self._shelf, self._counters, self._limits, self._guarded = shelf, counters, limits, guarded
        self._routes: dict[str, tuple[str, Handler]] = {
            "/predict": ("POST", self._predict),
            "/api/model": ("GET", self._model),
            "/healthz": ("GET", self._healthz),
            "/readyz": ("GET", self._readyz),
            "/metrics": ("GET", self._metrics),
            "/openapi.json": ("GET", self._openapi),
            "/docs": ("GET", self._docs),
            "/docs.css": ("GET", self._docs_style),
        }
        counters.add_counter("inkfold_requests_total", "Answers by path and status.")
        counters.add_counter("inkfold_refusals_total", "Refusals by their code.")
        counters.add_histogram("inkfold_request_seconds", "From a whole request to its answer.")
        counters.add_gauge("inkfold_resident_bytes", "Memory of this process.", resident_bytes)

    async def answer(self, request: Request) -> Response:
        """Answer a whole request.

        Args:
            request: As it came.

        Returns:
            The answer, with the security headers.
        """
        started = time.perf_counter()
        try:
            if self._guarded:
                check_origin(request.headers)
            response = _secured(await self._route(request))
        except Refusal as refusal:
            response = self.refuse(refusal)
        except Exception:
            log.exception("%r %r", request.method, request.path)  # a path may hold a line end
            response = self.refuse(Refusal(500, "internal_error", "the server failed", "an answer", "Its log says why."))
        path = request.path if request.path in self._routes else "other"
        self._counters.count("inkfold_requests_total", path=path, status=str(response.status))
        self._counters.observe("inkfold_request_seconds", time.perf_counter() - started)
        return response

    def refuse(self, refusal: Refusal) -> Response:
        """Count a refusal and give it as an answer, with the security headers."""
        self._counters.count("inkfold_refusals_total", code=refusal.code)
        return refusal.response((*HEADERS, *((("allow", refusal.expected),) if refusal.status == 405 else ())))

    async def _route(self, request: Request) -> Response:
        method, handler = self._routes.get(request.path, ("GET", self._file))
        if request.method != method and not (method == "GET" and request.method == "HEAD"):
            got = f"{request.method[:20]} of {request.path[:80]}"
            raise Refusal(405, "wrong_method", got, "GET, HEAD" if method == "GET" else method, "Use another method.")
        return await handler(request)

    async def _predict(self, request: Request) -> Response:
        return await self._ready().predict(request)

    async def _model(self, request: Request) -> Response:
        desk = self._ready()
        about = desk.about
        limits = {
            "body_bytes": self._limits.body_bytes,
            "pixels": desk.image.pixel_limit,
            "strokes": desk.intake.strokes,
            "points": desk.intake.points,
        }
        told: dict[str, Any] = {
            "name": about.name,
            "classes": len(about.class_names),
            "class_names": list(about.class_names),
            "size_px": desk.image.size_px,
            "backbones": list(about.backbones),
            "folds": about.folds,
            "accuracy": about.accuracy,
            "look": dict(about.look),
            "nearest": desk.index is not None,
            "limits": limits,
        }
        return json_response(told)

    async def _healthz(self, request: Request) -> Response:
        return json_response({"alive": True})

    async def _readyz(self, request: Request) -> Response:
        self._ready()
        if self.is_stopping:  # balancers send nobody any more; what is in flight is answered
            raise Refusal(503, "stopping", "the server is being stopped", "a running one", "Try again later.")
        return json_response({"ready": True})

    async def _metrics(self, request: Request) -> Response:
        return Response(200, self._counters.text().encode(), CONTENT_TYPE, (("cache-control", "no-store"),))

    async def _openapi(self, request: Request) -> Response:
        return json_response(describe(self._limits))

    async def _docs(self, request: Request) -> Response:
        return docs_page(describe(self._limits))

    async def _docs_style(self, request: Request) -> Response:
        return docs_style()

    async def _file(self, request: Request) -> Response:
        found = self._shelf.find(request)
        if found is None:
            raise Refusal(404, "not_found", f"nothing at {request.path[:80]}", "a path that /docs names", "Look there.")
        return found

    def _ready(self) -> Predictor:
        if self.desk is None:
            raise Refusal(503, "loading", "the model is being loaded", "a loaded one", "Wait a second and try again.")
        return self.desk


def _secured(response: Response) -> Response:
    return Response(response.status, response.body, response.content_type, (*response.headers, *HEADERS))
