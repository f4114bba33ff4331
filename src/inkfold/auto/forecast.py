"""What more time would probably bring, from a search's own curve of the best figure over the logarithm of time.

Nothing is assumed of searches in general. The best figure rises in steps, ever more rarely as time goes on, so the later half
of the curve, in log time, says how often the next steps come and how large they are. A simulation gives the interval.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from inkfold.auto.record import AutoRecord, Forecast, RacedBackbone, Step
from inkfold.evaluation.formatting import duration

PERIODS = {60.0: "minute", 600.0: "10 minutes", 3600.0: "hour", 43200.0: "12 hours"}
LONGEST_REACH = 8.0  # times what was spent: a curve says nothing of times so much longer
FEWEST_POINTS = 3
SMALLEST_SHARE, LARGEST_SHARE = 0.25, 0.999  # of what a half brings: one without any step doesn't prove that none comes
LEAST_STEPS = 0.5  # of a half, for the same reason
SHORTEST_HALF = math.log(1.5)
UNSPENT = 0.1  # of the budget: a search that ends so early has nothing left to try
DRAWS, SEED = 20_000, 42
HINTS = 3


@dataclass(frozen=True, slots=True)
class _Curve:
    """A learning curve: what each step gained, which steps lie in its later half, and how long a half is in log time."""

    gains: Float[np.ndarray, " steps"]
    is_late: Bool[np.ndarray, " steps"]
    half: float


def forecast(record: AutoRecord) -> Forecast:
    """Say what the next minute, 10 minutes, hour or 12 hours would probably bring to the best figure of a search.

    Steps come at the rate of the curve's later half in log time, or of the whole where that is lower: a Poisson process of an
    uncertain rate. They are of the size of its later steps, less what its later half brought less than the earlier one, and
    none is larger than any was. A bootstrap over the steps makes the interval.

    Args:
        record: What a search did so far, whether it is over or may be continued.

    Returns:
        The expected gain with its 95 % interval and all of it in words; the gain is None where fewer than three points of the
        curve are known. It is 0 where a search has ended well before its budget: nothing is left to try in that time.

    Source: Domhan et al., "Speeding up automatic hyperparameter optimization by extrapolation of learning curves", IJCAI 2015,
    for extrapolating a search's own curve with its uncertainty; the model here is simpler.
    """
    spent_s = max([record.spent_s, 1.0, *(point["seconds"] for point in record.best)])
    seconds = _period(spent_s)
    period = f"the next {PERIODS[seconds]}"
    hints = _hints(record)
    if (words := _ended_early(record, seconds)) is not None:
        return Forecast(seconds=seconds, gain=0.0, low=0.0, high=0.0, words="; ".join([words, *hints]))
    if len(record.best) < FEWEST_POINTS:
        words = (
            f"what {period} would bring is unknown: the best figure has {len(record.best)} of the 3 points that it takes to say"
        )
        return Forecast(seconds=seconds, gain=None, low=None, high=None, words="; ".join([words, *hints]))
    gain, low, high = _simulated(_learning_curve(record, spent_s), math.log1p(seconds / spent_s), _most(record))
    return Forecast(
        seconds=seconds, gain=gain, low=low, high=high, words="; ".join([_in_words(record, period, gain, low, high), *hints])
    )


def _period(spent_s: float) -> float:
    """Choose the longest period whose end is at most eight times what was spent away."""
    within = [seconds for seconds in PERIODS if spent_s + seconds <= LONGEST_REACH * spent_s]
    return max(within, default=min(PERIODS))


def _ended_early(record: AutoRecord, period_s: float) -> str | None:
    """Say why a search that left much of its budget would find nothing within a period; None for one that used its budget."""
    if not record.best or record.spent_s >= (1 - UNSPENT) * record.budget_s:
        return None
    waiting = _wanting_time(record)
    if not waiting:
        return "everything that this search knows has been tried: more time alone would bring nothing"
    if all((step.expected_s or 0.0) > period_s for step in waiting):
        return f"the next {PERIODS[period_s]} would bring nothing: what is left to try takes longer"
    return None


def _wanting_time(record: AutoRecord) -> list[Step]:
    """List the steps that weren't begun for want of time, or were stopped; the most expected gain per second first."""
    models = [step for step in record.steps if step.kind not in ("reading", "race")]
    left = [step for step in models if step.state == "stopped" or (step.state == "skipped" and step.expected_s is not None)]
    return sorted(left, key=lambda step: -(step.expected_gain or 0.0) / (step.expected_s or math.inf))


def _learning_curve(record: AutoRecord, spent_s: float) -> _Curve:
    sign = -1.0 if record.metric is not None and not record.metric["greater_is_better"] else 1.0
    gains = np.maximum(sign * np.diff([point["accuracy"] for point in record.best]), 0.0)
    logs = np.log([max(point["seconds"], 1.0) for point in record.best])
    half = max((math.log(spent_s) - logs[0]) / 2, SHORTEST_HALF)
    return _Curve(gains, logs[1:] > logs[0] + half, half)


def _most(record: AutoRecord) -> float:
    """Return the most that the figure can still improve: up to 1, or down to 0 where lower is better."""
    best = record.best[-1]["accuracy"]
    return max(best if record.metric is not None and not record.metric["greater_is_better"] else 1.0 - best, 0.0)


def _simulated(curve: _Curve, reach: float, most: float) -> tuple[float, float, float]:
    """Simulate what the steps within a stretch of log time bring, from resampled steps; return the mean and a 95 % interval."""
    rng, count = np.random.default_rng(SEED), len(curve.gains)
    chosen = rng.integers(0, count, (DRAWS, count))
    gains, is_late = curve.gains[chosen], curve.is_late[chosen]
    early, late = (gains * ~is_late).sum(1), (gains * is_late).sum(1)
    decay = np.where(early > 0, np.clip(late / np.maximum(early, 1e-12), SMALLEST_SHARE, LARGEST_SHARE), LARGEST_SHARE)
    halves = reach / curve.half
    shrunk = decay * (1 - decay**halves) / ((1 - decay) * halves)
    # No more often than on the whole: the first steps may only have waited for the drawings to be read.
    steps = np.clip(is_late.sum(1), LEAST_STEPS, max(count / 2, LEAST_STEPS))
    later_gains = curve.gains[count // 2 :]
    size = rng.choice(later_gains, (DRAWS, len(later_gains))).mean(1)
    number = rng.poisson(rng.gamma(steps, halves))
    brought = np.minimum(size * rng.gamma(np.maximum(number, 1e-3)), curve.gains.max() * number) * shrunk
    brought = np.where(number > 0, brought, 0.0).clip(max=most)
    gain, (low, high) = float(brought.mean()), np.quantile(brought, [0.025, 0.975])
    return gain, float(low), max(float(high), gain)


def _in_words(record: AutoRecord, period: str, gain: float, low: float, high: float) -> str:
    if record.metric is not None:
        verb = "improve" if record.metric["greater_is_better"] else "lower"
        return f"{period} would probably {verb} {record.metric['title']} by {gain:.3f} ({low:.3f} to {high:.3f})"
    return f"{period} would probably bring {gain:+.3f} ({low:.3f} to {high:.3f})"


def _hints(record: AutoRecord) -> list[str]:
    """Name what a larger budget would begin with, and the backbone of most published skill that wasn't tried."""
    hints = []
    waiting = _wanting_time(record)
    if waiting:
        named = [step.name + ("" if step.expected_s is None else f" (about {duration(step.expected_s)})") for step in waiting]
        more = f" and {len(named) - HINTS} more" if len(named) > HINTS else ""
        hints.append(f"next would come {', '.join(named[:HINTS])}{more}")
    untried = [backbone for backbone in record.backbones if not backbone.taken and not backbone.rounds]
    if untried:
        backbone = max(untried, key=_skill)
        hints.append(f"{backbone.name} was not tried" + (f": {backbone.why}" if backbone.why else ""))
    return hints


def _skill(backbone: RacedBackbone) -> float:
    return backbone.imagenet_sketch_top1 or 0.0
