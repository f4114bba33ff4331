"""What the feature banks lack becomes a plan, the plan becomes files, and the files are checked before anyone trusts them."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from inkfold.augment.views import View
from inkfold.errors import CacheError
from inkfold.features.bank import FeatureBank
from inkfold.features.executors import Launcher
from inkfold.features.tasks import Account, Making, plan_cells
from inkfold.runtime.progress import Progress, silent

ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Extraction:
    """The banks, and what it took to have the features in them.

    Attributes:
        banks: By view.
        forwards: Drawings that went through the backbone now.
        cached: Drawings whose features were there.
    """

    banks: Mapping[View, FeatureBank]
    forwards: int
    cached: int


def extract(
    making: Making,
    wanted: Mapping[View, Shaped[np.ndarray, " rows"]],
    launcher: Launcher,
    progress: Progress = silent,
) -> Extraction:
    """Compute the features that are missing.

    Another run that computes any of the same banks is waited for, and what it left is taken.

    Args:
        making: What makes features.
        wanted: By view, digests of drawings that are in the pixel store or whose features are there.
        launcher: Who carries the plan out.
        progress: Told of drawings, over all views.

    Returns:
        The banks.

    Raises:
        CacheError: If features are still missing after three plans, or what the launcher raises.
    """
    digests = {view: np.unique(rows) for view, rows in wanted.items()}
    banks = {view: making.bank(view) for view in digests}
    for bank in banks.values():
        bank.shards.create()
    lacking = [view for view, bank in banks.items() if bank.shards.missing(digests[view]).any()]
    forwards = 0
    with contextlib.ExitStack() as locks:
        for view in sorted(lacking, key=lambda view: banks[view].shards.directory):  # in one order: no two wait for each other
            locks.enter_context(banks[view].shards.lock())
        for attempt in range(ATTEMPTS + 1):
            missing = {view: digests[view][banks[view].shards.missing(digests[view])] for view in lacking}
            cells = plan_cells(making, missing)
            if not cells:
                break
            if attempt == ATTEMPTS:
                raise CacheError(
                    f"{cells[0].directory}: {sum(map(len, cells))} features are still missing after {ATTEMPTS} plans that were "
                    "carried out. Their files went, or workers write elsewhere: all must share one INKFOLD_HOME."
                )
            account = Account(cells, progress)
            launcher.run(cells, account)
            forwards += sum(map(len, cells))
            for view, (rows, seconds) in account.spent().items():
                banks[view].note_rate(rows, seconds, making.device)
    return Extraction(banks, forwards, sum(map(len, digests.values())) - forwards)
