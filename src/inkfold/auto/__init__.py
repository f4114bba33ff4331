"""The search for the best classifier within a budget of time: what to try next, by measured costs, until the deadline.

`train` is the main loop: read the data, try candidates in the order of expected gain per second, publish the best so far as an
ordinary run after each of them. `record` is what is written down of it, `auto.json`, by which a search is continued, repeated
and reported.
"""

from typing import TYPE_CHECKING

from inkfold.lazy import lazy_names

if TYPE_CHECKING:
    from inkfold.auto.record import AutoRecord as AutoRecord
    from inkfold.auto.train import train_auto as train_auto

__all__ = ["AutoRecord", "train_auto"]

__getattr__, __dir__ = lazy_names(__name__, {"AutoRecord": "record", "train_auto": "train"})
