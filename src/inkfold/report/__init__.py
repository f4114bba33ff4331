"""Reports about finished runs: self-contained HTML files, contact sheets, and experiment trackers.

`write_report` writes the page of a run or of several side by side (`inkfold report`), `write_check_page` that of a checked data
set (`inkfold check --html`), and `write_preview` a picture of a recipe's augmentation (`inkfold augment`). A page is a view
function, which gathers plain values from the files of a run, and a template in `templates/`. To add a section: gather its
values in `run_page`, or in a module of its own if that is long, add them to `run_page.run_view` and `run_page.SECTIONS`, and
show them in `templates/run.html.j2`. Reading runs needs no PyTorch.

`inkfold.report(...)` is the function `inkfold.api.results.report`: `help` on that describes it.
"""

from typing import TYPE_CHECKING

from inkfold.lazy import call_package, lazy_names

if TYPE_CHECKING:
    from inkfold.report.check_page import write_check_page as write_check_page
    from inkfold.report.contact_sheet import write_preview as write_preview
    from inkfold.report.write import write_report as write_report

__getattr__, __dir__ = lazy_names(
    __name__, {"write_check_page": "check_page", "write_preview": "contact_sheet", "write_report": "write"}
)

call_package(__name__, "inkfold.api.results:report")
