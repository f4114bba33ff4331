"""`inkfold check DATA --html FILE`: what the check of a data set found, as one self-contained HTML file with pictures."""

from pathlib import Path
from typing import Any

from inkfold.audit.changed_pages import ChangedPages
from inkfold.audit.check import Checkup
from inkfold.errors import problem_lines
from inkfold.images.preprocess import ImageOptions
from inkfold.report.audit_section import DUPLICATE_TITLES, album_part, duplicate_view
from inkfold.report.html import render_page
from inkfold.report.local_paths import without_local_paths
from inkfold.report.thumbnails import SIDE_PX, Album, Picture
from inkfold.storage.outputs import write_output

MOST_GROUPS = 200
MOST_MEMBERS = 8
AS_IT_IS = ImageOptions(size_px=2 * SIDE_PX, resize="pad", paper="keep", colour="rgb", invert="never")
AS_READ = ImageOptions(size_px=2 * SIDE_PX, resize="crop_to_ink", paper="auto")
SHOWN_AS_PICTURES = ("leak", "conflicting_labels", "duplicate")  # kinds of problems


def write_check_page(out: Path, checkup: Checkup) -> None:
    """Write the page of a checked data set: counts, problems, and groups of duplicates with pictures.

    Args:
        out: The HTML file; replaced when it exists.
        checkup: What the check found; its first 200 groups of duplicates are shown, and some of the pages that reading changes.
    """
    groups = checkup.groups or ()
    members = [member for group in groups for member in group.members]
    files = {(album_part(member.part), member.image_path): member.file for member in members}
    album = Album(files, {}, ImageOptions(size_px=SIDE_PX))
    shown = [(group.kind, duplicate_view(group.as_json(), album, MOST_MEMBERS)) for group in groups[:MOST_GROUPS]]
    view = {
        "title": f"inkfold check {checkup.dataset.root}",
        "ok": checkup.ok,
        "can_skip": checkup.can_skip,
        "counts": [*checkup.lines.items()],
        "problems": problem_lines([one for one in checkup.problems if one.kind not in SHOWN_AS_PICTURES]),
        "kinds": [
            {
                "name": kind,
                "title": title,
                "count": sum(group.kind == kind for group in groups),
                "groups": [group for own_kind, group in shown if own_kind == kind],
            }
            for kind, title in DUPLICATE_TITLES.items()
        ],
        "total": len(groups),
        "most": MOST_GROUPS,
        "pages": checkup.pages,
    }
    view["examples"], embedded = _before_and_after(checkup.pages)
    view = without_local_paths(view, [Path(checkup.dataset.root).absolute(), out])
    write_output(out, render_page("check.html.j2", view, [*album.pictures.values(), *embedded]))


def _before_and_after(pages: ChangedPages | None) -> tuple[list[dict[str, Any]], list[Picture]]:
    """Show pages as their files have them and as they are read, where the two differ, and list the pictures of both."""
    examples = () if pages is None else pages.examples
    files = {(page.part, page.image_path): page.file for page in examples}
    before, after = Album(files, {}, AS_IT_IS, prefix="before"), Album(files, {}, AS_READ, prefix="after")
    shown: list[dict[str, Any]] = []
    for page in examples:
        pictures = [album.show(page.image_path, page.part) for album in (before, after)]
        if all(pictures):
            about = "photographed or scanned" if page.photographed else f"fills {page.fill:.0%} of its page"
            shown.append(
                {"before": pictures[0], "after": pictures[1], "name": f"{page.image_path} ({page.part})", "about": about}
            )
    return shown, [*before.pictures.values(), *after.pictures.values()]
