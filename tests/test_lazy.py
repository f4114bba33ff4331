import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

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


def test_every_name_of_every_face_is_there_and_no_module_hides_it():
    packages = sorted(path.parent.name for path in Path(inkfold.__file__).parent.glob("*/__init__.py"))
    for package in packages:
        face = import_module(f"inkfold.{package}")
        modules = {module.name for module in iter_modules(face.__path__)}
        names = dir(face) if "__dir__" in vars(face) else getattr(face, "__all__", ())
        assert not modules & {*names}, (package, "a function and a module of one name: whichever was imported last is found")
        for name in names:
            getattr(face, name)
