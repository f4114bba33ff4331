"""`inkfold audit RUN`: what is wrong with the data that a run learnt from, written beside the run as `audit.json`.

`audit.json` is plain JSON; paths and names are as the data have them.

    format              1
    data_fingerprint    the run's own; another one says that the file is another run's
    n                   {train, test, unusable}: drawings; those with too little ink to compare
    duplicates
      counts            groups {within, across, leak}, groups with `conflicts`, `drawings` in any group
      accuracy          the section `duplicates` of metrics.json, null where no copies would be parted
      groups            worst first: [{kind: within | across | leak, conflict, members, pairs}]
        members         [{part: train | val | test, image_path, class_name or null}]
        pairs           [{first, second (places in members), flip, turn_deg, transform (words), identical_bytes, similarity}]:
                        the second, mirrored left to right where `flip`, then turned anticlockwise by `turn_deg`, is the first
    labels              null where the run has no out-of-fold predictions
      n, accuracy       of the predictions that were used
      method            how doubtful labels are ranked and cut, in words
      doubtful          most doubtful first: [{image_path, given, suggested, score, suggested_probability}]; score is the
                        given label's probability, low is doubtful
      estimated_wrong_fraction    an upper bound on the share of wrong labels
      confused          pairs of classes that can't be told apart, the worst first: [{first, second, n, accuracy, accuracy_ci95,
                        first_as_second, second_as_first}]
      ceiling           {accuracy, lost_to_conflicts, lost_to_confused, assumption}
    next                what to do, in words
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inkfold.audit.label_issues import METHOD, estimate_wrong_fraction, find_confusions, find_doubts, lost_to_confusion
from inkfold.data.duplicate_groups import CopyGroup, count_groups, find_groups
from inkfold.data.fingerprints import SignatureStore
from inkfold.ensemble.model import first_run, load_run
from inkfold.errors import PredictionError
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.build import read_again
from inkfold.pipeline.manifest import AUDIT, MANIFEST
from inkfold.pipeline.prepare import ReadData
from inkfold.pipeline.results import OUT_OF_FOLD
from inkfold.pipeline.run import Run
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.cache import home
from inkfold.storage.files import write_json

FORMAT = 1
ASSUMPTION = (
    "of duplicates with different labels only the most frequent one is right, nothing tells the classes of a confused pair "
    "apart, so that only the more frequent one of them is ever answered, and test labels are like these"
)


def audit_run(path: str | Path, progress: Progress = silent) -> dict[str, Any]:
    """Find copies, doubtful labels and confused classes in a run's data, and write `audit.json` into its directory.

    Args:
        path: A finished run or ensemble.
        progress: Told how far each stage is.

    Returns:
        What was written.

    Raises:
        PredictionError: If it is no finished run, if none of an ensemble's members is a run, or if the data have changed.
        DataError: If the data can't be read any more.
    """
    path = Path(path)
    if not (path / MANIFEST).is_file():
        raise PredictionError(
            f"{path}: no {MANIFEST}, so this is no finished run. For a folder of drawings: inkfold check {path}"
        )
    run = load_run(path)
    own = first_run(run)
    read = read_again(own, Cost(), progress)
    groups, unusable = _find_groups(own, read, progress)
    out_of_fold = path / OUT_OF_FOLD
    labelled = len(read.dataset.train)
    labels = _judge_labels(Predictions.load(out_of_fold), groups, labelled) if out_of_fold.is_file() else None
    audit = {
        "format": FORMAT,
        "data_fingerprint": run.manifest["data_fingerprint"],
        "n": {
            "train": len(read.dataset.train),
            "test": 0 if read.dataset.test is None else len(read.dataset.test),
            "unusable": unusable,
        },
        "duplicates": {
            "counts": count_groups(groups),
            "accuracy": run.metrics.get("duplicates"),
            "groups": [group.as_json() for group in groups],
        },
        "labels": labels,
        "next": _next_steps(groups, labels, path),
    }
    write_json(path / AUDIT, audit)
    return audit


def _find_groups(own: Run, read: ReadData, progress: Progress) -> tuple[list[CopyGroup], int]:
    """Find copies in all drawings that can be read; tell how many of these have too little ink."""
    signatures = SignatureStore(home() / "signatures", own.recipe.image.pixel_limit)
    digests = []
    for source in (read.train, *(() if read.test is None else (read.test,))):
        names = source.digests.copy()
        rows = np.flatnonzero(names != b"")
        broken = signatures.build(source.files[rows].tolist(), names[rows], progress)
        names[rows[[one.index for one in broken]]] = b""
        digests.append(names)
    groups = find_groups(read.dataset, digests, signatures, progress)
    everything = np.concatenate(digests)
    return groups, signatures.count_blank(everything[everything != b""])


def _judge_labels(predictions: Predictions, groups: Sequence[CopyGroup], labelled: int) -> dict[str, Any]:
    """Judge the labels of drawings that were held out; copies with other labels are counted among all that are labelled."""
    probs, targets = predictions.probs, predictions.targets
    assert targets is not None
    names, paths = predictions.class_names, predictions.image_paths.tolist()
    confused = find_confusions(probs, targets)
    conflicts, pairs = _lost_to_conflicts(groups) / labelled, lost_to_confusion(confused, targets) / len(targets)
    return {
        "n": len(targets),
        "accuracy": float((predictions.preds == targets).mean()),
        "method": METHOD,
        "doubtful": [
            {
                "image_path": paths[doubt.row],
                "given": names[doubt.given],
                "suggested": names[doubt.suggested],
                "score": doubt.score,
                "suggested_probability": doubt.suggested_probability,
            }
            for doubt in find_doubts(probs, targets)
        ],
        "estimated_wrong_fraction": estimate_wrong_fraction(probs, targets),
        "confused": [one.as_json(names) for one in confused],
        "ceiling": {
            "accuracy": max(0.0, 1 - conflicts - pairs),
            "lost_to_conflicts": conflicts,
            "lost_to_confused": pairs,
            "assumption": ASSUMPTION,
        },
    }


def _lost_to_conflicts(groups: Sequence[CopyGroup]) -> int:
    """Count training drawings that have another label than most of their copies."""
    lost = 0
    for group in groups:
        labels = [member.class_name for member in group.members if member.part != "test"]
        lost += len(labels) - max((labels.count(label) for label in set(labels)), default=0)
    return lost


def _next_steps(groups: Sequence[CopyGroup], labels: dict[str, Any] | None, path: Path) -> list[str]:
    counts = count_groups(groups)
    steps = []
    if counts["leak"]:
        steps.append(
            f"remove {counts['leak']} drawing(s) that are both learnt from and measured on: duplicates.groups, kind leak"
        )
    if counts["conflicts"]:
        steps.append(f"settle the labels of {counts['conflicts']} drawing(s) that have copies of another class: conflict true")
    if labels and labels["doubtful"]:
        steps.append(f"look at {len(labels['doubtful'])} doubtful labels, the first ones first: labels.doubtful")
    if labels and labels["confused"]:
        steps.append(f"join or define {len(labels['confused'])} pair(s) of classes that nothing tells apart: labels.confused")
    if steps:
        steps.append(f"then train again: inkfold train {path / 'recipe.yaml'} out=NEW")
    return steps or ["nothing to mend was found"]
