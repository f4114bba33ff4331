"""Several models pooled into one: voting methods, their honest scores, and the finished ensemble, a run like any other.

`voting` pools predictions and `stacking` fits weights; `methods` scores and compares the voting methods out of fold, and
`selection` chooses one. Members are finished runs or files from elsewhere: `load`, `external` and `npy` read them,
`member_predictions` checks each and `members` aligns them all. `build` leads from members to a finished ensemble, which `model`
loads and predicts with; `recipe` reads ensembles' recipes, `submission` keeps the submission's format, `diversity` measures how
members differ.
"""

from typing import TYPE_CHECKING

from inkfold.lazy import lazy_names

if TYPE_CHECKING:
    from inkfold.ensemble.build import train_any as train_any
    from inkfold.ensemble.build import vote as vote
    from inkfold.ensemble.methods import FittedMethod as FittedMethod
    from inkfold.ensemble.methods import VotingMethod as VotingMethod
    from inkfold.ensemble.model import Ensemble as Ensemble
    from inkfold.ensemble.model import first_run as first_run
    from inkfold.ensemble.model import load_run as load_run

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Ensemble": "model",
        "FittedMethod": "methods",
        "VotingMethod": "methods",
        "first_run": "model",
        "load_run": "model",
        "train_any": "build",
        "vote": "build",
    },
)
