"""The look at this machine: every check reports, whatever is broken."""

import json
from importlib import import_module

import pytest

from inkfold.cli.main import main
from inkfold.doctor import checks
from inkfold.doctor.checks import Finding, run_checks
from inkfold.doctor.limits import container_memory, container_processors, machine_memory


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No other interpreter imports timm, and the disk gets little to write."""
    monkeypatch.setattr(checks, "_import_error", lambda code: None)
    monkeypatch.setattr(checks, "WRITTEN_BYTES", 1 << 16)


def states():
    return {finding.name: finding.state for finding in run_checks()}


def test_this_machine_can_be_used_and_the_exit_code_says_so(capsys):
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"inkfold", "versions", "packages", "[train]", "device", "weights", "cache", "disk"} <= {
        one["name"] for one in found
    }
    assert not [one for one in found if one["state"] == "broken"]


def test_a_package_that_can_not_be_imported_is_named_with_what_to_do(monkeypatch, capsys):
    def refuse(name):
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file")
        return import_module(name)

    monkeypatch.setattr(checks, "import_module", refuse)
    assert main(["doctor"]) == 1
    [line, advice] = [line for line in capsys.readouterr().out.splitlines() if "cv2" in line or "opencv" in line]
    assert "libGL.so.1" in line
    assert line.startswith("X ")
    assert "--force-reinstall --no-deps opencv-python-headless" in advice


def test_a_part_that_is_missing_is_named_with_its_line_and_nothing_is_broken(monkeypatch):
    found = checks.find_spec
    hidden = {"torch", "torchvision", "timm", "peft"}
    monkeypatch.setattr(checks, "find_spec", lambda name: None if name in hidden else found(name))
    findings = {finding.name: finding for finding in run_checks()}
    assert "pip install 'inkfold[train]'" in findings["[train]"].text + findings["[train]"].advice
    assert "pip install 'inkfold[lora]'" in findings["[lora]"].text + findings["[lora]"].advice
    assert not [finding for finding in findings.values() if finding.state == "broken"]


def test_a_check_that_breaks_is_reported_and_the_others_go_on(monkeypatch):
    def _machine():
        raise RuntimeError("no such file: /proc/meminfo")

    monkeypatch.setattr(checks, "CHECKS", (_machine, *checks.CHECKS))
    first, *others = run_checks()
    assert first == Finding("machine", "this check broke: RuntimeError: no such file: /proc/meminfo", "note")
    assert len(others) > 8


@pytest.mark.parametrize(
    ("errors", "state", "words"),
    [
        ([None], "ok", "works by itself"),
        (["RuntimeError: operator torchvision::nms does not exist", None], "note", "within inkfold it works"),
        (["ImportError: x", "ImportError: x"], "broken", "nothing can be trained"),
        ([checks.TOO_LONG], "slow", "the machine is busy"),
    ],
)
def test_timm_is_imported_alone_and_as_inkfold_does(monkeypatch, errors, state, words):
    given = iter(errors)
    monkeypatch.setattr(checks, "_import_error", lambda code: next(given))
    [finding] = checks._timm()
    assert finding.state == state
    assert words in finding.text


def test_limits_of_containers_are_read(tmp_path):
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text("1073741824\n")
    assert container_processors(tmp_path) == pytest.approx(1.5)
    assert container_memory(tmp_path) == 1 << 30
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert container_processors(tmp_path) is None
    assert container_memory(tmp_path) is None
    assert machine_memory(tmp_path / "none") is None
