"""Reads keys that recipes have under other names: earlier ones, of which the new name is logged once, and short forms."""

import logging
from collections.abc import Mapping
from typing import Any

log = logging.getLogger("inkfold.config")

RENAMED = {  # by dotted key; a section's new name holds for all keys below it
    "fit": "train_head",
    "image.fit": "image.resize",
    "backbone.train": "finetune.part",
    "backbone.train_blocks": "finetune.blocks",
    "backbone.lora_rank": "finetune.lora_rank",
    "backbone.lora_alpha": "finetune.lora_alpha",
    "backbone.drop_path": "finetune.drop_path",
}
RENAMED_VALUES = {("backbone.train", "frozen"): "none"}
SHORT = {"budget": "auto.budget"}  # what people type, by the key that it stands for
SECTIONS = {section for names in {**RENAMED, **SHORT}.items() for section in (name.partition(".")[0] for name in names)}
_reported: set[str] = set()


def renamed(key: str) -> str:
    """Return the present and whole name of a dotted key; an old name is logged, once per process.

    Args:
        key: Dotted key under its old, short or present name, such as `fit.lr` or `budget`.

    Returns:
        The present name, such as `train_head.lr`; the key itself if it wasn't renamed.
    """
    for old, new in RENAMED.items():
        if key == old or key.startswith(f"{old}."):
            if old not in _reported:
                _reported.add(old)
                log.warning("recipe: '%s' is called '%s' now; the old key is still read.", old, new)
            return new + key.removeprefix(old)
    return SHORT.get(key, key)


def renamed_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Rename values by dotted key.

    Args:
        values: Values by dotted key under old or new names; a section's value may have old names below it.

    Returns:
        The values under new names, in their order; what moved to another section comes after the section that it was in.

    Raises:
        ValueError: If a key is given under both its names.
    """
    current: dict[str, Any] = {}
    for key, value in values.items():
        moved = {}
        if isinstance(value, Mapping):
            moved = {f"{key}.{below}": part for below, part in value.items() if f"{key}.{below}" in RENAMED}
            value = {below: part for below, part in value.items() if f"{key}.{below}" not in moved}  # noqa: PLW2901
        for old, part in {key: value, **moved}.items():
            new = renamed(old)
            if new in current or (new != old and new in values):
                raise ValueError(f"'{new}' is given twice, also by its {_kind_of(old)} name '{old}'. Remove one of them")
            current[new] = RENAMED_VALUES.get((old, part), part) if isinstance(part, str) else part
    return current


def renamed_recipe(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the keys of a recipe, of one model or of an ensemble.

    Args:
        raw: The recipe's keys as nested mappings; they aren't changed.

    Returns:
        Nested mappings with new names, also in `tune.space` and in the members' `set`. What isn't a mapping where one is
        expected stays for the validation to report.

    Raises:
        ValueError: If a key is given under both its names.
    """
    current: dict[str, Any] = {}
    for key, value in raw.items():
        if isinstance(value, Mapping) and key in SECTIONS:
            current.setdefault(renamed(key), {})
            for below, part in value.items():
                _put(current, f"{key}.{below}", part)
        elif key not in current or value is not None:
            _put(current, key, value)
    if isinstance(current.get("tune"), Mapping) and isinstance(current["tune"].get("space"), Mapping):
        current["tune"] = {**current["tune"], "space": renamed_values(current["tune"]["space"])}
    if isinstance(current.get("members"), list | tuple):
        current["members"] = [_renamed_member(member) for member in current["members"]]
    return current


def _put(current: dict[str, Any], old: str, value: Any) -> None:
    """Set a section, or a key in one, under its new name."""
    section, _, key = renamed(old).partition(".")
    target, name = current, section
    if key:
        target, name = current.get(section) or {}, key
        if not isinstance(target, dict):  # the validation reports it
            return
        current[section] = target
    if name in target:
        raise ValueError(f"'{renamed(old)}' is given twice, also by its {_kind_of(old)} name. Remove one of them")
    target[name] = RENAMED_VALUES.get((old, value), value) if isinstance(value, str) else value


def _kind_of(name: str) -> str:
    return "short" if name in SHORT or name in SHORT.values() else "old"


def _renamed_member(member: Any) -> Any:
    if not isinstance(member, Mapping) or not isinstance(member.get("set"), Mapping):
        return member
    return {**member, "set": renamed_values(member["set"])}
