"""What a model answers to some drawings: probabilities with the drawings, which notebooks show and pandas takes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np
from jaxtyping import Float32, Int64

from inkfold.errors import InkfoldError
from inkfold.images.decode import Pixels
from inkfold.runtime.display import fit_line, show

if TYPE_CHECKING:
    import pandas as pd

SHOWN_IN_REPR = 3


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Answers:
    """What a model answers to some drawings, in their order.

    Attributes:
        names: What the drawings are called: files' paths, else their places, such as `drawings[3]`.
        class_names: Class names, in the order of the columns of `probs`.
        probs: Class probabilities; rows sum to 1. A row of NaN for a drawing that can't be read.
        preds: The class that each drawing is given, as its column in `probs`; see `Run.decide`.
        blank: Rows of drawings without ink, whose answers mean nothing.
        pictures: The first drawings as small squares, which notebooks show; None for one that can't be read.
    """

    names: tuple[str, ...]
    class_names: tuple[str, ...]
    probs: Float32[np.ndarray, "n classes"]
    preds: Int64[np.ndarray, " n"]
    blank: tuple[int, ...] = ()
    pictures: tuple[Pixels | None, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def classes(self) -> list[str | None]:
        """Name of the class that each drawing is given; None for one that can't be read."""
        readable = np.isfinite(self.probs).all(1).tolist()
        return [self.class_names[pred] if fine else None for pred, fine in zip(self.preds.tolist(), readable, strict=True)]

    def top(self, row: int, most: int = 5) -> list[tuple[str, float]]:
        """List a drawing's most probable classes.

        Args:
            row: The drawing's place, from 0.
            most: Greatest number of classes.

        Returns:
            Names with probabilities, the most probable first; nothing for a drawing that can't be read.
        """
        probs = self.probs[row]
        if not np.isfinite(probs).all():
            return []
        return [(self.class_names[i], float(probs[i])) for i in np.argsort(-probs, kind="stable")[:most].tolist()]

    def to_pandas(self, *, probs: bool = False) -> "pd.DataFrame":
        """Return a pandas frame with a row for each drawing, whose index is the drawings' names.

        Args:
            probs: Whether its columns are the classes and hold all probabilities. Otherwise they are `class_name`,
                `probability` and `blank`.

        Raises:
            InkfoldError: If pandas isn't installed.
        """
        try:
            import pandas as pd  # noqa: PLC0415 - an extra of the user's
        except ImportError:
            raise InkfoldError("to_pandas: needs pandas, which isn't installed: pip install pandas.") from None
        index = pd.Index(self.names, name="drawing")
        if probs:
            return pd.DataFrame(self.probs, index=index, columns=list(self.class_names))
        blank = np.isin(np.arange(len(self)), self.blank)
        own = self.probs[np.arange(len(self)), self.preds]
        return pd.DataFrame({"class_name": self.classes, "probability": own, "blank": blank}, index=index)

    def __repr__(self) -> str:
        count = f"{len(self):,} drawing{'' if len(self) == 1 else 's'}, {len(self.class_names):,} classes"
        rows = range(min(len(self), SHOWN_IN_REPR))
        lines = [f"\n  {fit_line(f'{self.names[row]}: {_in_words(self.top(row, 1))}')}" for row in rows]
        return f"<Answers: {count}{''.join(lines)}{'' if len(self) <= SHOWN_IN_REPR else chr(10) + '  ...'}>"

    def _repr_html_(self) -> str:
        html: str = show("answers", self)
        return html


def _in_words(top: list[tuple[str, float]]) -> str:
    return "can't be read" if not top else f"{top[0][0]} ({top[0][1]:.2f})"
