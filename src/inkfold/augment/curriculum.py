"""The augmentation curriculum: which view of the drawings each epoch is trained on.

A stage with `views` None takes a new view in each of its epochs, as the reference did; with a number it cycles through that
many. Views are numbered within their operations, so a stage's first views are the same however many it has, and all folds,
heads and trials share one pool of features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from inkfold.augment.views import View
from inkfold.config.operations import Operation


@dataclass(frozen=True, slots=True)
class Stage:
    """Consecutive epochs that are trained on one kind of view.

    Attributes:
        epochs: How many epochs the stage lasts, at least 1.
        operations: Augmentations of the drawings; empty leaves them as they are.
        views: Size of the pool of views; None takes a new view for each epoch.
        lr_factor: Factor of the learning rate, beside the schedule's.
    """

    epochs: int
    operations: tuple[Operation, ...] = ()
    views: int | None = None
    lr_factor: float = 1.0


class Curriculum:
    """A sequence of stages, with the view of each epoch.

    Args:
        stages: The stages; their epochs add up to those of the training.
        seed: Seed of the views' random numbers.
    """

    def __init__(self, stages: Sequence[Stage], seed: int) -> None:
        self.stages = tuple(stages)
        self._stage_of = [number for number, stage in enumerate(stages) for _ in range(stage.epochs)]
        shown: dict[tuple[Operation, ...], int] = {}
        self._views: list[View] = []
        for stage in stages:
            first = shown.get(stage.operations, 0)
            pool = stage.views or stage.epochs
            start = first if stage.views is None else 0
            self._views += [_view(stage.operations, seed, start + epoch % pool) for epoch in range(stage.epochs)]
            shown[stage.operations] = max(first, start + min(pool, stage.epochs))

    @property
    def epochs(self) -> int:
        """Number of epochs in all stages."""
        return len(self._views)

    def view(self, epoch: int) -> View:
        """Return the view that an epoch is trained on."""
        return self._views[epoch]

    def stage(self, epoch: int) -> int:
        """Return the number of an epoch's stage, from 0."""
        return self._stage_of[epoch]

    def lr_factors(self) -> list[float]:
        """Return each epoch's factor of the learning rate."""
        return [self.stages[number].lr_factor for number in self._stage_of]

    def views(self) -> tuple[View, ...]:
        """Return the distinct views that are trained on, in the order of their first epochs."""
        return tuple(dict.fromkeys(self._views))


def _view(operations: tuple[Operation, ...], seed: int, index: int) -> View:
    view = View(operations, seed, index)
    return View(operations) if view.is_fixed else view
