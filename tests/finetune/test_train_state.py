import copy

import torch

from inkfold.config.sections import FinetuneSettings
from inkfold.finetune.network import HeadModule, Network
from inkfold.finetune.train_state import synchronised
from toy_network import MLP, heads_for, images_for, info_of


def test_batch_norms_that_agree_between_processes_keep_the_activations_that_timm_puts_into_them():
    info = info_of("test_efficientnet")
    network = Network(info, HeadModule(MLP, heads_for(info)), FinetuneSettings(part="all")).eval()
    converted = synchronised(copy.deepcopy(network)).eval()
    assert any(isinstance(module, torch.nn.SyncBatchNorm) for module in converted.modules())
    with torch.no_grad():
        torch.testing.assert_close(converted(images_for(info)), network(images_for(info)))
