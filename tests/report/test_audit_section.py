import pytest

from inkfold.data.dataset import DataOptions
from inkfold.errors import PredictionError
from inkfold.pipeline.run_files import RunFiles
from inkfold.report.audit_section import GROUPS_PER_KIND, audit_view, weakness_view
from inkfold.report.thumbnails import open_album
from inkfold.storage.files import write_json
from toy import toy_data
from toy_runs import audit, weakness


def run_with(folder, **added):
    """A run that has nothing but the named files."""
    for name, content in {"metrics": {}, **added}.items():
        write_json(folder / f"{name}.json", content)
    return RunFiles(folder, {"data_fingerprint": "f00d", "files": {}})


def test_weaknesses_come_after_the_clean_row_the_greatest_drop_first(tmp_path):
    view = weakness_view(run_with(tmp_path / "run", weakness=weakness()))
    assert [row["name"] for row in view["rows"]] == ["unchanged", "upside down", "thin lines", "mirrored"]
    assert view["scale"][0] <= 0.15
    assert view["scale"][1] >= 0.65
    assert weakness_view(run_with(tmp_path / "bare")) is None


def test_duplicates_and_doubtful_labels_have_their_pictures_and_bounded_numbers(tmp_path):
    data = toy_data(tmp_path / "data")
    paths = sorted(path.relative_to(data / "train").as_posix() for path in (data / "train").rglob("*.png"))
    found = audit(paths[:3], ("apple", "fish"))
    found["duplicates"]["groups"] *= GROUPS_PER_KIND + 5
    view = audit_view(run_with(tmp_path / "run", audit=found), open_album(DataOptions(), data, "pad", "auto"))
    assert len(view["groups"]) == GROUPS_PER_KIND
    assert view["more_groups"] == 5
    assert len(view["groups"][0]["pictures"]) == 2
    assert view["groups"][0]["transforms"] == "turned by 90 degrees"
    [doubtful] = view["labels"]["doubtful"]
    assert doubtful["picture"] is not None
    assert len(doubtful["suggested_samples"]) == 3
    assert view["labels"]["sentences"]["ceiling"] == "Accuracy is bounded by 97.0% under this premise: labels stay so."


def test_an_audit_of_an_earlier_format_is_refused_with_the_command_that_writes_it_anew(tmp_path):
    earlier = {**audit(["a", "b", "c"], ("apple", "fish")), "format": 1}
    with pytest.raises(PredictionError, match=r"its format is 1, expected 2.*inkfold audit"):
        audit_view(run_with(tmp_path, audit=earlier), None)


def test_another_form_is_an_error_that_names_the_file(tmp_path):
    for name, show in (("audit", lambda run: audit_view(run, None)), ("weakness", weakness_view)):
        for broken in ({}, {"rows": 3, "clean": []}, {"duplicates": {"counts": 1}, "labels": None}):
            with pytest.raises(PredictionError, match=rf"{name}\.json: not what this version.*: inkfold {name} .*; or remove"):
                show(run_with(tmp_path, **{name: broken}))
