import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # the hub's client reads it once, at its import
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # on shared cores, threads that spin made the tests seven times slower


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "inkfold-home"
    monkeypatch.setenv("INKFOLD_HOME", str(home))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("INKFOLD_WEIGHTS", raising=False)
    return home


@pytest.fixture
def write_weights() -> Callable[..., Path]:
    """Save a seeded timm model, classifier included, whose batch norms have seen noise."""

    def write(path: Path, name: str, seed: int = 0, **arguments: object) -> Path:
        from inkfold.models.torchvision_compat import declare_missing_operators

        declare_missing_operators()
        import timm
        import torch
        from safetensors.torch import save_file

        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            model = timm.create_model(name, **arguments)
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.momentum = None
            side_px = arguments.get("img_size", model.pretrained_cfg["input_size"][-1])
            model.train()(torch.randn(4, 3, side_px, side_px))
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            save_file(model.state_dict(), path)
        else:
            torch.save(model.state_dict(), path)
        return path

    return write
