"""From a request to its answer: drawings are read and decoded in a few threads, batched through the model, put into words."""

import asyncio
import base64
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from inkfold.images.decode import BrokenImage
from inkfold.images.preprocess import INK_CONTRAST
from inkfold.images.strokes import draw_page
from inkfold.serve.batching import Batcher, QueueLimits, queue_full
from inkfold.serve.confidence import BLANK, measured_confidence
from inkfold.serve.messages import Refusal, Request, Response, json_response
from inkfold.serve.metrics import ServerMetrics
from inkfold.serve.model import OnnxModel, Squares
from inkfold.serve.nearest import NearestIndex, index_path, load_index
from inkfold.serve.request_body import DEFAULT_NEAREST, DEFAULT_TOP, MAX_NEAREST, Upload, read_count, read_uploads
from inkfold.serve.schemas import Answer, Answers, Guess, Neighbour, Times

DECODING_THREADS = 2


@dataclass(frozen=True, slots=True)
class _Prediction:
    """What the model and the index say of one drawing."""

    probs: Float32[np.ndarray, " classes"]
    rows: Int64[np.ndarray, " k"]
    similarities: Float32[np.ndarray, " k"]


class Predictor:
    """Answers requests with drawings.

    Args:
        model: The exported model that predicts; drawings are prepared as its description says.
        index: Training drawings of which the nearest are shown; None without any.
        metrics: Batches and waiting drawings are counted there.
        queue: How many drawings may wait, and how long.
    """

    def __init__(
        self, model: OnnxModel, index: NearestIndex | None, metrics: ServerMetrics, queue: QueueLimits | None = None
    ) -> None:
        self.about, self.image, self.index = model.about, model.image, index
        self.queue = queue or QueueLimits()
        self._model = model
        self._decoders = ThreadPoolExecutor(DECODING_THREADS, "inkfold-decode")
        self._decoding = 0
        metrics.add_gauge("inkfold_waiting_drawings", "Being decoded or waiting for the model.", lambda: self.waiting)
        self._batcher = Batcher[Squares, _Prediction](
            self._run_batch, self.queue, lambda: self._decoding, metrics.batch_drawings.observe
        )

    @property
    def waiting(self) -> int:
        """The number of drawings that are being decoded or wait for the model."""
        return self._decoding + len(self._batcher)

    async def predict(self, request: Request) -> Response:
        """Answer a request for predictions: JSON with one answer per drawing, in their order.

        Raises:
            Refusal: If the drawings can't be read, too many wait, or the time is over.
        """
        started = time.perf_counter()
        top = read_count(request, "top", DEFAULT_TOP, 1, len(self.about.class_names))
        nearest = read_count(request, "nearest", DEFAULT_NEAREST, 0, MAX_NEAREST)
        self._admit(1)
        try:
            async with asyncio.timeout(self.queue.answer_s):
                # 40,000 points take 40 ms, in which nobody else's request would be read
                uploads = await asyncio.get_running_loop().run_in_executor(self._decoders, read_uploads, request)
                self._admit(len(uploads))
                answers = await asyncio.gather(*(self._answer(upload, top, nearest) for upload in uploads))
        except TimeoutError:
            got = f"no answer within {self.queue.answer_s:g} s"
            raise Refusal(504, "too_late", got, "an answer", "Wait a second and try again, or send fewer drawings.") from None
        times = Times(
            queued=_to_ms(max(queued_s for _, queued_s, _ in answers)),
            model=_to_ms(max(model_s for _, _, model_s in answers)),
            total=_to_ms(time.perf_counter() - started),
        )
        return json_response(Answers(answers=[answer for answer, _, _ in answers], time_ms=times).model_dump())

    async def close(self) -> None:
        """Stop the threads."""
        await self._batcher.close()
        self._decoders.shutdown(wait=True, cancel_futures=True)

    def _admit(self, count: int) -> None:
        if self.waiting + count > self.queue.waiting:
            raise queue_full(self.waiting, self.queue.waiting)

    async def _answer(self, upload: Upload, top: int, nearest: int) -> tuple[Answer, float, float]:
        """Answer for one drawing, with the seconds that it waited and those of its batch."""
        squares = await self._decode(upload)
        prediction, queued_s, model_s = await self._batcher.submit(squares)
        is_blank = bool(np.ptp(squares[0]) < INK_CONTRAST)
        probability = float(prediction.probs[self._decide(prediction)])
        confidence = BLANK if is_blank else measured_confidence(probability, self.about.reliability)
        neighbours = [] if is_blank else self._neighbours(prediction, nearest)
        answer = Answer(name=upload.name, top=self._top(prediction, top), sure=confidence, nearest=neighbours)
        return answer, queued_s, model_s

    async def _decode(self, upload: Upload) -> Squares:
        self._decoding += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._decoders, self._read, upload)
        except BrokenImage as error:
            name = f"{upload.name}: " if upload.name else ""
            reason, _, rest = str(error).partition(", expected ")
            expected, _, do = rest.partition(". ")
            raise Refusal(422, error.kind, f"{name}the picture {reason}", expected, do) from None
        finally:
            self._decoding -= 1

    def _read(self, upload: Upload) -> Squares:
        if isinstance(upload.content, bytes):
            return self._model.read(upload.content)
        return self._model.preprocess(draw_page(upload.content, self.about.look))

    def _run_batch(self, drawings: Sequence[Squares]) -> list[_Prediction]:
        """Run a batch and look for neighbours; in the model's thread."""
        output = self._model.predict(drawings)
        if self.index is None or output.features is None:
            rows, similarities = np.empty((len(drawings), 0), np.int64), np.empty((len(drawings), 0), np.float32)
        else:
            rows, similarities = self.index.find(output.features, MAX_NEAREST)
        return [_Prediction(*row) for row in zip(output.probs, rows, similarities, strict=True)]

    def _top(self, prediction: _Prediction, count: int) -> list[Guess]:
        names, targets, probs = self.about.class_names, self.about.class_targets, prediction.probs
        answer = self._decide(prediction)
        best = [answer, *(i for i in np.argsort(-probs, kind="stable")[: count + 1].tolist() if i != answer)][:count]
        return [Guess(class_name=names[i], target=targets[i], probability=round(float(probs[i]), 6)) for i in best]

    def _decide(self, prediction: _Prediction) -> int:
        return int(self.about.decide(prediction.probs[None])[0])

    def _neighbours(self, prediction: _Prediction, count: int) -> list[Neighbour]:
        if self.index is None:
            return []
        names, targets, rows = self.about.class_names, self.index.targets, prediction.rows[:count].tolist()
        similarities = [round(similarity, 4) for similarity in prediction.similarities[:count].tolist()]
        images = [f"data:image/png;base64,{base64.b64encode(self.index.thumbnail(row)).decode()}" for row in rows]
        return [
            Neighbour(class_name=names[targets[row]], similarity=similarity, image=image)
            for row, similarity, image in zip(rows, similarities, images, strict=True)
        ]


def load_model(model: Path, threads: int | None = None) -> tuple[OnnxModel, NearestIndex | None]:
    """Load a model, and the index of training drawings beside it if there is one.

    Args:
        model: The exported ONNX file, or the directory of an exported set.
        threads: Threads of each forward pass; None takes two at most.

    Raises:
        ExportError: If either is damaged or they don't belong together.
    """
    onnx_model, path = OnnxModel(model, threads), index_path(model)
    about = onnx_model.about
    return onnx_model, load_index(path, len(about.class_names), about.num_features) if path.is_file() else None


def _to_ms(seconds: float) -> float:
    return round(1000 * seconds, 2)
