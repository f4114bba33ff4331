"""What heads are trained on: features, class ids and folds, and other features for each epoch where drawings are augmented."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from inkfold.data.splits import Folds


@dataclass(frozen=True, slots=True)
class AugmentedFeatures:
    """What each epoch trains on where that isn't the drawings as they are.

    Attributes:
        features: Returns an epoch's features, in the order of the drawings; called from several threads.
        lr_factors: Factor of the learning rate in each epoch, above 0; multiplies the schedule's.
    """

    features: Callable[[int], Float[np.ndarray, "n d"]]
    lr_factors: Sequence[float]


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """The drawings that heads are trained on, as features.

    Attributes:
        features: Features of all drawings as they are; their order must depend on the data's content alone.
        targets: Class id of each drawing, 0 to `num_classes` - 1.
        folds: Which drawings each fold's heads train on, and which are held out from them.
        num_classes: Number of classes, at least 2; classes without a drawing are allowed.
        seed: Seed of starting weights, the order of drawings, dropout and mixup.
        augmented: What each epoch trains on; None trains every epoch on the drawings as they are.
        blocks: Widths of the blocks of features, one per layer and backbone, which the scaling `blocks` gives one scale each;
            empty takes all features as one block.
    """

    features: Float[np.ndarray, "n d"]
    targets: Int64[np.ndarray, " n"]
    folds: Folds
    num_classes: int
    seed: int = 0
    augmented: AugmentedFeatures | None = None
    blocks: tuple[int, ...] = ()

    def epoch_features(self, epoch: int) -> Float[np.ndarray, "n d"]:
        """Return the features that an epoch, counted from 0, trains on."""
        return self.features if self.augmented is None else self.augmented.features(epoch)

    def epoch_lr_factor(self, epoch: int) -> float:
        """Return the factor of the learning rate in an epoch, beside the schedule's."""
        return 1.0 if self.augmented is None else self.augmented.lr_factors[epoch]

    def held_out_count(self, fold: int) -> int:
        """Count the drawings that a fold holds out."""
        return int(self.folds.held_out[fold].sum())
