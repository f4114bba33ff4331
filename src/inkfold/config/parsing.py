"""YAML as values, fast: libyaml takes an eighth of the time of PyYAML's own parser, which was a tenth of a small vote's."""

from typing import Any

import yaml

FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML may be built without libyaml
LARGEST = 200_000  # characters
DEEPEST = 1000  # brackets, dashes and question marks


def parse_yaml(text: str) -> Any:
    """Read YAML's plain values; no other types, however they are tagged.

    libyaml is asked first. It takes some tabs that PyYAML's own parser refuses, and nesting of 100,000 levels ends its
    process: such text goes to PyYAML's, as does what libyaml refuses, so that problems are always told in the same words.

    Args:
        text: One YAML document.

    Returns:
        Mappings, lists, texts, numbers, truth values, dates or None.

    Raises:
        YAMLError: If it is none.
        ValueError: If a number or a date in it can't be.
        RecursionError: If it is nested too deeply.
    """
    if "\t" in text or len(text) > LARGEST or sum(map(text.count, "[{-?")) > DEEPEST:
        return yaml.safe_load(text)
    try:
        return yaml.load(text, Loader=FAST)  # noqa: S506 - it is a safe loader
    except yaml.YAMLError:
        return yaml.safe_load(text)
