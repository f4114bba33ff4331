import subprocess
import sys

from inkfold.models import torchvision_compat


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)


def test_operators_are_declared_exactly_where_torchvision_can_not_be_imported():
    plain = run("import torchvision")
    script = """
import sys
from inkfold.models.torchvision_compat import declare_missing_operators
print(declare_missing_operators(), "timm" in sys.modules, [name for name in sys.modules if name.startswith("torch._dynamo")])
"""
    told = run(script)
    assert told.stdout == f"{plain.returncode != 0} True []\n", told.stderr


def test_what_needs_timm_may_come_first_and_asking_twice_is_fine():
    script = """
from inkfold.finetune.mixup import Mixing
from inkfold.config.sections import FinetuneSettings
Mixing(FinetuneSettings(mixup=0.2), 3)
from inkfold.models.torchvision_compat import declare_missing_operators
answers = [declare_missing_operators(), declare_missing_operators()]
import timm
import torchvision
answers.append(declare_missing_operators())
assert len(set(answers)) == 1, answers
print(timm.is_model("test_resnet"), torchvision.__name__)
"""
    done = run(script)
    assert done.stdout == "True torchvision\n", done.stderr


def test_pytorchs_compiler_comes_when_it_is_needed_and_what_was_marked_before_is_not_compiled():
    script = """
import sys
import torch
from inkfold.models.torchvision_compat import _compiler_later
real = torch.compiler.disable
with _compiler_later():
    double = torch.compiler.disable(lambda x: 2 * x)
    triple = torch.compiler.disable(recursive=False)(lambda x: 3 * x)
    from torch._dynamo.utils import is_compile_supported
    stand_in = sys.modules["torch._dynamo.utils"]
    assert "torch._dynamo" not in sys.modules
    import torch._dynamo.exc
    from torch._dynamo import OptimizedModule, utils
assert utils is sys.modules["torch._dynamo.utils"] is not stand_in
assert torch.compiler.disable is real
assert stand_in.counters is utils.counters
assert [double(1), triple(1)] == [2, 3]
assert [is_compile_supported(device) for device in ("cpu", "meta")] == [torch._dynamo.is_dynamo_supported(), False]
assert isinstance(torch.compile(torch.nn.Identity(), backend="eager"), OptimizedModule)
for function in (double, triple):
    try:
        torch.compile(lambda x: function(x) + 1, backend="eager", fullgraph=True)(torch.ones(2))
    except torch._dynamo.exc.Unsupported:
        continue
    raise SystemExit("compiled what was marked")
print(not any("inkfold" in type(finder).__module__ for finder in sys.meta_path))
"""
    done = run(script)
    assert done.stdout == "True\n", done.stderr


def test_a_pytorch_without_its_own_mark_is_asked_for_the_documented_one(monkeypatch):
    disabled = []
    monkeypatch.delattr("torch._compile._disable_dynamo")
    monkeypatch.setattr("torch._dynamo.disable", lambda *arguments, **options: disabled.append((arguments, options)))
    torchvision_compat._disable(len, False, reason="why")
    assert disabled == [((len, False), {"reason": "why"})]


def test_an_import_that_fails_for_another_reason_is_not_hidden(monkeypatch):
    script = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            raise RuntimeError("the disk is on fire")
sys.meta_path.insert(0, Refuse())
from inkfold.models.torchvision_compat import declare_missing_operators
declare_missing_operators()
"""
    assert "RuntimeError: the disk is on fire" in run(script).stderr


def test_timm_can_be_had_from_inkfold_whatever_torchvision_is_installed():
    done = run("from inkfold.models import timm; import sys; print(timm is sys.modules['timm'], timm.__name__); import timm")
    assert done.stdout == "True timm\n", done.stderr
