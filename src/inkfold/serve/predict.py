"""From a request to its answer: drawings are read and decoded in a few threads, batched through the model, put into words.

Strokes, the headers of pictures, and pictures have threads of their own, so that strokes never wait for pictures. Within each,
clients take turns. The threads that decode pictures yield the processor to all others.
"""

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import Float32, Int64

from inkfold.images.decode import BrokenImage
from inkfold.images.preprocess import INK_CONTRAST
from inkfold.images.strokes import Sketch, draw_page, frame_of
from inkfold.serve import schemas
from inkfold.serve.batching import Batcher, QueueLimits
from inkfold.serve.confidence import BLANK, measured_confidence
from inkfold.serve.fairness import Admission, Lane, Share, queue_full
from inkfold.serve.framing import Choice, Frame, invalid_frame, read_frame
from inkfold.serve.messages import Refusal, Request, Response, json_response
from inkfold.serve.metrics import ServerMetrics
from inkfold.serve.model import PICTURES, OnnxModel, Squares
from inkfold.serve.nearest import NearestIndex, index_path, load_index
from inkfold.serve.request_body import (
    DEFAULT_NEAREST,
    DEFAULT_STROKES,
    DEFAULT_TOP,
    MAX_NEAREST,
    MAX_STROKES_ERASED,
    Upload,
    holds_strokes,
    read_class,
    read_count,
    read_one_upload,
    read_uploads,
)
from inkfold.serve.schemas import Answer, Answers, Guess, Neighbour, Times

DECODING_THREADS = 2
DECODING_NICENESS = 10
PLACE_BYTES = 16 << 20  # a picture takes one place of the queue for each so many bytes that reading it may take


@dataclass(frozen=True, slots=True)
class _Prediction:
    """What the model and the index say of one drawing."""

    probs: Float32[np.ndarray, " classes"]
    rows: Int64[np.ndarray, " k"]
    similarities: Float32[np.ndarray, " k"]


@dataclass(frozen=True, slots=True)
class _Task:
    """One drawing of a request, and the part of it that the client chose."""

    upload: Upload
    share: Share
    chosen: Choice


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
        self.about, self.image, self.pictures, self.index = model.about, model.image, model.limits, index
        self.queue = queue or QueueLimits()
        self._model = model
        self._strokes = Lane("inkfold-strokes", 1, 0)
        self._headers = Lane("inkfold-headers", 1, 0)
        self._pictures = Lane("inkfold-decode", DECODING_THREADS, self.queue.decoding_bytes, DECODING_NICENESS)
        self._stroke_places, self._picture_places = Admission(self.queue.waiting), Admission(self.queue.waiting)
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
        chosen = read_frame(request)
        async with self._admitted(request) as share:
            uploads = await self._read_uploads(request, share)
            if isinstance(chosen, tuple) and len(uploads) > 1:
                raise invalid_frame(f"a frame for {len(uploads)} pictures")
            answers = await asyncio.gather(*(self._answer(_Task(upload, share, chosen), top, nearest) for upload in uploads))
        times = _times(started, [(queued_s, model_s) for _, queued_s, model_s in answers])
        return json_response(Answers(answers=[answer for answer, _, _ in answers], time_ms=times).model_dump())

    async def explain(self, request: Request) -> Response:
        """Answer a request for which strokes an answer rests on: the drawing is predicted without each of them.

        Every variant takes a place of the queue and its turn among the drawings of others.

        Raises:
            Refusal: If the drawing can't be read, it isn't one, too many wait, or the time is over.
        """
        explaining = _explaining()
        started = time.perf_counter()
        names = self.about.class_names
        most = read_count(request, "strokes", DEFAULT_STROKES, 1, MAX_STROKES_ERASED)
        target, against = read_class(request, "class", names), read_class(request, "against", names)
        chosen = read_frame(request)
        async with self._admitted(request) as share:
            upload = read_one_upload(await self._read_uploads(request, share))
            squares, frame = await self._decode(_Task(upload, share, chosen))
            lane = self._pictures if share.is_picture else self._strokes
            variants = await lane.run(share, lambda: explaining.variants_of(squares, most))
            self._admission(share).admit(share, len(variants.squares) - 1)
            results = await self._submit_all(variants.squares, share)
            probs = np.stack([prediction.probs for prediction, _, _ in results])
            explained = self._decide(results[0][0]) if target is None else target
            if explained == against:
                raise explaining.same_class(names[explained])
            found = explaining.explanation_of(variants.square, variants.labels, probs, names, explained, against)
            bounds = explaining.bounds_of(
                upload.content, frame, self.about.look, self.image, is_chosen=isinstance(chosen, tuple)
            )
            content = await lane.run(share, lambda: explaining.explanation_json(found, bounds))
        times = _times(started, [(queued_s, model_s) for _, queued_s, model_s in results])
        return json_response(schemas.Explanation(**content, time_ms=times).model_dump())

    @contextlib.asynccontextmanager
    async def _admitted(self, request: Request) -> AsyncIterator[Share]:
        """Give a request its first place in the queue, and end it when its time is over; its places are taken back at last."""
        task = asyncio.current_task()
        share = Share(request.client, is_picture=not holds_strokes(request), task=task)
        admission = self._admission(share)
        try:
            admission.admit(share, 1)
            async with asyncio.timeout(self.queue.answer_s):
                yield share
        except TimeoutError:
            got = f"no answer within {self.queue.answer_s:g} s"
            raise Refusal(504, "too_late", got, "an answer", "Wait a second and try again, or send fewer drawings.") from None
        except asyncio.CancelledError:
            if not share.is_revoked or task is None or task.uncancel():
                raise
            raise queue_full(admission.held, self.queue.waiting) from None
        finally:
            admission.release(share)

    def _admission(self, share: Share) -> Admission:
        return self._picture_places if share.is_picture else self._stroke_places

    async def _submit_all(self, variants: Sequence[Squares], share: Share) -> list[tuple[_Prediction, float, float]]:
        """Predict the variants of a drawing; when the request ends before, those that still wait are passed over."""
        running = [asyncio.create_task(self._batcher.submit(squares, share)) for squares in variants]
        try:
            return await asyncio.gather(*running)
        finally:
            for each in running:
                each.cancel()

    async def close(self) -> None:
        """Stop the threads."""
        await self._batcher.close()
        for lane in (self._strokes, self._headers, self._pictures):
            lane.close()

    async def _read_uploads(self, request: Request, share: Share) -> list[Upload]:
        """Read the drawings of a request, and of pictures the headers; their share grows by what decoding them may take."""
        if not share.is_picture:  # 40,000 points take 40 ms, in which nobody else's request would be read
            return await self._strokes.run(share, lambda: read_uploads(request))
        uploads = await self._headers.run(share, lambda: [self._measured(upload) for upload in read_uploads(request)])
        places = sum(max(1, -(-upload.decoded_bytes // PLACE_BYTES)) for upload in uploads)
        if places > self.queue.waiting:
            got = f"pictures that may take {places * PLACE_BYTES >> 20} MiB to decode"
            expected = f"at most {self.queue.waiting * PLACE_BYTES >> 20} MiB in one request"
            raise Refusal(413, "too_large_together", got, expected, "Send fewer or smaller pictures at once.")
        self._picture_places.admit(share, places - 1)
        return uploads

    def _measured(self, upload: Upload) -> Upload:
        assert isinstance(upload.content, bytes)
        try:
            return replace(upload, announced=self._model.check(upload.content))
        except BrokenImage as error:
            raise _refused(upload, error) from None

    async def _answer_all(self, tasks: Sequence[_Task], top: int, nearest: int) -> list[tuple[Answer, float, float]]:
        """Answer for all drawings; where one can't be read, the others no longer wait, since nobody would count them."""
        running = [asyncio.create_task(self._answer(task, top, nearest)) for task in tasks]
        try:
            return await asyncio.gather(*running)
        finally:
            for each in running:
                each.cancel()

    async def _answer(self, task: _Task, top: int, nearest: int) -> tuple[Answer, float, float]:
        """Answer for one drawing, with the seconds that it waited and those of its batch."""
        squares, frame = await self._decode(task)
        prediction, queued_s, model_s = await self._batcher.submit(squares, task.share)
        is_blank = bool(np.ptp(squares[0]) < INK_CONTRAST)
        probability = float(prediction.probs[self._decide(prediction)])
        confidence = BLANK if is_blank else measured_confidence(probability, self.about.reliability)
        neighbours = [] if is_blank else self._neighbours(prediction, nearest)
        answer = Answer(
            name=task.upload.name,
            top=self._top(prediction, top),
            sure=confidence,
            frame=None if frame is None or is_blank else _as_schema(frame),
            nearest=neighbours,
        )
        return answer, queued_s, model_s

    async def _decode(self, task: _Task) -> tuple[Squares, Frame | None]:
        self._decoding += 1
        lane = self._pictures if task.share.is_picture else self._strokes
        try:
            return await lane.run(task.share, lambda: self._read(task.upload, task.chosen), task.upload.decoded_bytes)
        except BrokenImage as error:
            raise _refused(task.upload, error) from None
        finally:
            self._decoding -= 1

    def _read(self, upload: Upload, chosen: Choice) -> tuple[Squares, Frame | None]:
        if isinstance(upload.content, Sketch):
            return self._model.preprocess(draw_page(upload.content, self.about.look)), frame_of(upload.content)
        assert upload.announced is not None
        return self._model.read(upload.content, upload.announced, chosen)

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


def load_model(
    model: Path, threads: int | None = None, decoding_bytes: int = PICTURES.decoded_bytes
) -> tuple[OnnxModel, NearestIndex | None]:
    """Load a model, and the index of training drawings beside it if there is one.

    Args:
        model: The exported ONNX file, or the directory of an exported set.
        threads: Threads of each forward pass; None takes two at most.
        decoding_bytes: The most bytes of memory that reading a picture may take.

    Raises:
        ExportError: If either is damaged or they don't belong together.
    """
    onnx_model, path = OnnxModel(model, threads, decoding_bytes), index_path(model)
    about = onnx_model.about
    return onnx_model, load_index(path, len(about.class_names), about.num_features) if path.is_file() else None


def _refused(upload: Upload, error: BrokenImage) -> Refusal:
    name = f"{upload.name}: " if upload.name else ""
    reason, _, rest = str(error).partition(", expected ")
    expected, _, do = rest.partition(". ")
    return Refusal(422, error.kind, f"{name}the picture {reason}", expected, do)


def _as_schema(frame: Frame) -> schemas.Frame:
    left, top, right, bottom = frame
    return schemas.Frame(left=left, top=top, right=right, bottom=bottom)


def _times(started: float, waits: Sequence[tuple[float, float]]) -> Times:
    """Put the longest wait and the longest forward pass of a request's drawings together with its whole time."""
    return Times(
        queued=_to_ms(max(queued_s for queued_s, _ in waits)),
        model=_to_ms(max(model_s for _, model_s in waits)),
        total=_to_ms(time.perf_counter() - started),
    )


def _to_ms(seconds: float) -> float:
    return round(1000 * seconds, 2)


def _explaining() -> ModuleType:
    """Import what explains, which needs SciPy: an image that only serves has none."""
    try:
        return import_module("inkfold.serve.explain")
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        remedy = f"Install it on the server: pip install {package}."
        raise Refusal(501, "not_installed", f"a server without {package}", "one that has it", remedy) from None
