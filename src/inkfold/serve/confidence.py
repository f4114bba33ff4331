"""How sure an answer is, measured: how often answers with this confidence were right on drawings held out of training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import Any, Literal

from inkfold.evaluation.metrics import wilson_interval

Words = Literal["almost_certain", "likely", "unsure", "guess", "blank"]

# By the lower end of the interval, so that few drawings make no bold words.
BOUNDS: tuple[tuple[float, Words], ...] = ((0.9, "almost_certain"), (0.6, "likely"), (0.3, "unsure"), (0.0, "guess"))
SENTENCES: Mapping[Words, str] = {
    "almost_certain": "Almost certain",
    "likely": "Likely",
    "unsure": "Unsure",
    "guess": "A guess",
    "blank": "The page is blank",
}
ENOUGH = 30  # drawings; fewer are judged together with the bin below


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure an answer is.

    Attributes:
        words: A key that pages translate.
        text: An English sentence.
        accuracy: Of answers with such confidence; None where none was measured.
        low: Lower end of its 95 % interval.
        high: Upper end.
        count: Drawings that it was measured on.
    """

    words: Words
    text: str
    accuracy: float | None
    low: float | None
    high: float | None
    count: int


BLANK = Confidence("blank", f"{SENTENCES['blank']}: there is nothing to tell.", None, None, None, 0)


def how_sure(confidence: float, reliability: Sequence[Mapping[str, Any]]) -> Confidence:
    """Look up how often answers with a confidence were right.

    Args:
        confidence: The probability of the best class.
        reliability: Bins with `low`, `high`, `count` and `accuracy` of held-out drawings.

    Returns:
        The words that the lower end of the interval allows; `guess` where nothing was measured.
    """
    n, hits = _measured(confidence, reliability)
    if not n:
        text = f"{SENTENCES['guess']}: nobody has measured how often such answers are right."
        return Confidence("guess", text, None, None, None, 0)
    low, high = wilson_interval(hits, n)
    words = next(word for bound, word in BOUNDS if low >= bound)
    text = (
        f"{SENTENCES[words]}: of {n} drawings answered with about this confidence, "
        f"{hits / n:.0%} were right (95 % interval {floor(100 * low)}% to {high:.0%})."
    )
    return Confidence(words, text, hits / n, low, high, n)


def _measured(confidence: float, reliability: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Count drawings and right answers in the confidence's bin, with bins below until there are enough."""
    below = [one for one in reliability if one["count"] and one["low"] <= confidence]
    n = hits = 0
    for one in sorted(below, key=lambda one: -float(one["low"])):
        n += int(one["count"])
        hits += round(one["count"] * one["accuracy"])
        if n >= ENOUGH:
            break
    return n, hits
