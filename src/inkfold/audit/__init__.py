"""Finding problems: of a data set before training, of a run's data afterwards, and of the run itself.

`check_data` decodes every drawing of a data set and reports broken files, duplicates and conflicting labels (`inkfold check`);
`audit_run` adds labels that several models doubt and classes that none of them separates (`inkfold audit`), from which
`fix` writes a table of decisions;
`find_weaknesses` measures a run on turned, bent or thinned drawings (`inkfold weakness`). The last two write a JSON file into
the run and leave its other files as they are. Pages about all of this are written by `inkfold.report`.

`inkfold.audit(...)` is the function `inkfold.api.results.audit`: `help` on that describes it.
"""

from typing import TYPE_CHECKING

from inkfold.lazy import call_package, lazy_names

if TYPE_CHECKING:
    from inkfold.audit.check import check_data as check_data
    from inkfold.audit.robustness import find_weaknesses as find_weaknesses
    from inkfold.audit.run_audit import audit_run as audit_run

__getattr__, __dir__ = lazy_names(__name__, {"audit_run": "run_audit", "check_data": "check", "find_weaknesses": "robustness"})

call_package(__name__, "inkfold.api.results:audit")
