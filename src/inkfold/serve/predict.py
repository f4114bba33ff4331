"""From a request for an answer to the answer: taken in, decoded in a few threads, batched, put into words."""

import asyncio
import base64
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from inkfold.images.decode import BrokenImage
from inkfold.images.preprocess import INK_CONTRAST
from inkfold.images.strokes import draw_page
from inkfold.serve.batching import Batcher, QueueLimits, too_many
from inkfold.serve.confidence import BLANK, how_sure
from inkfold.serve.messages import Refusal, Request, Response, json_response
from inkfold.serve.metrics import BATCHES, Counters
from inkfold.serve.model import OnnxModel, Squares
from inkfold.serve.nearest import Nearest
from inkfold.serve.request_body import NEAREST, TOP, BodyLimits, Given, count_of, take_in

DECODING_THREADS = 2


@dataclass(frozen=True, slots=True)
class _Found:
    """What the model says of one drawing."""

    probs: Float32[np.ndarray, " classes"]
    rows: Int64[np.ndarray, " k"]
    similarities: Float32[np.ndarray, " k"]


class Predictor:
    """Answers for drawings.

    Args:
        answerer: The model.
        index: Training drawings to show; None without any.
        counters: Told of batches and of what waits.
        queue: What may wait.
        intake: What a request may hold.
    """

    def __init__(
        self,
        answerer: OnnxModel,
        index: Nearest | None,
        counters: Counters,
        queue: QueueLimits | None = None,
        intake: BodyLimits | None = None,
    ) -> None:
        self.about, self.image, self.index = answerer.about, answerer.image, index
        self.queue, self.intake = queue or QueueLimits(), intake or BodyLimits()
        self._answerer = answerer
        self._decoders = ThreadPoolExecutor(DECODING_THREADS, "inkfold-decode")
        self._decoding = 0
        counters.add_histogram("inkfold_batch_drawings", "Drawings in one forward.", BATCHES)
        counters.add_gauge("inkfold_waiting_drawings", "Being decoded or waiting for the model.", lambda: self.waiting)
        self._batcher = Batcher[Squares, _Found](
            self._look, self.queue, lambda: self._decoding, lambda size: counters.observe("inkfold_batch_drawings", size)
        )

    @property
    def waiting(self) -> int:
        """Drawings that are being decoded or wait for the model."""
        return self._decoding + len(self._batcher)

    async def predict(self, request: Request) -> Response:
        """Answer for the drawings of a request.

        Args:
            request: With drawings in its body.

        Returns:
            JSON: an answer a drawing, in their order.

        Raises:
            Refusal: If they can't be read, too many wait, or the time is over.
        """
        started = time.perf_counter()
        top = count_of(request, "top", TOP, 1, len(self.about.class_names))
        nearest = count_of(request, "nearest", NEAREST, 0, self.intake.nearest)
        self._admit(1)
        try:
            async with asyncio.timeout(self.queue.answer_s):
                # 40,000 points take 40 ms, in which nobody else's request would be read
                given = await asyncio.get_running_loop().run_in_executor(self._decoders, take_in, request, self.intake)
                self._admit(len(given))
                answers = await asyncio.gather(*(self._answer(one, top, nearest) for one in given))
        except TimeoutError:
            got = f"no answer within {self.queue.answer_s:g} s"
            raise Refusal(504, "too_late", got, "an answer", "Wait a second and try again, or send fewer drawings.") from None
        times = {
            "queued": max(queued for _, queued, _ in answers),
            "model": max(model for _, _, model in answers),
            "total": time.perf_counter() - started,
        }
        in_ms = {name: round(1000 * value, 2) for name, value in times.items()}
        return json_response({"answers": [answer for answer, _, _ in answers], "time_ms": in_ms})

    async def close(self) -> None:
        """Stop the threads."""
        await self._batcher.close()
        self._decoders.shutdown(wait=True, cancel_futures=True)

    def _admit(self, count: int) -> None:
        if self.waiting + count > self.queue.waiting:
            raise too_many(self.waiting, self.queue.waiting)

    async def _answer(self, given: Given, top: int, nearest: int) -> tuple[dict[str, Any], float, float]:
        squares = await self._decode(given)
        found, queued_s, model_s = await self._batcher.ask(squares)
        blank = bool(np.ptp(squares[0]) < INK_CONTRAST)
        sure = BLANK if blank else how_sure(float(found.probs.max()), self.about.reliability)
        answer = {"name": given.name, "top": self._top(found, top), "sure": asdict(sure), "nearest": []}
        if not blank:
            answer["nearest"] = self._neighbours(found, nearest)
        return answer, queued_s, model_s

    async def _decode(self, given: Given) -> Squares:
        self._decoding += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._decoders, self._read, given)
        except BrokenImage as error:
            name = f"{given.name}: " if given.name else ""
            reason, _, rest = str(error).partition(", expected ")
            expected, _, do = rest.partition(". ")
            raise Refusal(422, error.kind, f"{name}the picture {reason}", expected, do) from None
        finally:
            self._decoding -= 1

    def _read(self, given: Given) -> Squares:
        if isinstance(given.content, bytes):
            return self._answerer.read(given.content)
        return self._answerer.fit(draw_page(given.content, self.about.look))

    def _look(self, drawings: Sequence[Squares]) -> list[_Found]:
        """Run a batch and look for neighbours; in the model's thread."""
        seen = self._answerer.answer(drawings)
        if self.index is None or seen.features is None:
            rows, similarities = np.empty((len(drawings), 0), np.int64), np.empty((len(drawings), 0), np.float32)
        else:
            rows, similarities = self.index.find(seen.features, self.intake.nearest)
        return [_Found(*one) for one in zip(seen.probs, rows, similarities, strict=True)]

    def _top(self, found: _Found, count: int) -> list[dict[str, Any]]:
        names, targets = self.about.class_names, self.about.class_targets
        best = np.argsort(-found.probs, kind="stable")[:count].tolist()
        return [{"class_name": names[i], "target": targets[i], "probability": round(float(found.probs[i]), 6)} for i in best]

    def _neighbours(self, found: _Found, count: int) -> list[dict[str, Any]]:
        if self.index is None:
            return []
        pairs = zip(found.rows[:count].tolist(), found.similarities[:count].tolist(), strict=True)
        return [
            {
                "class_name": self.about.class_names[self.index.targets[row]],
                "similarity": round(similarity, 4),
                "image": _data_uri(self.index.thumbnail(row)),
            }
            for row, similarity in pairs
        ]


def _data_uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()
