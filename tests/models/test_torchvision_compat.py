import subprocess
import sys


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)


def test_operators_are_declared_exactly_where_torchvision_can_not_be_imported():
    plain = run("import torchvision")
    told = run("from inkfold.models.torchvision_compat import declare_missing_operators as d; print(d())")
    assert told.stdout == ("False\n" if plain.returncode == 0 else "True\n"), told.stderr


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
