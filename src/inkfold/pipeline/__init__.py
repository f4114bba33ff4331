"""The main path: a recipe and drawings become a run's directory, and a run predicts new drawings.

Read `train` first, top to bottom. `build` turns the recipe into a plan, once; `prepare` reads, decodes and orders the drawings;
`inputs` adds folds and features; `finetuning` is the stage that trains backbones; `out_of_fold` predicts each drawing by the
fold that held it out; `results` measures and writes; `run_dir` claims, locks and finishes the directory. `run` loads a finished
run and `predict` predicts with it.
"""

from typing import TYPE_CHECKING

from inkfold.lazy import lazy_names

if TYPE_CHECKING:
    from inkfold.pipeline.build import TrainingPlan as TrainingPlan
    from inkfold.pipeline.build import build_plan as build_plan
    from inkfold.pipeline.run import Run as Run

__getattr__, __dir__ = lazy_names(__name__, {"Run": "run", "TrainingPlan": "build", "build_plan": "build"})
