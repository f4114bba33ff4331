import subprocess
import sys

import numpy as np
import pytest

from inkfold.export.graph import Graph
from toy_onnx import run_graph


def test_equal_constants_are_kept_once():
    g = Graph()
    assert g.const(np.ones(3, np.float32)) == g.const([1, 1, 1], np.float32)
    assert g.const(np.ones(3, np.float32)) != g.const(np.ones(3, np.float64))
    assert g.const(0.0, np.float32) != g.const([0.0], np.float32), "a number and a list of one are different"
    assert len(g.constants) == 4


@pytest.mark.parametrize(("given", "expected"), [(True, 6.0), (False, 5.0)])
def test_a_branch_sees_the_values_around_it(given, expected):
    g = Graph()
    yes, no = g.branch(), g.branch()
    doubled = yes.op("Mul", "x", yes.const(2.0, np.float32))
    both = g.choose("take", yes, no, (doubled, no.op("Add", "x", no.const(2.0, np.float32))))
    assert run_graph(g, {"x": np.float32([3.0]), "take": np.array(given)}, both) == [expected]


def test_a_branch_may_give_out_what_it_has_only_seen():
    g = Graph()
    yes, no = g.branch(), g.branch()
    result = g.choose("take", yes, no, ("x", no.op("Neg", "x")))
    assert run_graph(g, {"x": np.float32([3.0]), "take": np.array(True)}, result) == [3.0]


def test_a_model_can_be_put_in_twice():
    inner = Graph()
    inner.call(inner.op("Add", "x", inner.const(1.0, np.float32)), "y")
    model = inner.model({"x": (np.float32, ["n"])}, {"y": ["n"]}, {})
    g = Graph()
    (once,) = g.inline(model, {"x": "x"})
    (twice,) = g.inline(model, {"x": once})
    assert run_graph(g, {"x": np.float32([3.0])}, twice) == [5.0]


def test_without_onnx_it_says_what_to_install():
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "try:\n    import inkfold.export.graph\nexcept Exception as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'inkfold[export]'" in done.stdout
