"""`inkfold audit RUN`: finds duplicates, label errors and confused classes in a run's data, and writes `audit.json`.

`audit.json` is plain JSON; paths and names are as the data have them.

    format              2
    data_fingerprint    fingerprint of the run's data; a report ignores the file if it differs from the run's
    n                   {train, test, unusable}: numbers of drawings; unusable ones have too little ink to compare
    blank               drawings without ink: [{part: train | val | test, image_path, class_name or null}]
    duplicates
      counts            groups {within, across, leak}, groups with `conflicts`, `drawings` in any group
      accuracy          the section `duplicates` of metrics.json, null where no copies would be split apart
      groups            worst first: [{kind: within | across | leak, conflict, members, pairs}]
        members         [{part: train | val | test, image_path, class_name or null}]
        pairs           [{first, second (places in members), flip, turn_deg, transform (words), identical_bytes, similarity}]:
                        the second, mirrored left to right where `flip`, then turned anticlockwise by `turn_deg`, is the first
    labels              null where the run has no out-of-fold predictions
      n, accuracy       of the out-of-fold predictions
      models            what was asked about each label, out of fold: [{name, accuracy, asked}]; too weak ones are not asked
      notes             sentences on backbones that were not used, and why
      method            how doubtful labels are ranked and cut, in words
      doubtful          most doubtful first: [{image_path, given, suggested, score, suggested_probability, doubt}]; score is the
                        pooled probability of the label's class, doubt the estimated probability that the label is wrong
      doubts            {expected_wrong, expected_wrong_ci95, found_fraction}: share of the list that is wrong (null where it is
                        empty), and share of planted wrong labels that it would hold
      estimated_wrong_fraction    estimated share of all labels that are wrong
      confused          pairs of classes that no model separates, the worst first: [{first, second, n, best_model, accuracy,
                        accuracy_ci95, could_be, first_as_second, second_as_first}]
      ceiling           {accuracy, lost_to_conflicts, lost_to_confused, premise}
    corrections         {file, dropped, relabelled, kept} of the table that the data were read with; null without one
    cost                {forwards, forwards_cached, decoded, seconds}
    next                advice in words
"""

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inkfold.audit.label_views import gather_views
from inkfold.audit.labels import audit_labels
from inkfold.data.duplicate_groups import CopyGroup, DuplicateImage, count_groups, find_groups, list_drawings
from inkfold.data.lines import CopyStores
from inkfold.ensemble.model import first_run, load_run
from inkfold.errors import PredictionError
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.build import read_again
from inkfold.pipeline.manifest import AUDIT, AUDIT_FORMAT, MANIFEST
from inkfold.pipeline.prepare import ReadData
from inkfold.pipeline.run import Run
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.cache import home
from inkfold.storage.outputs import check_added_file
from inkfold.storage.pixels import PageStore, build_rows
from inkfold.storage.sealed import write_sealed
from inkfold.storage.statistics import StatisticsStore

log = logging.getLogger("inkfold.audit")


def audit_run(path: str | Path, progress: Progress = silent) -> dict[str, Any]:
    """Find duplicates, doubtful labels and confused classes in a run's data, and write `audit.json` into its directory.

    Args:
        path: Directory of a finished run or ensemble.
        progress: Called with the progress of each stage.

    Returns:
        The content of `audit.json`.

    Raises:
        PredictionError: If it is not a finished run, if no member of an ensemble is a run, or if the data have changed.
        DataError: If the data can't be read any more.
        ExportError: If `audit.json` can't be written there.
    """
    path = Path(path)
    if not (path / MANIFEST).is_file():
        raise PredictionError(
            f"{path}: no {MANIFEST}, so this is no finished run. For a folder of drawings: inkfold check {path}"
        )
    run = load_run(path)
    check_added_file(path / AUDIT)  # before the work, not after it
    member = first_run(run)
    cost = Cost()
    read = read_again(member, cost, progress)
    drawn = _look_at_drawings(member, read, progress)
    labels = _audit_labels(member, run.files.out_of_fold_by_heads, read, drawn, cost, progress)
    audit = {
        "format": AUDIT_FORMAT,
        "data_fingerprint": run.manifest["data_fingerprint"],
        "n": {
            "train": len(read.dataset.train),
            "test": 0 if read.dataset.test is None else len(read.dataset.test),
            "unusable": drawn.unusable,
        },
        **drawn.as_json(run.metrics.get("duplicates")),
        "labels": labels,
        "corrections": None if read.dataset.corrected is None else read.dataset.corrected.as_json(),
        "cost": cost.as_json(),
        "next": _next_steps(len(drawn.blank), drawn.groups, labels, path),
    }
    write_sealed(path / AUDIT, audit)
    doubtful = "no out-of-fold predictions" if labels is None else f"{len(labels['doubtful'])} doubtful labels"
    log.info(
        "%s: %d groups of duplicates, %s; %d drawings with too little ink, %d of them blank",
        *(path / AUDIT, len(drawn.groups), doubtful, drawn.unusable, len(drawn.blank)),
    )
    return audit


@dataclass(frozen=True, slots=True)
class _Findings:
    """What the drawings themselves show: duplicates, the number with too little ink to compare, and the blank ones."""

    groups: list[CopyGroup]
    unusable: int
    blank: list[DuplicateImage]

    def as_json(self, optimism: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the blank drawings and the duplicates as JSON values, with how optimistic folds are that split these apart."""
        return {
            "blank": [
                {"part": drawing.part, "image_path": drawing.image_path, "class_name": drawing.class_name}
                for drawing in self.blank
            ],
            "duplicates": {
                "counts": count_groups(self.groups),
                "accuracy": optimism,
                "groups": [group.as_json() for group in self.groups],
            },
        }


def _audit_labels(
    member: Run, out_of_fold: Predictions | None, read: ReadData, drawn: _Findings, cost: Cost, progress: Progress
) -> dict[str, Any] | None:
    """Audit the labels by held-out predictions; None where there are none, or their folds aren't known."""
    if out_of_fold is None or out_of_fold.targets is None or out_of_fold.folds is None:
        return None
    views = gather_views(member, out_of_fold, read, drawn.groups, cost, progress)
    corrected = read.dataset.corrected
    blank_names = {drawing.image_path for drawing in drawn.blank if drawing.part != "test"}
    settled = {*blank_names, *(() if corrected is None else corrected.settled)}
    return audit_labels(out_of_fold, views, drawn.groups, len(read.dataset.train), settled)


def _look_at_drawings(run: Run, read: ReadData, progress: Progress) -> _Findings:
    """Find duplicates and blank pages among all readable drawings; a file that no cache knows is decoded once."""
    limit = run.recipe.image.pixel_limit
    stores, statistics = CopyStores.open(home(), limit), StatisticsStore(home() / "statistics", limit)
    digests = []
    for source in (read.train, *(() if read.test is None else (read.test,))):
        names = source.digests.copy()
        rows = np.flatnonzero(names != b"")
        everything = np.ones(len(rows), bool)
        wanted: dict[PageStore, np.ndarray] = dict.fromkeys((*stores.both, statistics), everything)
        broken = build_rows(wanted, source.files[rows].tolist(), names[rows], progress)
        names[rows[[one.index for one in broken]]] = b""
        digests.append(names)
    groups = find_groups(read.dataset, digests, stores, progress)
    all_names = np.concatenate(digests)
    readable = np.flatnonzero(all_names != b"")
    drawings = list_drawings(read.dataset)
    blank = [drawings[row] for row in readable[statistics.blank(all_names[readable])]]
    return _Findings(groups, stores.ink.count_unusable(all_names[readable]), blank)


def _next_steps(blank: int, groups: Sequence[CopyGroup], labels: dict[str, Any] | None, path: Path) -> list[str]:
    counts = count_groups(groups)
    steps = [f"draw {blank} blank drawing(s) anew, or remove them: blank"] if blank else []
    if counts["leak"]:
        steps.append(
            f"remove {counts['leak']} drawing(s) that are both trained on and evaluated on: duplicates.groups, kind leak"
        )
    if counts["conflicts"]:
        steps.append(f"correct the labels of {counts['conflicts']} drawing(s) with duplicates in another class: conflict true")
    if labels and labels["doubtful"]:
        steps.append(f"look at {len(labels['doubtful'])} doubtful labels, the most doubtful first: labels.doubtful")
    if counts["leak"] or counts["conflicts"] or (labels and labels["doubtful"]):
        fix = shlex.join(["inkfold", "audit", str(path), "--fix", "corrected.csv"])
        steps.append(f"decide in a table, drawing by drawing, which labels to change and which drawings to drop: {fix}")
    if labels and labels["confused"]:
        steps.append(
            f"merge or redefine {len(labels['confused'])} pair(s) of classes that no model tried separates: labels.confused"
        )
    if steps:
        steps.append(f"then train again: inkfold train {path / 'recipe.yaml'} out=NEW")
    return steps or ["no problems were found"]
