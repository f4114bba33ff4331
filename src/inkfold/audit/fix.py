"""`inkfold audit RUN --fix FILE.csv`: the audit's findings as a table in which a person decides, drawing by drawing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inkfold.data.corrections import DIGEST_MARK, as_cells, merge_corrections, read_corrections
from inkfold.ensemble.model import first_run, load_run
from inkfold.errors import ExportError
from inkfold.pipeline.build import dataset_again
from inkfold.storage.hashing import digest_file


@dataclass(frozen=True, slots=True)
class FixTable:
    """A table of decisions that was written.

    Attributes:
        path: The CSV file of decisions, one row per drawing, which the user fills in.
        decided: Number of rows that keep an earlier decision.
        open: Number of rows to decide on.
        new: Number of those that the file didn't have before.
        recipe: Path of the recipe to train again with.
    """

    path: Path
    decided: int
    open: int
    new: int
    recipe: Path


def check_fix_file(path: Path) -> None:
    """Check that a table of decisions can be written to a file.

    Args:
        path: The CSV file; one that exists must be a table of decisions.

    Raises:
        ExportError: If the file's name doesn't end in .csv.
        DataError: If the file exists and isn't a table of decisions.
    """
    if path.suffix.lower() != ".csv":
        raise ExportError(f"--fix: got '{path}', expected a file that ends in .csv, which a spreadsheet opens. Name it so.")
    if path.exists():
        read_corrections(path)


def write_fix_table(run_path: str | Path, audit: Mapping[str, Any], path: Path, *, raw: bool = False) -> FixTable:
    """Write a table of the drawings whose label, or whose place in the data, a person should decide on.

    Args:
        run_path: Directory of the audited run or ensemble.
        audit: Content of its `audit.json`, just written.
        path: The CSV file; decisions in one that exists are kept.
        raw: Whether names that a spreadsheet would compute are written as they are.

    Returns:
        What was written.

    Raises:
        ExportError: If the file's name doesn't end in .csv.
        DataError: If the file exists and isn't a table of decisions.
    """
    check_fix_file(path)
    run = first_run(load_run(run_path))
    train = dataset_again(run).train
    files = dict(zip(train.image_paths.tolist(), train.files.tolist(), strict=True))
    proposals = propose(audit, files)
    earlier = None if run.files.corrections is None else read_corrections(Path(run.files.corrections))
    return FixTable(path, **merge_corrections(path, proposals, earlier, raw=raw), recipe=run.path / "recipe.yaml")


def propose(audit: Mapping[str, Any], files: Mapping[str, str]) -> list[dict[str, str]]:
    """Turn an audit's findings into rows: doubtful labels, copies with different labels, and copies of test drawings.

    Args:
        audit: Content of `audit.json`.
        files: Path of each training drawing's file, by its path in the data.

    Returns:
        A row for each drawing, the most doubtful labels first; what several findings say of a drawing stands in one row.
    """
    rows: dict[str, dict[str, str]] = {}
    findings = [*_doubtful(audit["labels"]), *(row for group in audit["duplicates"]["groups"] for row in _of_group(group))]
    for row in findings:
        name = row["image_path"]
        if name not in files:
            continue
        if name in rows:
            rows[name]["reason"] += f"; {row['reason']}"
            if row["proposal"] == "drop":
                rows[name]["proposal"] = "drop"
            continue
        rows[name] = {**row, "digest": f"{DIGEST_MARK}{digest_file(Path(files[name]))}"}
    return list(rows.values())


def _doubtful(labels: Mapping[str, Any] | None) -> list[dict[str, str]]:
    return [
        as_cells(
            image_path=issue["image_path"],
            class_name=issue["given"],
            suggested=issue["suggested"],
            doubt=f"{issue['doubt']:.2f}",
            proposal="relabel",
            reason="all models doubt the label",
        )
        for issue in ([] if labels is None else labels["doubtful"])
    ]


def _of_group(group: Mapping[str, Any]) -> list[dict[str, str]]:
    """Propose to drop what is trained on and evaluated on, and to give copies the label that most of them have."""
    members: Sequence[Mapping[str, Any]] = group["members"]
    evaluated = [one for one in members if one["part"] != "train"]
    trained = [one for one in members if one["part"] == "train"]
    rows = []
    if evaluated and trained:
        other = f"copy of the {evaluated[0]['part']} drawing {evaluated[0]['image_path']}, which it makes optimistic"
        rows += [_row(one, "", "drop", other) for one in trained]
    if group["conflict"]:
        labels = Counter(str(one["class_name"]) for one in members if one["class_name"] is not None)
        (most, count), *others = labels.most_common()
        majority = most if not others or others[0][1] < count else ""
        for one in members:
            if one["class_name"] in (None, majority) or one["part"] == "test":
                continue
            twin = next(two for two in members if two["class_name"] not in (None, one["class_name"]))
            reason = f"copy of {twin['image_path']}, which is labelled {twin['class_name']}"
            rows.append(_row(one, majority or str(twin["class_name"]), "relabel" if majority else "look", reason))
    return rows


def _row(member: Mapping[str, Any], suggested: str, proposal: str, reason: str) -> dict[str, str]:
    return as_cells(
        image_path=member["image_path"],
        class_name=member["class_name"],
        suggested=suggested,
        doubt="",
        proposal=proposal,
        reason=reason,
    )
