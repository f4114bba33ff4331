"""Joins icons' names: what one object is called in many sets becomes one name, and what must stay unseen is found.

A name is a sequence of lower-case words with spaces, singular, without words for the style that it is drawn in.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

WORDS = Path(__file__).with_name("icon_words.yaml")
FUSED_MIN_LETTERS = 5  # shorter class words ("pig", "hand") begin or end too many other words
NOT_PLURAL = ("ss", "us", "is", "news", "lens", "gas", "glasses", "series", "species", "canvas", "atlas", "christmas", "chess")
IRREGULAR = {
    **{"leaves": "leaf", "knives": "knife", "loaves": "loaf", "wolves": "wolf", "shelves": "shelf", "mice": "mouse"},
    **{
        "buses": "bus",
        "busses": "bus",
        "lenses": "lens",
        "viruses": "virus",
        "moustaches": "moustache",
        "mustaches": "mustache",
    },
}
ES_ENDINGS = ("sses", "shes", "ches", "xes", "zzes")


@cache
def words() -> dict[str, Any]:
    """Read the word lists."""
    lists: dict[str, Any] = yaml.safe_load(WORDS.read_text(encoding="utf-8"))
    return lists


@cache
def singular(word: str) -> str:
    """Take a plural's ending off an English word; others return as they are."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) < 4 or not word.endswith("s") or word.endswith(NOT_PLURAL):
        return word
    if word.endswith("ies") and len(word) > 5:
        return word[:-3] + "y"
    if word.endswith(ES_ENDINGS):
        return word[:-2]
    if word.endswith(("atoes", "goes")):
        return word[:-2]
    return word[:-1]


def split_words(name: str) -> list[str]:
    """Split an icon's or a class's name at everything that is neither letter nor digit, and digits from long words."""
    parts = re.split(r"[^a-z0-9]+", name.lower())
    return [piece for part in parts for piece in re.sub(r"(?<=[a-z]{3})(\d+)$", r" \1", part).split()]


@cache
def _synonyms() -> dict[str, str]:
    """Map every synonym, word by word singular, to the first of its line."""
    return {
        form: " ".join(split_words(group[0]))
        for group in words()["synonyms"]
        for name in group
        for form in (" ".join(split_words(name)), _singular_phrase(split_words(name)))
    }


def _singular_phrase(parts: Sequence[str]) -> str:
    return " ".join([*parts[:-1], singular(parts[-1])]) if parts else ""


def object_name(parts: Sequence[str]) -> str:
    """Turn a name's words, without style words, into the name under which sets are joined."""
    plain = " ".join(parts)
    table = _synonyms()
    if plain in table:
        return singular_name(table[plain])
    one = _singular_phrase(without_face(parts))
    return singular_name(table.get(one, one))


def without_face(parts: Sequence[str]) -> list[str]:
    """Take "face" off an animal's name: what most people draw of it."""
    rest = [part for part in parts if part != "face"]
    return rest if " ".join(rest) in words()["faces"] else list(parts)


def singular_name(name: str) -> str:
    """Return the form that singular and plural share."""
    return _singular_phrase(name.split())


def without_style(name: str, siblings: Collection[str]) -> list[str]:
    """Take sizes, numbers and style words off an icon's name.

    Args:
        name: The icon's name in its set.
        siblings: All names of the set, each as its words joined by spaces; they decide about doubtful style words.

    Returns:
        The words that remain, at least one.
    """
    lists, parts = words(), split_words(name)
    while len(parts) > 1:
        last, base = parts[-1], parts[:-1]
        if last.isdigit():
            taken = base[-1] not in lists["numbered"]
        elif last in lists["styles"]:
            taken = True
        else:
            taken = last in lists["doubtful_styles"] and _is_style(parts, siblings)
        if not taken:
            break
        parts = base
    while len(parts) > 1 and parts[0] in ("bxs", "bx", "bxl", "ios", "md", "outline", "baseline"):
        parts = parts[1:]
    return parts


def _is_style(parts: Sequence[str], siblings: Collection[str]) -> bool:
    """Whether the last word is a style: the set has the name without it, or with another style in its place."""
    lists = words()
    if any(f" {' '.join(parts)}".endswith(f" {phrase}") for phrase in lists["kept"]):
        return False
    base = " ".join(parts[:-1])
    others = (style for style in (*lists["styles"], *lists["doubtful_styles"]) if style != parts[-1])
    return base in siblings or any(f"{base} {style}" in siblings for style in others)


def is_dropped(parts: Sequence[str]) -> bool:
    """Whether a drawing shows a company's sign, a country's flag or a skin tone's variant, or has no name of letters."""
    text = f" {' '.join(parts)} "
    if not parts:
        return True
    country = parts[0] == "flag" and len(parts) > 1 and len(parts[1]) == 2
    toned = parts[-1] in ("dark", "medium") or text.endswith(" medium light ")
    nameless = not any(len(part) > 1 and part.isalpha() for part in parts)
    return country or toned or nameless or any(f" {phrase} " in text for phrase in words()["dropped"])


class UnseenClasses:
    """Finds names that show one of the classes which training must not see."""

    def __init__(self, classes: Iterable[str]) -> None:
        """Collect each class's own words, its variants and their plurals.

        Args:
            classes: The classes' names, as `benchmarks/ink_small.py` leaves them out.
        """
        variants: Mapping[str, list[str]] = words()["unseen"]
        self._phrases: dict[str, str] = {}
        self._fused: dict[str, str] = {}
        for name in classes:
            for phrase in (name, *variants.get(name, [])):
                parts = [singular(part) for part in split_words(phrase)]
                self._phrases.setdefault(" ".join(parts), name)
                if len("".join(parts)) >= FUSED_MIN_LETTERS and phrase == name:
                    self._fused["".join(parts)] = name
        self._fused_found: dict[str, str | None] = {}  # by word, as few words make up all names
        self._harmless = {singular(word) for word in words()["harmless"]}
        self._longest = max((phrase.count(" ") + 1 for phrase in self._phrases), default=0)

    def match(self, parts: Sequence[str]) -> str | None:
        """Return the unseen class that a name's words contain as a phrase or fused into one word, or None.

        Args:
            parts: The name's words, style words included or not.
        """
        forms = [singular(part) for part in without_face(parts)]
        for length in range(1, self._longest + 1):
            for start in range(len(forms) - length + 1):
                found = self._phrases.get(" ".join(forms[start : start + length]))
                if found:
                    return found
        return next((found for form in forms if (found := self._fused_class(form))), None)

    def _fused_class(self, form: str) -> str | None:
        """Return the unseen class with which a word begins or ends, such as "horseshoe" or "pocketcalculator"."""
        if form not in self._fused_found:
            near = (name for word, name in self._fused.items() if form.startswith(word) or form.endswith(word))
            self._fused_found[form] = None if form in self._harmless else next(near, None)
        return self._fused_found[form]


def join_tails(names: Sequence[str], known: Counter[str]) -> list[str]:
    """Take category words off names such as "products purse": the longest ending that other sets use as a name.

    Args:
        names: Names of one set that puts categories before its names.
        known: How many other sets have a name.
    """
    joined = []
    for name in names:
        parts = name.split()
        tails = [object_name(parts[start:]) for start in range(len(parts))]
        joined.append(next((tail for tail in tails if known[tail] >= 3), name))
    return joined
