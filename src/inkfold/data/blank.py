"""Blank drawings of a data set: which of them training leaves out, and the words in which they are reported.

A blank page among drawings teaches nothing, so training leaves it out. Where most drawings of a class are blank, they are what
the class looks like (an empty box of a form), and are trained on. Test drawings always keep their rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from inkfold.config.sections import OnBlank
from inkfold.errors import SHOWN_PER_KIND, Problem

NO_ROWS = np.empty(0, np.int64)
NOTHING = "is blank: nothing is drawn on it"
MEND = "Draw it anew or remove it"


@dataclass(frozen=True, slots=True)
class BlankDrawings:
    """Rows of a data set's blank drawings.

    Attributes:
        train: Rows of the training table.
        left_out: Those of them that training leaves out.
        test: Rows of the test table.
    """

    train: Int64[np.ndarray, " n"] = field(default_factory=NO_ROWS.copy)
    left_out: Int64[np.ndarray, " n"] = field(default_factory=NO_ROWS.copy)
    test: Int64[np.ndarray, " n"] = field(default_factory=NO_ROWS.copy)


def is_blank_class(
    blank: Bool[np.ndarray, " n"], targets: Int64[np.ndarray, " n"], num_classes: int
) -> Bool[np.ndarray, " classes"]:
    """Return which classes consist of blank drawings: more than half of their drawings are blank.

    Args:
        blank: True for blank training drawings.
        targets: Class ids of the training drawings.
        num_classes: Number of classes of the data set; targets are below it.
    """
    counts = np.bincount(targets, minlength=num_classes)
    blanks = np.bincount(targets[blank], minlength=num_classes)
    mostly: np.ndarray = 2 * blanks > counts
    return mostly


def find_left_out(
    blank: Bool[np.ndarray, " n"], targets: Int64[np.ndarray, " n"], num_classes: int, on_blank: OnBlank
) -> Bool[np.ndarray, " n"]:
    """Return which training drawings are left out as blank.

    Args:
        blank: True for blank training drawings.
        targets: Class ids of the training drawings.
        num_classes: Number of classes of the data set; targets are below it.
        on_blank: `skip` leaves blank drawings out, but for those of classes that consist of them.
    """
    left_out: np.ndarray = blank & ~is_blank_class(blank, targets, num_classes)[targets]
    return left_out if on_blank == "skip" else np.zeros_like(left_out)


def blank_problems(
    part: str,
    names: Sequence[str],
    on_blank: OnBlank,
    class_names: Sequence[str] | None = None,
    left_out: Sequence[bool] | None = None,
) -> list[Problem]:
    """Report blank drawings one by one, with what becomes of them.

    Args:
        part: Name of the drawings' table in messages, `train` or `test`.
        names: The drawings' paths in the table.
        on_blank: The setting `data.on_blank`; `error` makes errors of the reports.
        class_names: Each drawing's class; None for test drawings.
        left_out: Whether training leaves each drawing out; None for test drawings.

    Returns:
        Problems of the kind `blank_drawing`.
    """
    problems = []
    for place, name in enumerate(names):
        text = NOTHING if class_names is None else f"{NOTHING}, and it is labelled {class_names[place]!r}"
        if on_blank == "error":
            text = f"{text}. {MEND}, or set data.on_blank to skip or keep."
        elif left_out is None:
            text = f"{text}. It keeps its row, but its prediction means nothing."
        elif left_out[place]:
            text = f"{text}. Training leaves it out, as data.on_blank is skip. {MEND}."
        elif on_blank == "skip":
            text = f"{text}, as most drawings of this class are. So training keeps it."
        else:
            text = f"{text}. Training keeps it, as data.on_blank is keep. {MEND}."
        problems.append(Problem("blank_drawing", f"{part} {name}", text, "error" if on_blank == "error" else "warning"))
    return problems


def warn_of_blank(
    blank: BlankDrawings, train_names: Shaped[np.ndarray, " n"], test_names: Shaped[np.ndarray, " m"] | None
) -> list[str]:
    """Write a line for the blank drawings of each kind: left out of training, trained on, in the test part.

    Args:
        blank: The blank drawings' rows.
        train_names: The training drawings' paths in the table.
        test_names: The test drawings' paths; None without a test table.

    Returns:
        Lines with the number and the first names; none without blank drawings.
    """
    kept = np.setdiff1d(blank.train, blank.left_out)
    tests = [] if test_names is None else test_names[blank.test].tolist()
    lines = [
        (train_names[blank.left_out].tolist(), "blank training drawing(s) left out (data.on_blank)"),
        (train_names[kept].tolist(), "blank training drawing(s) trained on"),
        (tests, "blank test drawing(s), whose predictions mean nothing"),
    ]
    return [f"{len(names)} {words}: {shorten(names)}" for names, words in lines if names]


def shorten(names: Sequence[str]) -> str:
    """List the first 20 names, and the number of the others."""
    more = len(names) - SHOWN_PER_KIND
    return ", ".join(names[:SHOWN_PER_KIND]) + (f" and {more} more" if more > 0 else "")
