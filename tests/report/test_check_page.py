import base64
import io
import re

import numpy as np
from PIL import Image

from inkfold.audit.changed_pages import ChangedPage, ChangedPages
from inkfold.audit.check import Checkup
from inkfold.data.dataset import read_dataset
from inkfold.data.duplicate_groups import CopyGroup, DuplicateImage
from inkfold.data.duplicates import Match
from inkfold.errors import Problem
from inkfold.report.check_page import MOST_GROUPS, write_check_page
from toy import toy_data

NASTY = "<img src=x onerror=alert(1)>\"'&"
ESCAPED = "&lt;img src=x onerror=alert(1)&gt;&#34;&#39;&amp;"


def group(tmp_path, part="train", name="a.png"):
    file = tmp_path / "a.png"
    Image.new("L", (300, 200), 255).save(file)
    return CopyGroup(
        (DuplicateImage("train", name, NASTY, str(file)), DuplicateImage(part, "b.png", "cat", str(tmp_path / "gone.png"))),
        (Match(0, 1, 0.999, True, 0.0),),
    )


def written(tmp_path, groups, problems=(), pages=None):
    dataset = read_dataset(toy_data(tmp_path / "data"))
    counts = {"n_train": 3, NASTY: NASTY}
    write_check_page(tmp_path / "page.html", Checkup(dataset, tuple(problems), counts, tuple(groups), pages))
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_names_are_escaped_wherever_they_stand(tmp_path):
    page = written(tmp_path, [group(tmp_path, name=NASTY)], [Problem("missing_file", NASTY, NASTY)])
    assert "<img" not in page
    assert page.count(ESCAPED) >= 8  # in a count, the problem, and the pictures' texts


def test_nothing_outside_is_loaded_and_a_missing_file_has_no_picture(tmp_path):
    page = written(tmp_path, [group(tmp_path)])
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert not re.search(r"https?:|@import|url\(", page)
    assert page.count("<script") == 1
    assert page.count("data:image/png;base64,") == 1
    assert "cat: b.png (train)" in page


def test_each_kind_has_its_section_and_groups_replace_their_warnings(tmp_path):
    page = written(tmp_path, [group(tmp_path, "test"), group(tmp_path)], [Problem("duplicate", "x", "a warning", "warning")])
    assert page.index("Trained on and evaluated on (1)") < page.index("One drawing, different labels (1)")
    assert "a warning" not in page
    assert "mirrored; similarity 0.999" in page


def test_the_page_is_bounded_and_says_so(tmp_path):
    page = written(tmp_path, [group(tmp_path)] * (MOST_GROUPS + 1))
    assert page.count('<div class="card">') == MOST_GROUPS
    assert f"The first {MOST_GROUPS} of {MOST_GROUPS + 1} groups" in page


def test_pages_that_reading_changes_are_shown_before_and_after(tmp_path):
    small = np.full((400, 400), 255, np.uint8)
    small[20:100, 20:24] = 0
    Image.fromarray(small).save(tmp_path / "small.png")
    shown = ChangedPage("train", NASTY, str(tmp_path / "small.png"), photographed=False, fill=0.2)
    gone = ChangedPage("test", "gone.png", str(tmp_path / "gone.png"), photographed=True, fill=1.0)
    page = written(tmp_path, [], pages=ChangedPages(1200, 7, 1, (shown, gone)))
    assert "Of 1,200 drawings 7 are photographed or scanned, and 1 others" in page
    assert f"fills 20% of its page: {ESCAPED} (train)" in page
    assert "gone.png" not in page
    pictures = [base64.b64decode(text) for text in re.findall(r'href="data:image/\w+;base64,([^"]+)"', page)]
    before, after = (np.asarray(Image.open(io.BytesIO(data)).convert("L")) for data in pictures)
    assert (before < 128).any(1).sum() < 0.25 * len(before)
    assert (after < 128).any(1).sum() > 0.85 * len(after)


def test_without_changed_pages_there_is_no_section_about_them(tmp_path):
    assert 'id="pages"' not in written(tmp_path, [], pages=ChangedPages(3, 0, 0, ()))
