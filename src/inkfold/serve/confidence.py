"""How far an answer can be trusted: how often answers with this probability were right on drawings held out of training."""

from collections.abc import Mapping, Sequence
from math import floor
from typing import Any

from inkfold.evaluation.intervals import wilson_interval
from inkfold.serve.schemas import Confidence, Words

# By the lower end of the interval, so that few drawings can't make strong words.
BOUNDS: tuple[tuple[float, Words], ...] = ((0.9, "almost_certain"), (0.6, "likely"), (0.3, "unsure"), (0.0, "guess"))
SENTENCES: Mapping[Words, str] = {
    "almost_certain": "Almost certain",
    "likely": "Likely",
    "unsure": "Unsure",
    "guess": "A guess",
    "blank": "The page is blank",
}
MIN_DRAWINGS = 30  # a bin with fewer is judged together with the bins below it


def _unmeasured(words: Words, reason: str) -> Confidence:
    text = f"{SENTENCES[words]}: {reason}."
    return Confidence(words=words, text=text, accuracy=None, low=None, high=None, count=0)


BLANK = _unmeasured("blank", "there is nothing to recognise")


def measured_confidence(probability: float, reliability: Sequence[Mapping[str, Any]]) -> Confidence:
    """Look up how often answers with a probability were right in bins of held-out drawings: `low`, `high`, `count`, `accuracy`.

    The words are those that the lower end of the 95 % interval allows; `guess` where nothing was measured.
    """
    n, hits, independent = _count(probability, reliability)
    if not n:
        return _unmeasured("guess", "nobody has measured how often such answers are right")
    low, high = wilson_interval(hits / n * independent, independent)
    words = next(word for bound, word in BOUNDS if low >= bound)
    text = (
        f"{SENTENCES[words]}: of {n} drawings answered with about this confidence, "
        f"{hits / n:.0%} were right (95 % interval {floor(100 * low)}% to {high:.0%})."
    )
    return Confidence(words=words, text=text, accuracy=hits / n, low=low, high=high, count=n)


def _count(probability: float, reliability: Sequence[Mapping[str, Any]]) -> tuple[int, int, float]:
    """Count drawings, right ones, and what the drawings are worth, in the probability's bin and below until there are enough.

    Drawings of one group, such as by one person, are worth fewer independent ones; exports of before 2026-12 don't say it.
    """
    below = [group for group in reliability if group["count"] and group["low"] <= probability]
    n, hits, independent = 0, 0, 0.0
    for group in sorted(below, key=lambda group: -float(group["low"])):
        n += int(group["count"])
        hits += round(group["count"] * group["accuracy"])
        independent += float(group.get("independent", group["count"]))
        if independent >= MIN_DRAWINGS:
            break
    return n, hits, independent
