"""YAML as values, fast and within limits: libyaml takes an eighth of the time of PyYAML's own parser.

That was a tenth of a small vote's. Anybody may have written the text: a few names that refer to each other can stand for
billions of values.
"""

from typing import Any

import yaml

FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML may be built without libyaml
LARGEST = 200_000  # characters
DEEPEST = 1000  # brackets, dashes and question marks
MOST_VALUES = 1_000_000  # those that names refer to are counted wherever they stand


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
        ValueError: If a number or a date in it can't be, if it is nested too deeply, or if its names refer to themselves or
            stand for more than a million values.
    """
    try:
        if "\t" in text or len(text) > LARGEST or sum(map(text.count, "[{-?")) > DEEPEST:
            return _load(text, yaml.SafeLoader)
        try:
            return _load(text, FAST)
        except yaml.YAMLError:
            return _load(text, yaml.SafeLoader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _load(text: str, loader_class: Any) -> Any:
    """Read a document as `yaml.load` does, but count its values before they are made."""
    loader = loader_class(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        if "*" in text and _count(root, {}) > MOST_VALUES:  # without names it stands for what is written
            raise ValueError(f"it stands for more than {MOST_VALUES:,} values")
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _count(node: yaml.Node, counts: dict[int, int]) -> int:
    """Count the values that a node stands for; one that is met inside itself has no end."""
    if id(node) not in counts:
        counts[id(node)] = MOST_VALUES + 1  # until its end is seen
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        counts[id(node)] = min(1 + sum(_count(part, counts) for part in inner), MOST_VALUES + 1)
    return counts[id(node)]
