"""Chooses which of the fitted models answer: the best one, or a vote of several where that is distinguishably better.

The choice is made on drawings that were held out, and its figure is measured by making it again without each part of them: the
models' own figures, and that of the best of many, are optimistic.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

from inkfold.data.splits import assign_folds
from inkfold.evaluation.intervals import accuracy_figures, coarsest_groups
from inkfold.evaluation.paired import SIGNIFICANT, compare_figures, paired_difference
from inkfold.evaluation.predictions import Predictions, evaluation_mask, is_worth_reporting
from inkfold.evaluation.score_figures import metric_figures
from inkfold.evaluation.scores import Metric

MOST_MEMBERS = 8
STARTS = 3  # of votes: the best single model need not be in the best vote
PARTS = 5
WHOLE_SHARE = 0.9  # of the drawings that most models held out: with fewer, a figure is less certain
FEWEST_NEW = 100  # drawings that a backbone was not trained on before, without which nothing can be said of it


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model's predictions of the drawings that it held out.

    Attributes:
        name: Its name; models come in the order in which simpler ones are preferred.
        predictions: Its out-of-fold predictions.
        backbone: Name of its backbone.
    """

    name: str
    predictions: Predictions
    backbone: str = ""

    @property
    def is_unjudged(self) -> bool:
        """Whether its backbone was trained on nearly all of these drawings, so that its figures say nothing of new ones."""
        seen = self.predictions.seen
        return seen is not None and 2 * seen.sum() > len(seen) and (~seen).sum() < FEWEST_NEW


@dataclass(frozen=True, slots=True)
class Choice:
    """What answers, and how good that is.

    Attributes:
        members: Names of the models that vote with equal weights; one name is that model by itself.
        figure: The metric's value of the choice, on the drawings that all members held out.
        nested: The metric's value where each part's drawings are answered by the choice that the others made; None where there
            is nothing to choose, or too few drawings.
        n: Number of drawings.
        unjudged: Members that are taken without a figure of their own: their backbones were trained on these drawings.
        p_value: P-value of the vote's gain over its best single member; None for a single model.
        gain: That gain.
        gain_ci95: Its 95 % interval.
    """

    members: tuple[str, ...]
    figure: float
    nested: float | None
    n: int
    unjudged: tuple[str, ...] = ()
    p_value: float | None = None
    gain: float | None = None
    gain_ci95: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class _Table:
    """All models' probabilities in one order of drawings; `held_out` says of which drawings each has some."""

    names: tuple[str, ...]
    probs: Sequence[Float[np.ndarray, "n classes"]]
    held_out: Sequence[Bool[np.ndarray, " n"]]
    targets: Int64[np.ndarray, " n"]
    groups: Int64[np.ndarray, " n"] | None
    digests: Shaped[np.ndarray, " n"]
    metric: Metric

    def common(self, members: Sequence[int], rows: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Find the rows that all members held out."""
        common: np.ndarray = np.logical_and.reduce([rows, *(self.held_out[member] for member in members)])
        return common

    def vote(self, members: Sequence[int], rows: Bool[np.ndarray, " n"]) -> Float[np.ndarray, "rows classes"]:
        """Average the members' probabilities."""
        mean: np.ndarray = sum(self.probs[member][rows] for member in members) / np.float32(len(members))
        return mean

    def score(self, members: Sequence[int], rows: Bool[np.ndarray, " n"]) -> float:
        """Score a vote, so that more is better."""
        return self.metric.signed(self.metric.score(self.vote(members, rows), self.targets[rows]))

    def compare(
        self, first: Sequence[int], second: Sequence[int], rows: Bool[np.ndarray, " n"]
    ) -> tuple[float, tuple[float, float], float]:
        """Give the second vote's gain over the first, its interval, and its p-value."""
        targets, groups = self.targets[rows], None if self.groups is None else self.groups[rows]
        votes = [self.vote(members, rows) for members in (first, second)]
        if self.metric.is_accuracy:
            before, after = (probs.argmax(1) == targets for probs in votes)
            figures = paired_difference(before, after, groups)
        else:
            before, after = (self.metric.statistics(probs, targets) for probs in votes)
            figures = compare_figures(self.metric, before, after, groups)
        low, high = sorted(self.metric.signed(bound) for bound in figures["difference_ci95"])
        return self.metric.signed(figures["difference"]), (low, high), figures["p_value"]


def choose(models: Sequence[Fitted], metric: Metric, seed: int = 0) -> Choice:
    """Choose which models answer.

    The best single model is taken, one that held out fewer drawings than others only where it is distinguishably better; others
    join an equal vote one by one as long as the vote gains distinguishably. The same is done from the next best two models, and
    the best vote is taken. Models that can't be judged here, since their backbones were trained on these drawings, join with
    the weight of one each, the last of each backbone; where there are no others, they are chosen by their own optimistic
    figures.

    Args:
        models: All fitted models, at least one, simpler ones first.
        metric: What they are compared by.
        seed: Seed of the parts by which the choice itself is judged.

    Returns:
        The choice with its figures.
    """
    judged = [model for model in models if not model.is_unjudged]
    unjudged = {model.backbone: model.name for model in models if model.is_unjudged} if judged else {}
    table, rows = _tabulate(judged or models, metric)
    members = _select(table, rows)
    common = table.common(members, rows)
    names = tuple(table.names[member] for member in members)
    alone = max(members, key=lambda member: table.score([member], common))
    gain, interval, p_value = table.compare([alone], members, common) if len(members) > 1 else (None, None, None)
    return Choice(
        members=(*names, *unjudged.values()),
        figure=metric.signed(table.score(members, common)),
        nested=_nested(table, rows, seed) if len(table.names) > 1 else None,
        n=int(common.sum()),
        unjudged=tuple(unjudged.values()),
        p_value=p_value,
        gain=gain,
        gain_ci95=interval,
    )


def compare_votes(
    models: Sequence[Fitted], first: Sequence[str], second: Sequence[str], metric: Metric
) -> tuple[float, tuple[float, float], float]:
    """Compare two equal votes on the drawings that all their members held out.

    Args:
        models: All fitted models.
        first: Names of the members of one vote.
        second: Names of the members of the other one.
        metric: What they are compared by.

    Returns:
        The second vote's gain over the first, more being better, its 95 % interval, and its p-value.
    """
    table, rows = _tabulate([model for model in models if model.name in {*first, *second}], metric)
    places = [[table.names.index(name) for name in names] for names in (first, second)]
    return table.compare(places[0], places[1], table.common([*places[0], *places[1]], rows))


def measure_vote(models: Sequence[Fitted], names: Sequence[str], metric: Metric) -> tuple[float, list[float], int]:
    """Measure an equal vote on the drawings that all its members held out, without those that a backbone was trained on.

    Args:
        models: All fitted models.
        names: Names of the vote's members, or of a single model.
        metric: What it is measured by.

    Returns:
        The metric's value, its 95 % interval, and the number of drawings.
    """
    own = [model for model in models if model.name in {*names}]
    judged = [model for model in own if not model.is_unjudged]
    table, rows = _tabulate(judged or own, metric)
    members = range(len(table.names))
    common = table.common(members, rows)
    probs, targets = table.vote(members, common), table.targets[common]
    groups = None if table.groups is None else table.groups[common]
    if metric.is_accuracy:
        figures = accuracy_figures(probs.argmax(1) == targets, groups)
        return float(figures["accuracy"]), [*figures["accuracy_ci95"]], int(common.sum())
    figures = metric_figures(metric, probs, targets, groups=groups)
    return float(figures["value"]), [*figures["ci95"]], int(common.sum())


def _tabulate(models: Sequence[Fitted], metric: Metric) -> tuple[_Table, Bool[np.ndarray, " n"]]:
    """Bring all models into the order of the one that held out most, and leave out drawings that backbones were trained on."""
    reference = max(models, key=lambda model: len(model.predictions.image_paths)).predictions
    assert reference.targets is not None
    row_of = {path: row for row, path in enumerate(reference.image_paths.tolist())}
    n, probs, held_out, seen, groups = len(row_of), [], [], np.zeros(len(row_of), bool), []
    for model in models:
        own = model.predictions
        places = np.array([row_of[path] for path in own.image_paths.tolist()], np.int64)
        aligned = np.zeros((n, own.probs.shape[1]), np.float32)
        aligned[places] = own.probs
        mask = np.zeros(n, bool)
        mask[places] = True
        probs.append(aligned)
        held_out.append(mask)
        if own.seen is not None and is_worth_reporting(int(own.seen.sum()), len(own.seen)):
            seen[places] |= own.seen
        groups.append(None if own.groups is None or len(places) < n else own.groups[np.argsort(places)])
    digests = (
        np.array([str(path).encode() for path in reference.image_paths]) if reference.digests is None else reference.digests
    )
    names = tuple(model.name for model in models)
    table = _Table(names, probs, held_out, reference.targets, coarsest_groups(groups), digests, metric)
    return table, evaluation_mask(seen)


def _select(table: _Table, rows: Bool[np.ndarray, " n"]) -> list[int]:
    """Grow a vote from each of the best models, and take the best of these votes; the simplest of equal ones."""
    usable = [one for one in range(len(table.names)) if (table.held_out[one] & rows).any()]
    first = _best_alone(table, usable, rows)
    others = [one for one in _whole(table, usable, rows) if one != first]
    others.sort(key=lambda one: -table.score([one], table.held_out[one] & rows))
    best = _grown(table, usable, first, rows)
    for start in others[: STARTS - 1]:
        members = _grown(table, usable, start, rows)
        common = table.common([*best, *members], rows)
        if common.any() and table.score(members, common) > table.score(best, common):
            best = members
    return best


def _grown(table: _Table, usable: Sequence[int], start: int, rows: Bool[np.ndarray, " n"]) -> list[int]:
    """Add models to one, as long as an equal vote gains distinguishably."""
    members = [start]
    while len(members) < min(len(usable), MOST_MEMBERS):
        gains = []
        for one in usable:
            common = table.common([*members, one], rows)
            if one in members or not common.any():
                continue
            gains.append((table.score([*members, one], common) - table.score(members, common), -one))
        gain, chosen = max(gains, default=(0.0, 0))
        more = [*members, -chosen]
        if gain <= 0 or table.compare(members, more, table.common(more, rows))[2] >= SIGNIFICANT:
            break
        members = more
    return members


def _whole(table: _Table, usable: Sequence[int], rows: Bool[np.ndarray, " n"]) -> list[int]:
    """Find the models that held out nearly as many drawings as any."""
    counts = {one: int((table.held_out[one] & rows).sum()) for one in usable}
    return [one for one in usable if counts[one] >= WHOLE_SHARE * max(counts.values())]


def _best_alone(table: _Table, usable: Sequence[int], rows: Bool[np.ndarray, " n"]) -> int:
    """Find the best single model; one that held out fewer drawings than others must be distinguishably better than these."""
    whole = _whole(table, usable, rows)
    best = whole[0]
    for one in whole[1:]:
        common = table.common([best, one], rows)
        if common.any() and table.score([one], common) > table.score([best], common):
            best = one
    for one in (one for one in usable if one not in whole):
        common = table.common([best, one], rows)
        if common.any():
            gain, _, p_value = table.compare([best], [one], common)
            best = one if gain > 0 and p_value < SIGNIFICANT else best
    return best


def _nested(table: _Table, rows: Bool[np.ndarray, " n"], seed: int) -> float | None:
    """Answer each part's drawings by what the other parts choose, and score that."""
    held_out = rows & np.logical_or.reduce(table.held_out)
    groups = None if table.groups is None else table.groups[held_out]
    if len(np.unique(groups if groups is not None else np.flatnonzero(held_out))) < PARTS:
        return None
    parts = np.full(len(rows), -1)
    parts[held_out] = assign_folds(table.targets[held_out], table.digests[held_out], PARTS, seed, groups)
    answers = np.zeros_like(table.probs[0])
    answered = np.zeros(len(rows), bool)
    for part in range(PARTS):
        others = held_out & (parts != part)
        if not others.any():
            continue
        members = _select(table, others)
        own = table.common(members, held_out & (parts == part))
        answers[own] = table.vote(members, own)
        answered |= own
    if not answered.any():
        return None
    return table.metric.score(answers[answered], table.targets[answered])
