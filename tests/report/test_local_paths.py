from pathlib import Path

import pytest
from markupsafe import Markup

from inkfold.report.doubts import Doubt
from inkfold.report.local_paths import without_local_paths
from inkfold.report.thumbnails import Picture

HERE = Path("/srv/people/ann/project")
PLACES = [Path("/srv/data/qd"), HERE / "runs" / "best", Path("/data")]


@pytest.mark.parametrize(
    ("text", "shorter"),
    [
        ("inkfold audit /srv/people/ann/project/runs/best", "inkfold audit runs/best"),
        ("out=/srv/people/ann/project/runs/best-tta", "out=runs/best-tta"),
        ("/srv/data/qd", "qd"),
        ("'/srv/data/qd/a b.png', /srv/data/qd60/x", "'qd/a b.png', qd60/x"),
        ("data=/data", "data=data"),
        (f"weights {Path.home()}/w.safetensors", "weights ~/w.safetensors"),
        ("runs/srv/data/qd", "runs/srv/data/qd"),  # no absolute path
        ("https://example.org/data/qd", "https://example.org/data/qd"),
        ("/database", "/database"),
        ("half/data", "half/data"),
    ],
)
def test_paths_of_this_machine_become_what_is_of_use_elsewhere(text, shorter):
    assert without_local_paths(text, PLACES, HERE) == shorter


def test_texts_of_any_depth_are_changed_and_pictures_and_markup_stay():
    picture, plot = Picture("/data", "data:/data", grey=True), Markup("<svg>/data</svg>")
    view = {"a": [("/data", 1.5, None)], "b": Doubt("of /data", ("/data",)), "c": picture, "d": plot}
    changed = without_local_paths(view, PLACES, HERE)
    assert changed == {"a": [("data", 1.5, None)], "b": Doubt("of data", ("data",)), "c": picture, "d": plot}
    assert isinstance(changed["d"], Markup)
