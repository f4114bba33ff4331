"""What `inkfold check` found, as one HTML file with pictures: nothing outside it is needed, and every name is escaped."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from inkfold.data.duplicate_groups import CopyGroup, DuplicateImage, in_words
from inkfold.errors import Problem, problem_lines
from inkfold.images.decode import BrokenImage, decode_image
from inkfold.storage.files import write_text

MOST_GROUPS = 200
MOST_MEMBERS = 8
THUMBNAIL_PX = 128
TITLES = {
    "leak": "Learnt from and measured on",
    "across": "One drawing, different labels",
    "within": "One drawing, one label",
}
STYLE = """
:root { color-scheme: light dark; --line: #8885; --quiet: #666 }
@media (prefers-color-scheme: dark) { :root { --quiet: #aaa } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 1rem }
h2 { margin-top: 2rem } dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem } dd { margin: 0 }
dt, small, figcaption { color: var(--quiet) }
section { border-top: 1px solid var(--line); padding: .75rem 0; break-inside: avoid }
div { display: flex; flex-wrap: wrap; gap: 1rem }
figure { margin: 0; width: 9rem } figcaption { font-size: .8rem; overflow-wrap: anywhere }
img { background: #fff; border: 1px solid var(--line); width: 8rem; height: 8rem; object-fit: contain }
li { overflow-wrap: anywhere }
"""


def write_gallery(
    path: Path, title: str, figures: Sequence[tuple[str, str]], problems: Sequence[Problem], groups: Sequence[CopyGroup]
) -> None:
    """Write the page.

    Args:
        path: Replaced when it exists.
        title: Its heading.
        figures: Name and value of each count.
        problems: All of them; those of copies are shown as pictures instead.
        groups: Of copies, the first 200 of which are shown.
    """
    shown = problem_lines([one for one in problems if one.kind not in _OF_GROUPS])
    parts = [f"<h1>{_text(title)}</h1>", "<dl>"]
    parts += [f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in figures]
    parts += [
        "</dl>",
        "<h2>Problems</h2><ul>" if shown else "",
        *(f"<li>{_text(line)}</li>" for line in shown),
        "</ul>" if shown else "",
    ]
    for kind, heading in TITLES.items():
        of_kind = [group for group in groups[:MOST_GROUPS] if group.kind == kind]
        if of_kind:
            parts += [f"<h2>{heading} ({sum(group.kind == kind for group in groups)})</h2>", *map(_section, of_kind)]
    if len(groups) > MOST_GROUPS:
        parts.append(f"<p>The first {MOST_GROUPS} of {len(groups)} groups are shown; <code>--json</code> lists all.</p>")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{_text(title)}</title>'
    write_text(
        path, f'<!doctype html><html lang="en"><head>{head}<style>{STYLE}</style></head><body>{"".join(parts)}</body></html>'
    )


_OF_GROUPS = ("leak", "conflicting_labels", "duplicate")


def _section(group: CopyGroup) -> str:
    figures = [_figure(member) for member in group.members[:MOST_MEMBERS]]
    rest = len(group.members) - MOST_MEMBERS
    said = "; ".join(in_words(match) for match in group.matches[: MOST_MEMBERS - 1])
    said += f" and {rest} more" if rest > 0 else ""
    heading = f"<small>{_text(said)}; similarity {group.similarity:.3f}</small>"
    return f"<section>{heading}<div>{''.join(figures)}</div></section>"


def _figure(member: DuplicateImage) -> str:
    label = "" if member.class_name is None else f"<strong>{_text(member.class_name)}</strong><br>"
    name = _text(f"{member.part} {member.image_path}")
    return f'<figure><img alt="{name}" src="{_thumbnail(member.file)}"><figcaption>{label}{name}</figcaption></figure>'


def _thumbnail(file: str) -> str:
    """Give a small PNG as a data address; an empty one where the file has gone since."""
    try:
        image = Image.fromarray(decode_image(Path(file).read_bytes(), min_side_px=THUMBNAIL_PX))
    except (BrokenImage, OSError):
        return "data:,"
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


def _text(text: str) -> str:
    return html.escape(text, quote=True)
