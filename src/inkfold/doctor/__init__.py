"""What inkfold finds on this machine: versions, devices, parts, weights, disks, limits, and what is slow and why.

Every check runs by itself and reports also what breaks in it, so that a broken installation can be looked at.
Nothing is changed, and PyTorch isn't needed.
"""

from inkfold.lazy import lazy_names

__all__ = ["Finding", "run_checks"]

__getattr__, __dir__ = lazy_names(__name__, {"Finding": "checks", "run_checks": "checks"})
