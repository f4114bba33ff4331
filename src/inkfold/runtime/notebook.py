"""Text that is updated in place below a notebook's cell.

Rich draws it, and the kernel sends it under an id that every front end of Jupyter knows. Nothing here starts a thread, so that
nothing outlives an interrupted cell, and no widgets are needed: what is saved with the notebook is the last state.
"""

import io
import sys
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final
from uuid import uuid4

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDGETS = "IProgress not found"  # tqdm, which others import, wants widgets, and would say so in the cell
SHELLS = ("ZMQInteractiveShell", "Shell")  # Jupyter's, and Colab's
WIDTH = 100
EVERY_S = 0.25
AFTER_S = 1.0  # what takes less time shows nothing
FONT = "ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace"
HTML = f'<pre style="white-space:pre;overflow-x:auto;line-height:1.35;margin:0;font-family:{FONT}">{{code}}</pre>'


def in_notebook() -> bool:
    """Return whether this is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and type(ipython.get_ipython()).__name__ in SHELLS


@final
class NotebookText:
    """What rich draws, below a cell.

    Args:
        draw: Returns what is shown now.
        after_s: Seconds from now before which nothing is shown.
    """

    def __init__(self, draw: "Callable[[], RenderableType]", after_s: float = AFTER_S) -> None:
        self._draw, self._id, self._shown = draw, f"inkfold-{uuid4().hex}", False
        self._due = time.monotonic() + after_s

    def refresh(self) -> None:
        """Show the present state, four times a second at the most."""
        if time.monotonic() >= self._due:
            self._send()
            self._due = time.monotonic() + EVERY_S

    def stop(self) -> None:
        """Show the last state, if anything was shown."""
        if self._shown:
            self._send()

    def _send(self) -> None:
        from IPython.display import display  # noqa: PLC0415 - only called in a kernel

        display(_bundle(self._draw()), raw=True, display_id=self._id, update=self._shown)  # type: ignore[no-untyped-call,unused-ignore]
        self._shown = True


def _bundle(drawn: "RenderableType") -> dict[str, Any]:
    from rich.console import Console  # noqa: PLC0415

    console = Console(
        file=io.StringIO(),
        record=True,
        width=WIDTH,
        force_terminal=True,
        force_jupyter=False,  # else it displays by itself
        color_system="truecolor",
        legacy_windows=False,
        highlight=False,
    )
    console.print(drawn)
    text = console.export_text(clear=False, styles=False)
    return {"text/plain": text, "text/html": console.export_html(inline_styles=True, code_format=HTML)}


if in_notebook():
    warnings.filterwarnings("ignore", message=WIDGETS)
