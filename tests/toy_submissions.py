"""Contests of empty drawings with sample submissions, and what is decided about them."""

import numpy as np

from inkfold.config.sections import SubmissionSettings
from inkfold.data.dataset import DataOptions, read_dataset
from toy_tables import put

CLASSES = ("cat", "dog", "hot dog")


def contest(root, sample=None, name="sample_submission.csv", classes=CLASSES, tests=("a.png", "b.png", "c.png")):
    """Class folders, a test folder and a sample submission, as text or bytes."""
    put(root, *(f"train/{class_name}/{i}.png" for class_name in classes for i in range(2)))
    put(root, *(f"test/{test}" for test in tests))
    if sample is not None:
        (root / name).write_bytes(sample if isinstance(sample, bytes) else sample.encode())
    return root


def tables(root, sample=None, test="image_path\nb.png\na.png\nc.png\n", numbers=(3, 4, 7), classes=CLASSES):
    """A training table with class names and numbers, a test table and a sample submission."""
    contest(root, sample, classes=classes)
    rows = [f"{name}/{i}.png,{name},{number}" for name, number in zip(classes, numbers, strict=True) for i in range(2)]
    (root / "train.csv").write_text("image_path,class_name,target\n" + "\n".join(rows) + "\n")
    (root / "test.csv").write_text(test)
    return root


def decided(root, **settings):
    """The form, and the kinds of problems that say submission or sample."""
    dataset = read_dataset(root, DataOptions(submission=SubmissionSettings(**settings)), strict=False)
    return dataset.submission, [problem for problem in dataset.problems if problem.kind != "target_gaps"]


def filled(root, out, encoding="utf-8", **settings):
    """The submission's text, where the first test drawing is most probably of the first class, and so on round."""
    dataset = read_dataset(root, DataOptions(submission=SubmissionSettings(**settings)))
    n, classes = len(dataset.test), len(dataset.class_names)
    probs = np.full((n, classes), 0.25 / classes, np.float32)
    probs[np.arange(n), np.arange(n) % classes] += 0.5
    probs[np.arange(n), (np.arange(n) + 1) % classes] += 0.25
    row_of = {path: row for row, path in enumerate(dataset.test.image_paths.tolist())}
    rows = np.array([row_of[path] for path in dataset.submission.image_paths])
    dataset.submission.write(out, rows, probs, dataset.class_names)
    return out.read_bytes().decode(encoding)
