import base64
import hashlib
import re

import pytest

from inkfold.report.html import common_scale, duration, render_page, size
from inkfold.report.thumbnails import Picture

EMPTY = {
    "title": "<script>alert(1)</script> & Co",
    "runs": [],
    "answer": None,
    "metric": None,
    "has_test": False,
    "scale": (0, 1),
    "tests": [],
    "difference_scale": (-1, 1),
    "curves": None,
    "reliability": None,
    "pair": ("A", "B"),
    "classes": [],
    "won": [],
    "lost": [],
    "has_pictures": False,
    "keys": [],
    "notes": [],
}


def test_the_policy_runs_only_the_script_that_is_in_the_page():
    page = render_page("comparison.html.j2", EMPTY, [Picture("d0", "data:image/png;base64,AA==", grey=True)])
    [script] = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.replace("&#39;", "'")
    assert "default-src 'none'" in page.replace("&#39;", "'")
    assert page.count("data:image/png;base64,AA==") == 1


def test_what_comes_from_data_is_escaped():
    page = render_page("comparison.html.j2", EMPTY)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; Co" in page


def test_scales_are_round_and_contain_all_intervals():
    for intervals, scale in (
        ([(0.41, 0.47)], (0.40, 0.50)),
        ([(0.0, 1.0)], (0.0, 1.0)),
        ([], (0.0, 1.0)),
        ([(0.5, 0.5)], (0.45, 0.55)),
    ):
        assert common_scale(intervals) == pytest.approx(scale)


def test_durations_and_sizes_have_a_fitting_unit():
    assert [duration(seconds).replace("\u00a0", " ") for seconds in (5.25, 61, 7322)] == ["5.2 s", "1 min 1 s", "2 h 2 min"]
    assert [size(count).replace("\u00a0", " ") for count in (2**20 * 5, 2**30 * 3 // 2, None)] == ["5 MiB", "1.5 GiB", "–"]
