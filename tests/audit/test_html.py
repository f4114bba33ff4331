import re

from PIL import Image

from inkfold.audit.html import MOST_GROUPS, write_gallery
from inkfold.data.duplicate_groups import CopyGroup, DuplicateImage
from inkfold.data.duplicates import Match
from inkfold.errors import Problem

NASTY = "<img src=x onerror=alert(1)>\"'&"


def group(tmp_path, part="train", name="a.png"):
    file = tmp_path / "a.png"
    Image.new("L", (300, 200), 255).save(file)
    return CopyGroup(
        (DuplicateImage("train", name, NASTY, str(file)), DuplicateImage(part, "b.png", "cat", str(tmp_path / "gone.png"))),
        (Match(0, 1, 0.999, True, 0.0),),
    )


def written(tmp_path, groups, problems=()):
    write_gallery(tmp_path / "page.html", f"check {NASTY}", [("n_train", "3"), (NASTY, NASTY)], problems, groups)
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_names_are_escaped_wherever_they_stand(tmp_path):
    page = written(tmp_path, [group(tmp_path, name=NASTY)], [Problem("missing_file", NASTY, NASTY)])
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;&quot;&#x27;&amp;") == 9


def test_nothing_outside_is_asked_for(tmp_path):
    page = written(tmp_path, [group(tmp_path)])
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert not re.search(r"https?:|<script|@import|url\(", page)
    assert page.count("data:image/png;base64,") == 1
    assert 'src="data:,"' in page  # a file that has gone since


def test_kinds_stand_apart_and_the_warnings_of_groups_are_pictures_only(tmp_path):
    page = written(tmp_path, [group(tmp_path, "test"), group(tmp_path)], [Problem("duplicate", "x", "told of", "warning")])
    assert page.index("Learnt from and measured on") < page.index("different labels")
    assert "told of" not in page
    assert "mirrored; similarity 0.999" in page


def test_only_so_many_groups_are_drawn_and_that_is_said(tmp_path):
    page = written(tmp_path, [group(tmp_path)] * (MOST_GROUPS + 1))
    assert page.count("<section>") == MOST_GROUPS
    assert f"The first {MOST_GROUPS} of {MOST_GROUPS + 1} groups" in page
