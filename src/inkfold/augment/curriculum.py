"""The augmentation curriculum: which view of each drawing every epoch learns from.

A stage with `views` None shows a new view in each of its epochs, as the reference did; with a number it goes
round that many. Views are numbered within their operations, so a stage's first views are the same however many it has, and
all folds, heads and trials draw from one pool of features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from inkfold.augment.views import View
from inkfold.config.operations import Operation


@dataclass(frozen=True, slots=True)
class Stage:
    """Some epochs that learn from one kind of view.

    Attributes:
        epochs: How many.
        operations: What is done to the drawings; none leaves them as they are.
        views: Size of the pool of views; None makes a new one for each epoch.
        lr_factor: Of the learning rate, beside the schedule's.
    """

    epochs: int
    operations: tuple[Operation, ...] = ()
    views: int | None = None
    lr_factor: float = 1.0


class Curriculum:
    """Stages in their order.

    Args:
        stages: Their epochs add up to the fit's.
        seed: Of the views' draws.
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
        """In all stages."""
        return len(self._views)

    def view(self, epoch: int) -> View:
        """Give the view that an epoch learns from."""
        return self._views[epoch]

    def stage(self, epoch: int) -> int:
        """Number the stage of an epoch, from 0."""
        return self._stage_of[epoch]

    def lr_factors(self) -> list[float]:
        """Give each epoch's factor of the learning rate."""
        return [self.stages[number].lr_factor for number in self._stage_of]

    def views(self) -> tuple[View, ...]:
        """Give every view that is learnt from, once, in the order of its first epoch."""
        return tuple(dict.fromkeys(self._views))


def _view(operations: tuple[Operation, ...], seed: int, index: int) -> View:
    view = View(operations, seed, index)
    return View(operations) if view.is_fixed else view
