"""How backbones stand after a round of a race: accuracy on the same drawings, who drops out, and whose vote is the best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from inkfold.evaluation.paired import paired_difference

VOTERS = 3
KEPT_SHARE = 0.5  # of the backbones, from round to round
USUAL_GAIN, USUAL_GAIN_SD = 0.01, 0.02  # of accuracy, when another family joins a vote; more drawings outweigh it
FEWEST_NEW = 40  # drawings that a backbone was not pretrained on; by fewer it is not judged


@dataclass(frozen=True, slots=True)
class Predicted:
    """What one backbone predicts out of fold of the drawings of a round.

    Attributes:
        probs: Class probabilities of each drawing, by a head that was trained on other folds.
        half_right: Whether each is predicted rightly by a head that was trained on half as many drawings.
        seen: Which of the drawings the backbone was pretrained on; none where they are too few to matter.
        seconds_for_all: Seconds that its features of all drawings will still take.
    """

    probs: Float[np.ndarray, "n classes"]
    half_right: Bool[np.ndarray, " n"]
    seen: Bool[np.ndarray, " n"]
    seconds_for_all: float

    @property
    def is_judged(self) -> bool:
        """Whether enough of the drawings are new to the backbone to say anything of it."""
        return int((~self.seen).sum()) >= min(FEWEST_NEW, len(self.seen))


@dataclass(frozen=True, slots=True)
class Standing:
    """How backbones compare on the drawings of one round that are new to all of them.

    Attributes:
        predicted: What each backbone predicts, by its name; of all drawings of the round.
        targets: Class of each drawing.
        groups: Number of each drawing's group; None where nothing is known of groups.
        scored: Which drawings count.
    """

    predicted: Mapping[str, Predicted]
    targets: Int64[np.ndarray, " n"]
    groups: Int64[np.ndarray, " n"] | None
    scored: Bool[np.ndarray, " n"]

    @classmethod
    def of(
        cls, predicted: Mapping[str, Predicted], targets: Int64[np.ndarray, " n"], groups: Int64[np.ndarray, " n"] | None
    ) -> "Standing":
        """Compare backbones on the drawings that are new to all that can be judged; on all where hardly any is."""
        judged = {name: own for name, own in predicted.items() if own.is_judged}
        seen = np.zeros(len(targets), bool)
        for own in judged.values():
            seen |= own.seen
        few = int((~seen).sum()) < min(FEWEST_NEW, len(seen))
        return cls(judged, targets, groups, np.ones_like(seen) if few else ~seen)

    @property
    def n(self) -> int:
        """Number of drawings that count."""
        return int(self.scored.sum())

    def right(self, name: str) -> Bool[np.ndarray, " scored"]:
        """Return which of the drawings that count a backbone predicts rightly."""
        right: np.ndarray = self.predicted[name].probs.argmax(1)[self.scored] == self.targets[self.scored]
        return right

    def accuracy(self, name: str) -> float:
        """Accuracy of a backbone on the drawings that count, 0 to 1."""
        return float(self.right(name).mean())

    @property
    def ranked(self) -> list[str]:
        """Names of the backbones, the most accurate first."""
        return sorted(self.predicted, key=lambda name: (-self.accuracy(name), name))

    def voters(self, seconds: float = float("inf")) -> tuple[list[str], float | None]:
        """Choose up to three backbones whose equal vote is the best: one after the other, while each is expected to improve it.

        What is expected lies between the gain on these drawings and the usual one, by how sure the former is: few drawings
        can't show that a vote gains.

        Args:
            seconds: Seconds that the features of all drawings may take for those after the first, together with it.

        Returns:
            Their names in the order in which they were chosen, and the vote's accuracy; None without any backbone.

        Source: Caruana et al., "Ensemble selection from libraries of models", ICML 2004.
        """
        if not self.predicted:
            return [], None
        chosen = self.ranked[:1]
        total = self.predicted[chosen[0]].probs[self.scored]
        while len(chosen) < VOTERS:
            before = total.argmax(1) == self.targets[self.scored]
            left = seconds - sum(self.predicted[name].seconds_for_all for name in chosen)
            others = [name for name in self.ranked if name not in chosen and self.predicted[name].seconds_for_all <= left]
            gains = {name: self._expected_gain(total, before, name) for name in others}
            if not gains or max(gains.values()) <= 0:
                break
            chosen.append(max(gains, key=lambda name: gains[name]))  # of equal ones the more accurate
            total = total + self.predicted[chosen[-1]].probs[self.scored]
        return chosen, float((total.argmax(1) == self.targets[self.scored]).mean())

    def _expected_gain(self, total: np.ndarray, before: Bool[np.ndarray, " scored"], name: str) -> float:
        """Expect a gain of accuracy when a backbone joins a vote: between what was measured and what is usual."""
        after = (total + self.predicted[name].probs[self.scored]).argmax(1) == self.targets[self.scored]
        changes = after.astype(np.float64) - before
        variance = max(float(changes.var()), 1 / len(changes)) / len(changes)
        weight = USUAL_GAIN_SD**2 / (USUAL_GAIN_SD**2 + variance)
        return weight * float(changes.mean()) + (1 - weight) * USUAL_GAIN

    def dropped(self, voters: Sequence[str]) -> dict[str, str]:
        """Say which backbones drop out: those that are distinguishably worse than the best, or not in the better half.

        Args:
            voters: Names of those that stay in any case, as their vote helps.

        Returns:
            By name why it drops out.
        """
        ranked = self.ranked
        kept = max(VOTERS, round(KEPT_SHARE * len(ranked)))
        groups = None if self.groups is None else self.groups[self.scored]
        reasons = {}
        for place, name in enumerate(ranked[1:], 1):
            compared = paired_difference(self.right(ranked[0]), self.right(name), groups)
            if name in voters or not (compared["distinguishable"] or place >= kept):
                continue
            word = "distinguishably worse" if compared["distinguishable"] else "not in the better half"
            figures = f"{compared['difference']:+.3f} against {ranked[0]} on {self.n:,} drawings, p = {compared['p_value']:.2g}"
            reasons[name] = f"{word}: {figures}"
        return reasons
