"""What others found about a run and left beside it, as a page shows it: the audit of its data, its weaknesses."""

from collections.abc import Mapping, Sequence
from typing import Any

from inkfold.errors import PredictionError
from inkfold.pipeline.manifest import AUDIT, WEAKNESS
from inkfold.report.html import common_scale
from inkfold.report.run_data import RunRecord, found_again
from inkfold.report.thumbnails import Album

GROUPS_PER_KIND, MEMBERS, DOUBTFUL, CONFUSED, NEXT = 6, 6, 16, 20, 6
KINDS = {"leak": "In train and test", "across": "Across classes", "within": "Within a class"}
SAMPLES = 3


def weakness_view(record: RunRecord) -> dict[str, Any] | None:
    """Lay out the accuracy under transformations.

    Args:
        record: The run.

    Returns:
        Rows, clean first, then the greatest drop; None where nobody measured it.

    Raises:
        PredictionError: If the file isn't of the form that is expected.
    """
    if record.weakness is None:
        return None
    try:
        clean = {"name": "as they are", "drop": None, "augmentation": None, "command": None, **record.weakness["clean"]}
        names = ("name", "accuracy", "ci95", "drop", "augmentation", "command")
        rows = [{name: row.get(name) for name in names} for row in record.weakness["rows"]]
        rows = [clean, *sorted(rows, key=lambda row: -float(row["drop"]))]
        commands = [*dict.fromkeys(str(row["command"]) for row in rows if row["command"])]
        return {"rows": rows, "scale": common_scale([row["ci95"] for row in rows]), "commands": commands}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unknown(record, WEAKNESS, error) from None


def audit_view(record: RunRecord, album: Album) -> dict[str, Any] | None:
    """Lay out duplicates and doubtful labels with their pictures.

    Args:
        record: The run.
        album: Where its drawings are.

    Returns:
        Bounded numbers of each; None where nobody looked.

    Raises:
        PredictionError: If the file isn't of the form that is expected.
    """
    if record.audit is None:
        return None
    try:
        duplicates, labels = record.audit["duplicates"], record.audit["labels"]
        groups = [one for kind in KINDS for one in _of_kind(duplicates["groups"], kind)[:GROUPS_PER_KIND]]
        return {
            "counts": duplicates["counts"],
            "drop": record.metrics.get("duplicates") or duplicates["accuracy"],
            "groups": [_group(group, album) for group in groups],
            "more_groups": len(duplicates["groups"]) - len(groups),
            "labels": None if labels is None else _labels(labels, album),
            "next": [str(text) for text in record.audit["next"]][:NEXT],
        }
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise _unknown(record, AUDIT, error) from None


def _of_kind(groups: Sequence[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    return [group for group in groups if group["kind"] == kind]


def _group(group: Mapping[str, Any], album: Album) -> dict[str, Any]:
    members = group["members"][:MEMBERS]
    pictures = [album.show(one["image_path"], _part(one["part"])) for one in members]
    names = [f"{one['class_name'] or 'class unknown'}: {one['image_path']} ({one['part']})" for one in members]
    conflict = " with different labels" if group["conflict"] and group["kind"] == "leak" else ""
    return {
        "title": KINDS[group["kind"]] + conflict,
        "how": ", ".join(dict.fromkeys(str(pair["transform"]) for pair in group["pairs"][:MEMBERS])),
        "pictures": [picture for picture in pictures if picture],
        "members": names,
        "more": len(group["members"]) - len(members),
    }


def _labels(labels: Mapping[str, Any], album: Album) -> dict[str, Any]:
    names = ("given", "suggested", "score", "suggested_probability")
    doubtful = [
        {
            **{name: one[name] for name in names},
            "path": one["image_path"],
            "picture": album.show(one["image_path"]),
            "given_samples": album.samples(one["given"], SAMPLES, one["image_path"]),
            "suggested_samples": album.samples(one["suggested"], SAMPLES, one["image_path"]),
        }
        for one in labels["doubtful"][:DOUBTFUL]
    ]
    kept = ("estimated_wrong_fraction", "method", "ceiling")
    return {
        **{name: labels[name] for name in kept},
        "doubtful": doubtful,
        "more": len(labels["doubtful"][DOUBTFUL:]),
        "confused": _confused(labels["confused"]),
    }


def _confused(pairs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: one[name] for name in ("first", "second", "n", "accuracy", "accuracy_ci95")} for one in pairs[:CONFUSED]]


def _part(part: str) -> str:
    """A data set's own validation part is read with its training drawings."""
    return "test" if part == "test" else "train"


def _unknown(record: RunRecord, name: str, error: Exception) -> PredictionError:
    where = record.path / name
    return PredictionError(f"{where}: not what this version of inkfold writes: {error!r}. {found_again(where)}")
