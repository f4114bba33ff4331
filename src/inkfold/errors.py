"""Every error that inkfold raises on purpose, and the problems that they carry.

    InkfoldError
    ├── DataError          the drawings or their tables
    ├── RecipeError        the recipe or an override
    ├── WeightsError       a backbone's weights
    ├── CacheError         the pixel store or the feature bank
    ├── PredictionError    predictions, votes, a finished run
    └── ExportError        a model or submission file that can't be written

A problem says where, what was got, what was expected and what to do. Problems of one kind are reported together.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

SHOWN_PER_KIND = 20
# The part of inkfold (`pip install 'inkfold[PART]'`) that brings a package which a plain installation lacks.
PARTS = {
    **dict.fromkeys(("torch", "torchvision", "timm", "optuna", "tensorboardX", "huggingface_hub"), "train"),
    **dict.fromkeys(("onnx", "onnxscript"), "export"),
    "peft": "lora",
    "ray": "ray",
    "sklearn": "sklearn",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, in words that a user can act on.

    Attributes:
        kind: A stable word for programs, such as `missing_file`.
        where: The place, such as `train.csv row 812`.
        message: What was found there, what was expected, and what to do, as sentences.
        severity: An `error` stops the work, a `warning` is reported, and the work goes on.
    """

    kind: str
    where: str
    message: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


def problem_lines(problems: Sequence[Problem]) -> list[str]:
    """Lay out problems a line each: the first 20 of each kind, then the count of the rest.

    Args:
        problems: In the order in which they were found.

    Returns:
        Lines without line breaks at their ends.
    """
    lines: list[str] = []
    counts = Counter(problem.kind for problem in problems)
    for kind, count in counts.items():
        of_kind = [problem for problem in problems if problem.kind == kind]
        lines += [f"{problem.severity}: {problem}" for problem in of_kind[:SHOWN_PER_KIND]]
        if count > SHOWN_PER_KIND:
            lines.append(f"{of_kind[0].severity}: ... and {count - SHOWN_PER_KIND} more of this kind ({kind}, {count} in all)")
    return lines


class InkfoldError(Exception):
    """Something that the user can mend; its text says how.

    Args:
        problems: One sentence, or all the problems found.
    """

    def __init__(self, problems: str | Sequence[Problem]) -> None:
        self.problems: tuple[Problem, ...] = () if isinstance(problems, str) else tuple(problems)
        text = problems if isinstance(problems, str) else "\n".join(problem_lines(problems))
        super().__init__(text)


class DataError(InkfoldError):
    """The drawings or their tables can't be used as they are."""


class RecipeError(InkfoldError):
    """The recipe or an override doesn't validate."""


class WeightsError(InkfoldError):
    """A backbone's weights are missing, broken or of another model."""


class CacheError(InkfoldError):
    """The pixel store or the feature bank can't be read or written."""


class PredictionError(InkfoldError):
    """Predictions, or the run that makes them, are incomplete or don't fit."""


class ExportError(InkfoldError):
    """A file for others can't be written as its readers expect it."""


def missing_part(error: ModuleNotFoundError) -> str | None:
    """Say what to install for a package that isn't there.

    Args:
        error: What an import has raised.

    Returns:
        A sentence with the command to run; None for a package that no part of inkfold brings.
    """
    package = (error.name or "").partition(".")[0]
    if (part := PARTS.get(package)) is None:
        return None
    return f"{package}: not installed, which this needs. {how_to_install(part)}"


def how_to_install(part: str) -> str:
    """Give the command that installs a part of inkfold, as a sentence."""
    return f"Install it: pip install 'inkfold[{part}]'. The README says how to get PyTorch without CUDA."
