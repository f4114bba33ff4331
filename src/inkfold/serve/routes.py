"""Which path gives what, and the headers of every answer; whatever goes wrong becomes an answer."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from inkfold.serve.access import Access
from inkfold.serve.batching import QueueLimits
from inkfold.serve.http import HttpLimits
from inkfold.serve.messages import Refusal, Request, Response, json_response
from inkfold.serve.metrics import ServerMetrics
from inkfold.serve.openapi import describe, docs_page, docs_style
from inkfold.serve.predict import Predictor, load_model
from inkfold.serve.schemas import MAX_POINTS, MAX_STROKES, Model, RequestLimits
from inkfold.serve.security import HEADERS, security_headers
from inkfold.serve.static import StaticFiles
from inkfold.serve.tokens import CHALLENGE

log = logging.getLogger("inkfold.serve")

METRICS = "/metrics"

Handler = Callable[[Request], Awaitable[Response]]


class Service:
    """What the server and the ASGI application have in common: a model, the routes to it, and their figures.

    Args:
        static_files: Answers requests for the files of the page to draw on.
        metrics: The server's figures, in which every answer is counted.
        limits: How much clients can hold; the description of the interface names it.
        access: Who is served; None serves everybody, by `localhost` and IP addresses.
    """

    def __init__(
        self, static_files: StaticFiles, metrics: ServerMetrics, limits: HttpLimits, access: Access | None = None
    ) -> None:
        self.predictor: Predictor | None = None  # while the model loads
        self.is_stopping = False
        self._static_files, self._metrics, self._limits = static_files, metrics, limits
        self._access = access or Access()
        self._routes: dict[str, tuple[str, Handler]] = {
            "/predict": ("POST", self._predict),
            "/explain": ("POST", self._explain),
            "/api/model": ("GET", self._model),
            "/healthz": ("GET", self._healthz),
            "/readyz": ("GET", self._readyz),
            METRICS: ("GET", self._metrics_text),
            "/openapi.json": ("GET", self._openapi),
            "/docs": ("GET", self._docs),
            "/docs.css": ("GET", self._docs_style),
        }

    async def load(self, model: Path, threads: int | None, queue: QueueLimits) -> Predictor:
        """Load a model and start its threads; until then requests for it are refused with 503.

        Args:
            model: The exported ONNX file, or the directory of an exported set.
            threads: Threads of each forward pass; None takes two at most.
            queue: How many drawings may wait, and how long.

        Raises:
            ExportError: If the model or its index is damaged, or they don't belong together.
        """
        onnx_model, index = await asyncio.to_thread(load_model, model, threads, queue.decoding_bytes)
        self.predictor = Predictor(onnx_model, index, self._metrics, queue)
        about, drawings = self.predictor.about, 0 if index is None else len(index.targets)
        log.info(
            "loaded %s: %d classes, %d files vote, %d nearest drawings", model, len(about.class_names), about.folds, drawings
        )
        return self.predictor

    async def close(self) -> None:
        """Stop the model's threads."""
        self.is_stopping = True
        if self.predictor is not None:
            await self.predictor.close()

    async def answer(self, request: Request, *, check_host: bool) -> Response:
        """Answer a whole request, with the security headers; nothing is raised.

        Args:
            request: The request as it arrived, whole.
            check_host: Whether requests of foreign hosts and origins are refused.
        """
        started = time.perf_counter()
        try:
            admitted = self._access.admit(request, check_hosts=check_host)
            response = admitted if isinstance(admitted, Response) else await self._route(admitted)
            response = replace(response, headers=security_headers(response))
        except Refusal as refusal:
            response = self.refuse(refusal)
        except Exception:
            log.exception("%r %r", request.method, request.path)  # a path may hold a line end
            response = self.refuse(Refusal(500, "internal_error", "the server failed", "an answer", "Its log says why."))
        path = request.path if request.path in self._routes else "other"
        self._metrics.requests.labels(path, str(response.status)).inc()
        self._metrics.request_seconds.observe(time.perf_counter() - started)
        return response

    def refuse(self, refusal: Refusal) -> Response:
        """Count a refusal and return it as an answer, with the security headers."""
        self._metrics.refusals.labels(refusal.code).inc()
        own = {401: (CHALLENGE,), 405: (("allow", refusal.expected),)}.get(refusal.status, ())
        return refusal.response((*HEADERS, *own))

    def screen(self, head: Request) -> None:
        """Check who sends a request that has a body, before the body is read.

        Raises:
            Refusal: With 400 or 401 for those who aren't served.
        """
        if head.method not in ("GET", "HEAD"):
            self._access.admit(head)

    async def answer_monitor(self, request: Request) -> Response:
        """Answer a request on the port of the figures, which has these alone, for programs that watch the server."""
        try:
            self._access.admit_monitor(request)
            if request.path != METRICS:
                raise Refusal(404, "not_found", f"nothing at {request.path[:80]}", METRICS, "Look there.")
            response = self._metrics.response()
            return replace(response, headers=security_headers(response))
        except Refusal as refusal:
            return self.refuse(refusal)

    def move_metrics(self) -> None:
        """Leave the figures to `answer_monitor`."""
        del self._routes[METRICS]

    async def _route(self, request: Request) -> Response:
        method, handler = self._routes.get(request.path, ("GET", self._file))
        allowed = "GET, HEAD, OPTIONS" if method == "GET" else f"{method}, OPTIONS"
        if request.method == "OPTIONS":
            return Response(204, headers=(("allow", allowed),))
        if request.method != method and not (method == "GET" and request.method == "HEAD"):
            got = f"{request.method[:20]} of {request.path[:80]}"
            raise Refusal(405, "wrong_method", got, allowed, "Use another method.")
        return await handler(request)

    async def _predict(self, request: Request) -> Response:
        return await self._ready().predict(request)

    async def _explain(self, request: Request) -> Response:
        return await self._ready().explain(request)

    async def _model(self, request: Request) -> Response:
        predictor = self._ready()
        about, image, pictures = predictor.about, predictor.image, predictor.pictures
        limits = RequestLimits(
            body_bytes=self._limits.body_bytes,
            pixels=pictures.pixels,
            side_ratio=pictures.side_ratio,
            decoded_bytes=pictures.decoded_bytes,
            strokes=MAX_STROKES,
            points=MAX_POINTS,
        )
        model = Model.model_validate(
            {
                "name": about.name,
                "classes": len(about.class_names),
                "class_names": list(about.class_names),
                "size_px": image.size_px,
                "backbones": list(about.backbones),
                "folds": about.folds,
                "accuracy": about.accuracy,
                "look": about.look,
                "nearest": predictor.index is not None,
                "limits": limits,
            }
        )
        return json_response(model.model_dump())

    async def _healthz(self, request: Request) -> Response:
        return json_response({"alive": True})

    async def _readyz(self, request: Request) -> Response:
        self._ready()
        if self.is_stopping:  # load balancers then send no new requests; those in flight are answered
            raise Refusal(503, "stopping", "the server is being stopped", "a running one", "Try again later.")
        return json_response({"ready": True})

    async def _metrics_text(self, request: Request) -> Response:
        return self._metrics.response()

    async def _openapi(self, request: Request) -> Response:
        return json_response(self._describe(request))

    async def _docs(self, request: Request) -> Response:
        return docs_page(self._describe(request))

    def _describe(self, request: Request) -> dict[str, Any]:
        document = describe(self._limits, request.root_path, needs_token=self._access.token is not None)
        if METRICS not in self._routes:
            del document["paths"][METRICS]
        return document

    async def _docs_style(self, request: Request) -> Response:
        return docs_style()

    async def _file(self, request: Request) -> Response:
        response = self._static_files.find(request)
        if response is None:
            raise Refusal(404, "not_found", f"nothing at {request.path[:80]}", "a path that /docs names", "Look there.")
        return response

    def _ready(self) -> Predictor:
        if self.predictor is None:
            raise Refusal(503, "loading", "the model is being loaded", "a loaded one", "Wait a second and try again.")
        return self.predictor
