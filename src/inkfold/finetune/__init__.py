"""Training of the backbone itself, whole, its last blocks or low-rank additions, on the same folds as heads.

`train_folds` trains one network per fold and chooses how far to go from the start's weights; `train_fold` trains one fold step
by step; `train_state` holds the network, optimiser and moving average; `network` joins backbone and head into one module.
`checkpoint` saves all that a killed training needs to end with the same bytes. `distributed`, `fsdp` and `ray_train` let
several processes train together; `distillation` trains a network to find drawings similar as a finished run's does.
`step_time` and `effort` fit a training into the time that there is for it.
"""

from typing import TYPE_CHECKING

from inkfold.lazy import lazy_names

if TYPE_CHECKING:
    from inkfold.finetune.plan import FinetunePlan as FinetunePlan
    from inkfold.finetune.train_folds import FinetunedFolds as FinetunedFolds
    from inkfold.finetune.train_folds import FinetuneJob as FinetuneJob

__getattr__, __dir__ = lazy_names(
    __name__, {"FinetuneJob": "train_folds", "FinetunePlan": "plan", "FinetunedFolds": "train_folds"}
)
