"""The augmentation operations as a recipe writes them: `rotate(15)@0.5` is parsed, checked and written back here.

Nothing is drawn or computed: `geometric` moves pixels, `photometric` changes their values, `views` applies both.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Range = Literal["none", "symmetric", "around_one", "amount", "exact", "pair"]

_FORM = re.compile(r"\s*(?P<name>\w+)\s*(?:\((?P<args>[^()]*)\))?\s*(?:@\s*(?P<p>[^@\s]+))?\s*")
_BETWEEN = re.compile(r"\+(?![^(]*\))")  # a plus inside parentheses belongs to a number


@dataclass(frozen=True, slots=True)
class Kind:
    """The parameters of a kind of operation.

    Attributes:
        range: Meaning of its numbers. `symmetric`: a limit L means -L..L. `around_one`: L means 1 - L..1 + L. `amount`: a
            maximum M means 0..M. `exact`: one number means itself. Each of these also takes low and high. `pair`: two
            numbers of different meaning. `none`: no number.
        low: Lowest value of each number; a single one holds for both ends of a range.
        high: Highest value of each number; a single one holds for both ends of a range.
        geometric: Whether it moves pixels; other operations change their values.
        drawn: Whether it takes more random numbers than the one of its range.
        about: One line for people, with the unit.
    """

    range: Range
    low: tuple[float, ...]
    high: tuple[float, ...]
    geometric: bool
    drawn: bool
    about: str


KINDS: dict[str, Kind] = {
    "hflip": Kind("none", (), (), True, False, "mirror left and right"),
    "vflip": Kind("none", (), (), True, False, "mirror top and bottom"),
    "rotate": Kind("symmetric", (-360,), (360,), True, False, "degrees, counter-clockwise"),
    "scale": Kind("around_one", (0.1,), (10,), True, False, "factor about the centre"),
    "shear": Kind("symmetric", (-80,), (80,), True, True, "degrees, drawn for x and for y"),
    "translate": Kind("symmetric", (-1,), (1,), True, True, "fraction of the side, drawn for x and for y"),
    "perspective": Kind("amount", (0,), (0.32,), True, True, "standard deviation of the corners, fraction of the side"),
    "elastic": Kind("pair", (0, 1), (10_000, 256), True, True, "alpha and sigma in px, as albumentations' ElasticTransform"),
    "grid": Kind("pair", (1, 0), (64, 0.95), True, True, "steps and limit, as albumentations' GridDistortion"),
    "thin": Kind("amount", (0,), (16,), False, False, "px taken from the width of lines"),
    "thicken": Kind("amount", (0,), (16,), False, False, "px added to the width of lines"),
    "stroke_dropout": Kind("amount", (0,), (0.9,), False, True, "share of the ink that is lost, in patches"),
    "erase": Kind("amount", (0,), (0.9,), False, True, "share of the page that a blank rectangle covers"),
    "blur": Kind("amount", (0,), (20,), False, False, "px, standard deviation"),
    "sharpen": Kind("amount", (0,), (10,), False, False, "strength of the unsharp mask"),
    "contrast": Kind("around_one", (0,), (5,), False, False, "factor of the distance to the paper"),
    "invert": Kind("none", (), (), False, False, "light on dark"),
    "noise": Kind("amount", (0,), (128,), False, True, "grey levels, standard deviation of the paper's grain"),
    "jpeg": Kind("exact", (1,), (100,), False, False, "quality"),
}
_TAKES: dict[Range, str] = {
    "none": "no number",
    "symmetric": "a limit, or low and high",
    "around_one": "a limit around 1, or low and high",
    "amount": "a maximum, or low and high",
    "exact": "one number, or low and high",
    "pair": "two numbers",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation with its numbers and its probability.

    Attributes:
        name: What is done, such as `rotate`: a key of `KINDS`, which describes its numbers.
        args: Low and high, or a pair; empty for operations without numbers.
        p: Probability that it is applied to a drawing, above 0 and at most 1.
    """

    name: str
    args: tuple[float, ...] = ()
    p: float = 1.0

    @property
    def is_fixed(self) -> bool:
        """Whether it has the same effect on every drawing that it is applied to."""
        return not KINDS[self.name].drawn and len(set(self.args)) <= 1

    def __str__(self) -> str:
        if not self.args:
            numbers = ""
        else:
            short = self.args[-1] - 1 if KINDS[self.name].range == "around_one" else self.args[-1]
            texts = [_text(round(short, 12))]
            if _expanded(KINDS[self.name].range, (float(texts[0]),)) != self.args:
                texts = [_text(value) for value in self.args]
            numbers = f"({','.join(texts)})"
        return f"{self.name}{numbers}" + ("" if self.p == 1 else f"@{_text(self.p)}")


def parse_operation(text: str) -> Operation:
    """Parse an operation's short form.

    Args:
        text: `name`, `name(numbers)` or either with `@probability`; the probability is 1 if none is given.

    Returns:
        The operation.

    Raises:
        ValueError: If the text is no operation; the message says what was got and expected.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        hint = ", in quotation marks in a YAML list" if text.count("(") != text.count(")") else ""
        raise ValueError(f"'{text}' is no operation; expected a form such as rotate(15)@0.5{hint}")
    name = match["name"]
    if name not in KINDS:
        near = difflib.get_close_matches(name.lower(), KINDS, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(KINDS)}"
        raise ValueError(f"'{text}': no operation '{name}'; {hint}")
    p = _number(text, match["p"]) if match["p"] is not None else 1.0
    if not 0 < p <= 1:
        raise ValueError(f"'{text}': probability {p:g}, expected above 0 and at most 1")
    numbers = tuple(_number(text, part) for part in match["args"].split(",")) if (match["args"] or "").strip() else ()
    return Operation(name, _checked(text, KINDS[name], numbers), p)


def parse_operations(texts: str | Sequence[str]) -> tuple[Operation, ...]:
    """Parse several short forms.

    Args:
        texts: One text per operation, or a single text with ` + ` between them; `identity` stands for none.

    Returns:
        The operations, in the same order.

    Raises:
        ValueError: If texts are no operations; all are reported together.
    """
    parts = [part.strip() for part in _BETWEEN.split(texts)] if isinstance(texts, str) else list(texts)
    if parts == ["identity"]:
        return ()
    operations, problems = [], []
    for part in parts:
        try:
            operations.append(parse_operation(part))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))
    return tuple(operations)


def _text(value: float) -> str:
    """Write a number so that it is parsed as the same number."""
    return str(int(value)) if value == int(value) else repr(value)


def _number(text: str, part: str) -> float:
    try:
        value = float(part)
    except ValueError:
        raise ValueError(f"'{text}': '{part.strip()}' is no number") from None
    if not abs(value) < float("inf"):
        raise ValueError(f"'{text}': {value} is not finite")
    return value


def _expanded(kind: Range, numbers: tuple[float, ...]) -> tuple[float, ...] | None:
    """Turn the numbers as written into low and high; None if there are too few or too many."""
    if kind == "none":
        return numbers if not numbers else None
    if len(numbers) == 2:
        return numbers
    if len(numbers) != 1 or kind == "pair":
        return None
    return {
        "symmetric": (-numbers[0], numbers[0]),
        "around_one": (1 - numbers[0], 1 + numbers[0]),
        "amount": (0.0, numbers[0]),
        "exact": (numbers[0], numbers[0]),
    }[kind]


def _checked(text: str, kind: Kind, numbers: tuple[float, ...]) -> tuple[float, ...]:
    args = _expanded(kind.range, numbers)
    if args is None:
        raise ValueError(f"'{text}': got {len(numbers)} numbers, expected {_TAKES[kind.range]} ({kind.about})")
    if len(numbers) == 1 and kind.range not in ("exact", "pair"):  # as it was written: 1 - 0.9 is 0.09999999999999998
        most = min(1 - kind.low[0], kind.high[0] - 1) if kind.range == "around_one" else kind.high[0]
        bounded = zip(numbers, (0.0,), (most,), strict=True)
    else:
        bounds = (bound if len(bound) == len(args) else bound * 2 for bound in (kind.low, kind.high))
        bounded = zip(args, *bounds, strict=False)
    for value, low, high in bounded:
        if not low <= value <= high:
            raise ValueError(f"'{text}': {value:g}, expected {low:g} to {high:g} ({kind.about})")
    if kind.range != "pair" and args and args[0] > args[1]:
        raise ValueError(f"'{text}': low {args[0]:g} is above high {args[1]:g}")
    if text.strip().startswith("grid") and args[0] != int(args[0]):
        raise ValueError(f"'{text}': {args[0]:g} steps, expected a whole number")
    return args
