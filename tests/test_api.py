import importlib
import inspect
import pkgutil

import pytest

import inkfold
from toy import python

HEAVY = ("numpy", "torch", "timm", "pydantic", "pyarrow", "cv2")


def test_importing_inkfold_loads_nothing_heavy():
    code = f"import sys, inkfold; print([name for name in {HEAVY} if name in sys.modules])"
    assert python(code) == "[]"


def test_reading_data_loads_neither_torch_nor_timm():
    code = "import sys, inkfold; inkfold.read_dataset; print('torch' in sys.modules, 'timm' in sys.modules)"
    assert python(code) == "False False"


@pytest.mark.parametrize("name", sorted(inkfold.__all__))
def test_public_names_are_there_and_documented(name):
    assert getattr(inkfold, name).__doc__


def test_public_names_are_the_modules_own():
    from inkfold.api.training import fit, train
    from inkfold.data.given import read_any_dataset
    from inkfold.ensemble.model import Ensemble, load_run
    from inkfold.errors import InkfoldError
    from inkfold.pipeline.run import Run

    assert inkfold.read_dataset is read_any_dataset
    assert inkfold.InkfoldError is InkfoldError
    assert inkfold.train is train
    assert inkfold.fit is fit
    assert inkfold.Ensemble is Ensemble
    assert inkfold.Run is Run
    assert inkfold.load_run is load_run


def test_a_package_that_has_a_public_functions_name_can_be_called_like_it():
    modules = {module.name for module in pkgutil.iter_modules(inkfold.__path__)}
    names = modules & set(inkfold.__all__)
    assert names == {"audit", "augment", "export", "fit", "report", "serve"}, "fit: test_old_names"
    for name in names - {"fit"}:
        package = importlib.import_module(f"inkfold.{name}")
        assert getattr(inkfold, name) is package
        function = package._function
        assert (function.__module__.rpartition(".")[0], function.__name__) == ("inkfold.api", name)
        assert inspect.signature(package) == inspect.signature(function)
    with pytest.raises(TypeError, match="audit"):
        inkfold.audit()


def test_only_public_names_are_listed():
    assert dir(inkfold) == sorted(inkfold.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        inkfold.trian  # noqa: B018
