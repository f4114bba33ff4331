"""What every long job needs and no drawing is part of: progress, costs, processes, Ray.

`progress` is a function of (stage, done, total) that is passed down to whoever works; `cost` collects forward passes and
seconds by stage; `parallel` runs work in threads ahead of its reader, or in processes that end with their parent; `ray`
starts or joins Ray safely. Nothing here knows what the work is about.
"""

from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent

__all__ = ["Cost", "Progress", "silent"]
