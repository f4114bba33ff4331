import subprocess
import sys

import pytest

import inkfold.features
from inkfold.lazy import lazy_names


def test_a_name_is_imported_when_it_is_first_used():
    load, names = lazy_names("inkfold.runtime", {"silent": "progress", "quiet": "progress:silent"})
    from inkfold.runtime.progress import silent

    assert load("silent") is load("quiet") is silent
    assert names() == ["quiet", "silent"]


def test_a_name_that_a_package_does_not_have_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'inkfold\.features' has no attribute 'Extracter'"):
        _ = inkfold.features.Extracter


def test_the_packages_faces_need_no_pytorch():
    packages = (
        "inkfold.features, inkfold.heads, inkfold.finetune, inkfold.pipeline, inkfold.ensemble, inkfold.search, inkfold.export"
    )
    code = f"import sys, {packages}; print([name for name in ('torch', 'timm', 'cv2') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_of_every_face_is_there():
    for package in ("features", "heads", "finetune"):
        face = __import__(f"inkfold.{package}", fromlist=["_"])
        for name in dir(face):
            assert getattr(face, name).__name__ == name, (package, name)
