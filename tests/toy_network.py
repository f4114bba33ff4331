import torch

from inkfold.heads.head import init_heads
from inkfold.models.backbone import build_model
from inkfold.models.layers import features_of
from inkfold.models.weights import BackboneSpec, resolve_backbone
from toy_heads import head_spec

CLASSES = 5


MLP = head_spec("mlp", (8,), norm="layer")


def info_of(name):
    return resolve_backbone(BackboneSpec(name=name, weights="untrained", image_size=32 if name != "test_vit" else None))


def images_for(info, n=4):
    return torch.randn(n, 3, info.image_size, info.image_size, generator=torch.Generator().manual_seed(0))


def heads_for(info, spec=MLP):
    width = features_of(build_model(info), images_for(info, 1), info.features).shape[1]
    return init_heads(spec, width, CLASSES, [(1, head) for head in range(2)])
