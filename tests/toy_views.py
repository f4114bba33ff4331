"""Models of which is known what they know."""

import numpy as np

from inkfold.audit.views import View


def classifier(n=600, classes=12, wrong=30, seed=0, confused=()):
    """Probabilities of a good classifier, of which it knows the true classes; some labels are wrong."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % classes
    logits = rng.normal(0, 1, (n, classes))
    logits[np.arange(n), truth] += 5
    logits[np.arange(n), (truth + 1) % classes] += 1
    for first, second in confused:
        rows = np.isin(truth, (first, second))
        logits[rows, first] = logits[rows, second] = 6 + rng.normal(0, 1, rows.sum())
        logits[rows, second] += rng.normal(0, 0.5, rows.sum())
    labels = truth.copy()
    rows = rng.choice(n, wrong, replace=False)
    labels[rows] = (truth[rows] + 1) % classes  # which the logits find a little more probable than others
    probs = np.exp(logits)
    return (probs / probs.sum(1, keepdims=True)).astype(np.float32), labels, truth, set(rows.tolist())


def views_of(*probs):
    return [View(f"model {number}", one) for number, one in enumerate(probs)]
