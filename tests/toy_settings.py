"""The toy recipe as a mapping of settings."""

SETTINGS = {
    "backbone": {"name": "test_resnet", "weights": "untrained", "device": "cpu", "precision": "float32", "batch_size": 16},
    "image": {"size": 32, "resize": "pad", "paper": "keep"},
    "folds": {"k": 3},
    "train_head": {"epochs": 5, "batch_size": 8, "lr": 1.0e-2, "precision": "float32", "scaling": "standardise"},
}
