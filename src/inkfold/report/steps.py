"""A piece of advice on a run's page: what it is made of, and what the rules of `next_steps` share."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from inkfold.config.sections import DataSettings
from inkfold.pipeline.run_files import RunFiles, flat_recipe, headline

UNSET = ("null", "{}", "auto", "accuracy")  # values that such keys have by themselves
KEPT = (
    "metric",
    "folds.group_pattern",
    "folds.group_column",
    "backbone.weights",
    "backbone.mean",
    "backbone.std",
    "backbone.model_args",
)


@dataclass(frozen=True, slots=True)
class Gain:
    """What a step is expected to gain in accuracy.

    Attributes:
        source: `measured` by the run itself, `at most` what its mistakes leave, or measured `elsewhere`, on other drawings.
        accuracy: What is added to the share of right answers, -1 to 1: 0.02 is two drawings in a hundred.
        about: What was measured, or where.
    """

    source: Literal["measured", "at most", "elsewhere"]
    accuracy: float
    about: str

    def __str__(self) -> str:
        points = f"{100 * self.accuracy:.1f} points"
        match self.source:
            case "measured":
                return f"Measured on this run: {points}, {self.about}."
            case "at most":
                return f"At most {points}: {self.about}."
        return f"Elsewhere: {points}, {self.about}. Not measured on these drawings."


@dataclass(frozen=True, slots=True)
class Step:
    """A piece of advice: what to do next, why, and the command for it.

    Attributes:
        what: What to do, in a few words: the step's heading.
        why: The figures of the run that call for it.
        command: Command to type; None where it is done by hand.
        gain: What it is expected to gain; None where that isn't measured.
        expected: What else it is good for, and what would measure its gain; shown where `gain` is None.
        is_first: Whether the figures mean little before it is done.
    """

    what: str
    why: str
    command: str | None = None
    gain: Gain | None = None
    expected: str = ""
    is_first: bool = False

    @property
    def expectation(self) -> str:
        """What it is expected to gain, and from which measurement."""
        return str(self.gain) if self.gain is not None else " ".join(["Gain not measured.", self.expected]).strip()


def accuracy_of(run: RunFiles) -> float:
    """Return the accuracy that a run is reported by, 0 to 1."""
    assert run.evaluated_part is not None
    return float(headline(run.metrics[run.evaluated_part])["accuracy"])


def evaluated_drawings(run: RunFiles) -> int:
    """Return the number of drawings that this accuracy is of."""
    assert run.evaluated_part is not None
    return int(run.metrics[run.evaluated_part]["n"])


def command_for(
    run: RunFiles, command: str, recipe: str | None, settings: Sequence[str], suffix: str = "", *, own: bool = False
) -> str:
    """Write a command that uses the run's own data and weights.

    Without a recipe it takes the data instead; the run's own recipe (`own`) has data and weights already; `suffix` is of the
    new run's directory.
    """
    flat = flat_recipe(run.model_recipes[0])
    root = flat.get("data.root", "DATA")
    words = ["inkfold", command, *([root] if recipe is None else [recipe])]
    if recipe is not None and not own:
        usual = flat_recipe({"data": DataSettings().model_dump(mode="json")})
        kept = [key for key in flat if key in KEPT or (key in usual and key != "data.root" and flat[key] != usual[key])]
        words += [f"data={root}", *(f"{key}={flat[key]}" for key in kept if flat[key] not in UNSET)]
    words += settings
    return shlex.join([*words, f"out={run.path}-{suffix}"] if suffix else words)


def percent(share: float) -> str:
    """Write a share, 0 to 1, as percent."""
    return f"{100 * share:.1f} %"


def quoted(path: object) -> str:
    """Quote a path for a shell where it needs to be."""
    return shlex.quote(str(path))
