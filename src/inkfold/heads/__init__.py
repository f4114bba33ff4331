"""Classifiers on top of features: all folds, starts and trials of a kind are fitted together.

`head` describes a head (linear, MLP, cosine, class means, neighbours) and predicts with it in NumPy; `closed_form` computes
those that need no training. `training_set` is what the others are trained on: `fit` groups heads of one shape, `fit_group`
fits a group epoch by epoch, and `batched` stacks its tensors, so that one step trains all of them. `losses` and `randomness`
are what a step minimises and draws; `epoch_selection` chooses the best epoch and estimates how optimistic that choice is.
"""

from typing import TYPE_CHECKING

from inkfold.lazy import lazy_names

if TYPE_CHECKING:
    from inkfold.heads.fit import FittedHeads as FittedHeads
    from inkfold.heads.fit import Trial as Trial
    from inkfold.heads.fit import fit_trials as fit_trials
    from inkfold.heads.head import HeadSpec as HeadSpec
    from inkfold.heads.head import head_probs as head_probs
    from inkfold.heads.training_set import TrainingSet as TrainingSet

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "FittedHeads": "fit",
        "HeadSpec": "head",
        "TrainingSet": "training_set",
        "Trial": "fit",
        "fit_trials": "fit",
        "head_probs": "head",
    },
)
