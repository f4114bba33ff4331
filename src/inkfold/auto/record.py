"""What a search did and decided, in `auto.json`: written after every step, read to continue, to repeat and to report it."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Self

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import from_json
from typing_extensions import TypedDict  # pydantic reads no other before Python 3.12

from inkfold.errors import PredictionError
from inkfold.storage.sealed import unsealed, write_sealed

AUTO = "auto.json"
REQUEST = "auto.yaml"  # the search's own recipe; recipe.yaml is the winner's
FORMAT = 1
LARGEST_BYTES = 2**24
ALWAYS = ("budget_s", "spent_s", "calls", "machine", "data", "backbones", "steps", "best")  # of every version

Kind = Literal["reading", "race", "frozen", "views", "head", "joined", "propagated", "finetune", "vote"]
State = Literal["running", "done", "stopped", "skipped", "failed"]
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]


class BestFigure(TypedDict):
    """The best figure from one moment on: in `seconds` of the search's time, `step`, its figure and interval, and on test."""

    seconds: float
    step: str
    accuracy: float
    accuracy_ci95: Interval | None
    test: NotRequired[float | None]


class Choice(TypedDict):
    """What a search published: the `step`, the names of a vote's `members`, and `why`: a sentence for the user.

    `nested` is the metric's value where each drawing is answered by the choice that other drawings make; None where there was
    nothing to choose.
    """

    step: str
    members: NotRequired[list[str]]
    why: str
    nested: NotRequired[float | None]


class Forecast(TypedDict):
    """What another `seconds` would probably bring: the best figure's `gain`, from `low` to `high`; None where it is unknown."""

    seconds: float
    gain: float | None
    low: float | None
    high: float | None
    words: str


class MetricName(TypedDict):
    """By which metric a search chose: its `name` in recipes, its `title` in texts, and whether greater values are better."""

    name: str
    title: str
    greater_is_better: bool


@dataclass(slots=True)
class Step:
    """One thing that a search tried, or decided not to try.

    Attributes:
        name: Its name, which is also the name of its directory below `candidates/`; unique in a search.
        kind: What it is: a way of reading pages, a race of backbones, a frozen backbone with a head, more views of one,
            another head, several backbones under one head, test drawings predicted together, a fine-tuning, or a vote over
            what was fitted.
        state: Whether it is done; `stopped`: time was over; `skipped`: not begun, and `why` says the reason.
        why: Why it was tried, or not: a sentence for the user.
        recipe: The raw recipe that repeats it, without data, folds, metric and seed; None where it fits no model.
        members: Names of the steps that a vote is over; empty for others.
        expected_s: Seconds that it was expected to take.
        expected_gain: By how much it was expected to improve the metric, 0 to 1.
        began_s: When it began, in seconds of the search's own time.
        seconds: Seconds that it took.
        accuracy: Out-of-fold figure of the metric; None where there is none.
        accuracy_ci95: Its 95 % interval.
        n: Number of drawings that it was measured on.
        gain: Difference of its figure from the best one before it, on the same drawings; None for the first.
        gain_ci95: 95 % interval of that difference.
        p_value: P-value of that difference.
        is_best: Whether it was taken as the best at that time.
        figures: Further figures by name, such as `images_per_s`.
    """

    name: str
    kind: Kind
    state: State = "running"
    why: str = ""
    recipe: dict[str, Any] | None = None
    members: list[str] = field(default_factory=list)
    expected_s: float | None = None
    expected_gain: float | None = None
    began_s: float = 0.0
    seconds: float = 0.0
    accuracy: float | None = None
    accuracy_ci95: Interval | None = None
    n: int | None = None
    gain: float | None = None
    gain_ci95: Interval | None = None
    p_value: float | None = None
    is_best: bool = False
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class RacedBackbone:
    """What a search found out about one backbone before it trained a model on it.

    Attributes:
        name: Its name in timm, with the tag of its weights, or `ink-small`.
        source: Where its weights are: `comes with inkfold`, `INKFOLD_WEIGHTS`, `hub's cache` or `hub`.
        images_per_s: Measured drawings per second on this machine; None if it was not measured.
        accuracy: Out-of-fold accuracy on the subsample of the last round that it was in; None if it was not in any.
        n: Number of drawings of that subsample.
        rounds: Number of rounds of the race that it was in.
        imagenet_sketch_top1: Published accuracy on ImageNet-Sketch, percent; None if none is known.
        taken: Whether models were trained on it.
        why: Why it was taken, or not: a sentence for the user.
    """

    name: str
    source: str
    images_per_s: float | None = None
    accuracy: float | None = None
    n: int | None = None
    rounds: int = 0
    imagenet_sketch_top1: float | None = None
    taken: bool = False
    why: str = ""


@dataclass(slots=True)
class AutoRecord:
    """All that is written down of a search.

    Attributes:
        budget_s: The budget of the last call, in seconds.
        spent_s: Seconds that all calls together have spent.
        calls: For each call its budget and the seconds that it spent: `budget_s`, `spent_s`.
        machine: Device, cores and precision.
        data: Fingerprint and counts of the data.
        backbones: What was found out about each backbone at hand.
        steps: Everything that was tried, in the order of time.
        best: The best figure over time: `seconds`, `step`, `accuracy`, `accuracy_ci95`, `test` (None where no test labels are).
        choice: What was published: `step`, `members`, `why`.
        forecast: What another period of time would probably bring; None before the first call has ended.
        metric: By which metric all figures are; None for accuracy.
    """

    budget_s: float = 0.0
    spent_s: float = 0.0
    calls: list[dict[str, float]] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    backbones: list[RacedBackbone] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    best: list[BestFigure] = field(default_factory=list)
    choice: Choice | None = None
    forecast: Forecast | None = None
    metric: MetricName | None = None

    def step(self, name: str) -> Step | None:
        """Find a step by its name."""
        return next((step for step in self.steps if step.name == name), None)

    def save(self, directory: Path) -> None:
        """Write the record atomically as `auto.json` into a search's directory."""
        write_sealed(directory / AUTO, {"format": FORMAT, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read an `auto.json`.

        Args:
            path: The file.

        Returns:
            The record.

        Raises:
            PredictionError: If it is none, or of another format.
        """
        try:
            with path.open("rb") as file:
                content = file.read(LARGEST_BYTES + 1)
            if len(content) > LARGEST_BYTES:
                raise ValueError(f"it has more than {LARGEST_BYTES >> 20} MiB")
            raw = unsealed(from_json(content, allow_inf_nan=False), must_be_sealed=False)
            if raw.get("format") != FORMAT:
                raise ValueError(f"got format {raw.get('format')}, expected {FORMAT}")
            if missing := [name for name in ALWAYS if name not in raw]:
                raise ValueError(f"it has no {', '.join(missing)}")
            return TypeAdapter(cls).validate_json(content, strict=True)
        except (OSError, ValueError) as error:
            raise PredictionError(
                f"{path}: not a record of a search: {_first_line(error)}. Name the auto.json of a finished one, or remove it."
            ) from None


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error).splitlines()[0]
