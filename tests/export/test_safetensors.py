import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from inkfold.export.export import export_safetensors
from inkfold.export.verify import in_float32
from inkfold.models.torchvision_compat import declare_missing_operators
from inkfold.pipeline.train import train
from toy import RECIPE, toy_data, toy_recipe

TUNED = RECIPE.replace("batch_size: 16}", "batch_size: 16, train: last_blocks}") + "finetune: {epochs: 1, batch_size: 9}\n"


def load_network(path, number=""):
    """As docs/export.md has it: a linear head on standardised features."""
    declare_missing_operators()
    import timm

    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["network"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    backbone = timm.create_model(**about["timm"], num_classes=0).eval()
    prefix = f"backbone{number}."
    backbone.load_state_dict({name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)})
    mean, std = (torch.tensor(about[name]).view(3, 1, 1) for name in ("mean", "std"))

    def predict(images):  # float, 0..1, (n, 3, size, size)
        x = (backbone((images - mean) / std) - tensors["heads.mean"]) * tensors["heads.scale"]
        return (x @ tensors["heads.layers.0.weight"] + tensors["heads.layers.0.bias"]).softmax(-1)

    return predict


@pytest.mark.parametrize("tuned", [False, True])
def test_a_few_lines_of_pytorch_answer_as_the_run_does(tuned, tmp_path):
    recipe = toy_recipe(tmp_path, TUNED if tuned else RECIPE)
    run = train(recipe, data=toy_data(tmp_path / "data"), out=tmp_path / "run")
    export_safetensors(run.path, tmp_path / "network.safetensors")
    squares = np.random.default_rng(0).integers(100, 256, (5, 32, 32, 3), np.uint8)
    images = torch.from_numpy(squares).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        if tuned:
            given = [load_network(tmp_path / "network.safetensors", fold)(images)[fold].numpy() for fold in range(3)]
        else:
            given = load_network(tmp_path / "network.safetensors")(images).numpy()
    np.testing.assert_allclose(given, in_float32(run).predict_fold_proba([*squares]), atol=2e-3)
