"""What training a run left in memory, and which of its figures are optimistic because of a choice."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inkfold.data.class_prior import ClassPrior
from inkfold.data.splits import Folds
from inkfold.evaluation.decision import DecisionChoice
from inkfold.evaluation.predictions import Predictions
from inkfold.evaluation.scores import ACCURACY, Metric
from inkfold.pipeline.leaks import Leak
from inkfold.pipeline.transductive import Propagation

if TYPE_CHECKING:
    from inkfold.finetune.train_folds import FinetunedFolds
    from inkfold.heads.fit import FittedHeads


@dataclass(frozen=True, slots=True)
class Results:
    """The fitted heads of a run, and their predictions.

    Attributes:
        num_folds: How many folds were trained: 1 for a holdout.
        fitted: The heads of all folds, with their training curve.
        out_of_fold: Predictions of each drawing by the fold that held it out.
        test: Predictions of the test drawings; None without a test table.
        without_tta: Out-of-fold predictions without test-time views; None if the recipe has none.
        frozen: Out-of-fold predictions of the heads on the frozen backbone, without test-time views; None if nothing was
            fine-tuned.
        finetuned: The fine-tuned folds; None if nothing was fine-tuned.
        split_apart: Out-of-fold predictions with folds that split groups apart, or copies where there are no groups; None if
            they would split none.
        reading: How pages are read, and why, as `Reading.about`; None where the recipe leaves nothing of it open.
        backbone_choice: Which backbone was taken, and why, as `BackboneChoice.about`; None where nothing was compared.
        leaks: Copies of drawings trained on, by the evaluated part that they are in: `test` or `out_of_fold`.
        metric: What the run is measured and chosen by.
        decision: The rule that turns probabilities into answers, and what it gains; `out_of_fold` and `test` have its answers.
        folds: What each fold was trained on, and what it held out; None where nothing was left out of training.
        propagation: Whether the test drawings are predicted together, and what that gains; None where it wasn't asked for.
        decision_of_heads: The rule for answers by the heads alone, which new drawings get; None where that is `decision`.
        prior: How frequent the classes are among the drawings to predict; None where that is as in training.
    """

    num_folds: int
    fitted: "FittedHeads"
    out_of_fold: Predictions
    test: Predictions | None
    without_tta: Predictions | None
    frozen: Predictions | None = None
    finetuned: "FinetunedFolds | None" = None
    split_apart: Predictions | None = None
    reading: Mapping[str, Any] | None = None
    backbone_choice: Mapping[str, Any] | None = None
    leaks: Mapping[str, Leak] = field(default_factory=dict)
    metric: Metric = ACCURACY
    decision: DecisionChoice = field(default_factory=DecisionChoice)
    folds: Folds | None = None
    propagation: Propagation | None = None
    decision_of_heads: DecisionChoice | None = None
    prior: ClassPrior | None = None

    @property
    def by_heads(self) -> Predictions:
        """Out-of-fold predictions by the heads alone, answered by the most probable class; steps are compared by them."""
        alone = None if self.propagation is None else self.propagation.by_heads
        return (alone or self.out_of_fold).most_probable

    @property
    def decision_for_new(self) -> DecisionChoice:
        """The rule for drawings that are predicted later, one by one."""
        return self.decision_of_heads or self.decision


def warn_of_choices(results: Results) -> list[str]:
    """Write a warning for each choice that was made by the same drawings that the accuracy is measured on.

    Args:
        results: Has the selection of epochs, and of how far fine-tuned weights are interpolated.

    Returns:
        The warnings; none for a choice that isn't optimistic.
    """
    choices = {
        "the epochs that are kept (keep=best)": results.fitted.selection,
        "the shares of the way to the trained weights (finetune.interpolate)": (
            None if results.finetuned is None else results.finetuned.interpolation
        ),
    }
    return [
        f"{name} were chosen by the held-out drawings, whose accuracy is optimistic by {choice.optimism:.4f}: "
        f"on new drawings expect {choice.nested_accuracy:.4f}"
        for name, choice in choices.items()
        if choice is not None and choice.optimism > 0
    ]


def warn_of_accuracy(results: Results) -> list[str]:
    """Say which choices of a run accuracy made, where the run is measured by another metric.

    Args:
        results: Has the metric and the choices.

    Returns:
        One warning; none where there was no such choice.
    """
    if results.metric.is_accuracy:
        return []
    finetuned = results.finetuned
    choices = {
        "the backbone (backbone.name=auto)": (results.backbone_choice or {}).get("compared"),
        "how pages are read (image.resize=auto, image.paper=auto)": (results.reading or {}).get("compared"),
        "the epochs that fine-tuning keeps (finetune.keep=best)": finetuned and finetuned.fitted.selection,
        "the share of fine-tuned weights (finetune.interpolate)": finetuned and finetuned.interpolation,
    }
    made = [name for name, was_made in choices.items() if was_made]
    return [f"chosen by accuracy, not by {results.metric.title}: {'; '.join(made)}"] if made else []
