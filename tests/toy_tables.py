"""Toy data sets of empty files, and how the tests name what reading them says."""

import pytest

from inkfold.data.dataset import DataOptions, read_dataset
from inkfold.errors import DataError

TRAIN = "class_name,image_path,target\ncat,cat/1.png,0\ndog,dog/1.png,1\ncat,cat/2.png,0\n"


def put(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def competition(root, train=TRAIN, test="image_path\nb.png\na.png\n", sample=None):
    put(root, "train/cat/1.png", "train/cat/2.png", "train/dog/1.png", "test/a.png", "test/b.png")
    (root / "train.csv").write_text(train)
    if test is not None:
        (root / "test.csv").write_text(test)
    if sample is not None:
        (root / "sample_submission.csv").write_text(sample)
    return root


def kinds(problems):
    return [problem.kind for problem in problems]


def errors(root, **options):
    """The problems that are raised, which must be the ones that a lenient reading keeps."""
    with pytest.raises(DataError) as caught:
        read_dataset(root, DataOptions(**options))
    kept = read_dataset(root, DataOptions(**options), strict=False)
    assert kept.problems == caught.value.problems
    assert all(file for file in kept.train.files)
    return kinds(caught.value.problems)


def warnings(root, **options):
    return kinds(read_dataset(root, DataOptions(**options)).problems)
