"""An exported model as an object like a run: it predicts files and names their classes, without PyTorch."""

from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from inkfold.data.from_memory import read_drawings
from inkfold.evaluation.decision import Decision
from inkfold.export.metadata import SET
from inkfold.features.extractor import refuse_broken
from inkfold.pipeline.predict import ReadDrawing, broken_part, read_ahead
from inkfold.pipeline.run import Images
from inkfold.runtime.parallel import available_cores
from inkfold.runtime.progress import Progress, silent
from inkfold.serve.model import OnnxModel
from inkfold.storage.pixels import BrokenFile

BATCH = 64  # drawings in a forward pass


def is_exported(path: Path) -> bool:
    """Return whether a path is an exported file or the directory of an exported set, not that of a run."""
    return path.is_file() or (path / SET).is_file()


class ExportedModel:
    """A run or ensemble that was exported to ONNX.

    Args:
        path: The ONNX file, or the directory of a set.

    Raises:
        ExportError: If it can't be loaded, or isn't inkfold's.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._model = path, OnnxModel(path, available_cores())

    @property
    def classes_(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities' columns."""
        return self._model.about.class_names

    @property
    def class_targets(self) -> np.ndarray:
        """The number that each class has in the data's tables."""
        return np.array(self._model.about.class_targets, np.int64)

    def decide(self, probs: Float32[np.ndarray, "n classes"]) -> Int64[np.ndarray, " n"]:
        """Decide on one class for each drawing, as the run does."""
        raw = self._model.about.decision
        if raw is None:
            preds: np.ndarray = probs.argmax(1)
            return preds
        return Decision.from_json(dict(raw), len(self.classes_), str(self.path)).preds(probs)

    @property
    def look(self) -> dict[str, Any]:
        """The line style in which strokes are drawn."""
        return dict(self._model.about.look)

    def predict_proba(
        self,
        images: Images,
        progress: Progress = silent,
        on_broken: str = "error",
        *,
        blank: list[int] | None = None,
    ) -> Float32[np.ndarray, "n classes"]:
        """Predict the class probabilities of drawings, which are read as the run reads them; as `Model.predict_proba`."""
        source = read_drawings(images, what="images")
        options, probs = self._model.images, [np.empty((0, len(self.classes_)), np.float32)]
        broken, read = dict[int, tuple[str, BrokenFile]](), 0
        with closing(read_ahead(source, options, BATCH, self)) as drawings:
            while batch := list(islice(drawings, BATCH)):
                broken |= {row: (one.name, fault) for row, one in enumerate(batch, read) if (fault := broken_part(one))}
                if blank is not None:
                    blank += [row for row, one in enumerate(batch, read) if one.blank]
                probs.append(self._predict(batch))
                read += len(batch)
                progress("predict", read, read if source.count is None else source.count)
        names = {row: name for row, (name, _) in broken.items()}
        refuse_broken([("drawing", names, [fault for _, fault in broken.values()])], on_broken, "on_broken")
        return np.concatenate(probs)

    def _predict(self, batch: list[ReadDrawing]) -> Float32[np.ndarray, "rows classes"]:
        probs = np.full((len(batch), len(self.classes_)), np.nan, np.float32)
        whole = [row for row, drawing in enumerate(batch) if broken_part(drawing) is None]
        if whole:
            squares = [tuple(one[1] for one in batch[row].squares if not isinstance(one, BrokenFile)) for row in whole]
            probs[whole] = self._model.predict(squares).probs
        return probs
