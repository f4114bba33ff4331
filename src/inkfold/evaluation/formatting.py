"""How figures are written in tables, messages and pages, so that all of them write a figure in the same way."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

NOT_TESTED = "not tested"
SMALLEST_P = 1e-6  # a smaller one says nothing more, and tests of a few thousand drawings can't tell it from others


def p_text(value: float) -> str:
    """Write a p-value: `0.040`, `0.00012` or `2.3e-05` below a thousandth, `< 1e-6` below a millionth, `not tested` for NaN.

    Args:
        value: The p-value, 0 to 1, or NaN where there is no test.
    """
    if math.isnan(value):
        return NOT_TESTED
    if value < SMALLEST_P:
        return "< 1e-6"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.2g}"


def p_equation(value: float) -> str:
    """Write a p-value as an equation, such as `p = 0.040` or `p < 1e-6`; `not tested` for NaN.

    Args:
        value: The p-value, 0 to 1, or NaN where there is no test.
    """
    text = p_text(value)
    return text if text == NOT_TESTED else f"p {text}" if text.startswith("<") else f"p = {text}"


def with_interval(value: float, interval: Sequence[float]) -> str:
    """Write a value with its 95 % interval: `0.712 (0.690-0.734)`, or `0.1 (-0.2 to 0.4)` where that begins below 0.

    Args:
        value: The figure, such as an accuracy, 0 to 1, or another metric's value.
        interval: Lower and upper end of its 95 % interval, in the same unit.
    """
    low, high = interval
    return f"{value:.3f} ({low:.3f}{' to ' if low < 0 else '-'}{high:.3f})"


def signed(difference: float, digits: int = 4) -> str:
    """Write a difference with its sign, which what rounds to zero doesn't have.

    Args:
        difference: The difference, of any unit.
        digits: Number of digits behind the point, 0 or more.
    """
    text = f"{difference:+.{digits}f}"
    return text if float(text) else text[1:]


def duration(seconds: float) -> str:
    """Write a duration: `5.2 s`, `1 min 1 s` or `2 h 2 min`.

    Args:
        seconds: The duration in seconds, 0 or more.
    """
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def counted(count: int, noun: str) -> str:
    """Write a number and what it counts, such as `2 groups`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def turned(test: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a paired test round: the difference of the first from the second, not of the second from the first.

    Args:
        test: A paired test as `metrics.paired_difference` returns it, maybe with `first` and `second`, and their values.
    """
    low, high = test["difference_ci95"]
    pairs = [(one, other) for one, other in (("first", "second"), ("first_value", "second_value")) if one in test]
    names = {key: test[name] for one, other in pairs for key, name in ((one, other), (other, one))}
    return {**test, **names, "difference": -test["difference"], "difference_ci95": [-high, -low]}
