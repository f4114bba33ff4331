"""Sections of a page about what later commands found in a run: the audit of its data, and its weaknesses."""

from collections.abc import Mapping, Sequence
from typing import Any

from inkfold.audit.wording import ceiling_sentence, confusions_sentence, doubts_sentence, models_sentence
from inkfold.errors import PredictionError
from inkfold.pipeline.manifest import AUDIT, AUDIT_FORMAT, WEAKNESS
from inkfold.pipeline.run_files import RunFiles, rewrite_advice
from inkfold.report.html import common_scale
from inkfold.report.thumbnails import Album

GROUPS_PER_KIND, MEMBERS, DOUBTFUL, CONFUSED, NEXT = 6, 6, 16, 20, 6
DUPLICATE_TITLES = {
    "leak": "Trained on and evaluated on",
    "across": "One drawing, different labels",
    "within": "One drawing, one label",
}
SAMPLES = 3


def weakness_view(run: RunFiles) -> dict[str, Any] | None:
    """Gather a row per change of the drawings, the unchanged ones first, then the greatest drop; None if none was measured.

    Raises:
        PredictionError: If `weakness.json` has another form than expected.
    """
    if run.weakness is None:
        return None
    try:
        clean = {
            "name": "unchanged",
            "drop": None,
            "setting": None,
            "augmentation": None,
            "command": None,
            **run.weakness["clean"],
        }
        names = ("name", "accuracy", "ci95", "drop", "setting", "augmentation", "command")
        rows = [{name: row.get(name) for name in names} for row in run.weakness["rows"]]
        rows = [clean, *sorted(rows, key=lambda row: -float(row["drop"]))]
        commands = [*dict.fromkeys(str(row["command"]) for row in rows if row["command"])]
        return {"rows": rows, "scale": common_scale([row["ci95"] for row in rows]), "commands": commands}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unknown_form(run, WEAKNESS, error) from None


def audit_view(run: RunFiles, album: Album) -> dict[str, Any] | None:
    """Gather bounded numbers of duplicates, doubtful labels and confused classes; None without an audit.

    Raises:
        PredictionError: If `audit.json` has another form than expected.
    """
    if run.audit is None:
        return None
    try:
        if (form := run.audit.get("format")) != AUDIT_FORMAT:
            raise ValueError(f"its format is {form}, expected {AUDIT_FORMAT}")
        duplicates, labels = run.audit["duplicates"], run.audit["labels"]
        groups = [group for kind in DUPLICATE_TITLES for group in _of_kind(duplicates["groups"], kind)[:GROUPS_PER_KIND]]
        return {
            "counts": duplicates["counts"],
            "drop": run.metrics.get("duplicates") or duplicates["accuracy"],
            "groups": [duplicate_view(group, album, MEMBERS) for group in groups],
            "more_groups": len(duplicates["groups"]) - len(groups),
            "labels": None if labels is None else _labels(labels, album),
            "next": [str(text) for text in run.audit["next"]][:NEXT],
        }
    except (AttributeError, KeyError, TypeError, IndexError, ValueError) as error:
        raise _unknown_form(run, AUDIT, error) from None


def duplicate_view(group: Mapping[str, Any], album: Album, most: int) -> dict[str, Any]:
    """Gather what the macro `duplicates` shows of a group as `audit.json` has it: of `most` drawings at the most."""
    members = group["members"][:most]
    captions = [f"{one['class_name'] or 'class unknown'}: {one['image_path']} ({one['part']})" for one in members]
    pictures = [album.show(one["image_path"], album_part(one["part"])) for one in members]
    conflict = " with different labels" if group["conflict"] and group["kind"] == "leak" else ""
    return {
        "title": DUPLICATE_TITLES[group["kind"]] + conflict,
        "transforms": ", ".join(dict.fromkeys(str(pair["transform"]) for pair in group["pairs"][:most])),
        "similarity": min(float(pair["similarity"]) for pair in group["pairs"]),
        "pictures": [(picture, caption) for picture, caption in zip(pictures, captions, strict=True) if picture],
        "members": captions,
        "more": len(group["members"]) - len(members),
    }


def album_part(part: str) -> str:
    """Return the part, `train` or `test`, under which an album has drawings: `val` is read with the training drawings."""
    return "test" if part == "test" else "train"


def _of_kind(groups: Sequence[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    return [group for group in groups if group["kind"] == kind]


def _labels(labels: Mapping[str, Any], album: Album) -> dict[str, Any]:
    keys = ("given", "suggested", "score", "suggested_probability", "doubt")
    doubtful = [
        {
            **{key: issue[key] for key in keys},
            "path": issue["image_path"],
            "picture": album.show(issue["image_path"]),
            "given_samples": album.samples(issue["given"], SAMPLES, issue["image_path"]),
            "suggested_samples": album.samples(issue["suggested"], SAMPLES, issue["image_path"]),
        }
        for issue in labels["doubtful"][:DOUBTFUL]
    ]
    names = ("first", "second", "n", "accuracy", "accuracy_ci95", "best_model")
    return {
        "sentences": {
            "models": models_sentence(labels),
            "doubts": doubts_sentence(labels),
            "confusions": confusions_sentence(labels),
            "ceiling": ceiling_sentence(labels),
        },
        "method": labels["method"],
        "doubtful": doubtful,
        "more": len(labels["doubtful"][DOUBTFUL:]),
        "confused": [{name: pair[name] for name in names} for pair in labels["confused"][:CONFUSED]],
    }


def _unknown_form(run: RunFiles, name: str, error: Exception) -> PredictionError:
    path = run.path / name
    return PredictionError(f"{path}: not what this version of inkfold writes: {error!r}. {rewrite_advice(path)}")
