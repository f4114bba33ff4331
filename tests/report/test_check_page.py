import re

from PIL import Image

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


def written(tmp_path, groups, problems=()):
    dataset = read_dataset(toy_data(tmp_path / "data"))
    write_check_page(tmp_path / "page.html", Checkup(dataset, tuple(problems), {"n_train": 3, NASTY: NASTY}, tuple(groups)))
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
