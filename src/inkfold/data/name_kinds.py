"""Tells the names of classes from those of people, days, batches and numbers, and the names of a data set's parts from both."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from enum import IntEnum
from typing import Final, Literal, TypeAlias

Role: TypeAlias = Literal["train", "val", "test"]


def _all(words: str) -> frozenset[str]:
    return frozenset(words.split())


ROLES: Final[dict[str, Role]] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
# Words that say nothing about which data they are, in names such as "Training Data" and "test_images".
FILLERS = _all("data dataset set sets image images img imgs picture pictures drawing drawings sketch sketches")
FILLERS |= _all("split part folder files png jpg jpeg the")
# Words before the number or name of a person, a time or a bundle: "user.17", "Participant_anna", "day 3".
GROUP_WORDS = _all("user users person people participant subject student pupil child kid artist author writer")
GROUP_WORDS |= _all("drawer annotator volunteer respondent contributor player anon anonymous uid userid worker")
GROUP_WORDS |= _all("session day week month year date batch scan sheet page notebook round trial group fold shard")
GROUP_WORDS |= _all("chunk bundle device tablet")
CALENDAR = _all("monday tuesday wednesday thursday friday saturday sunday january february march april may")
CALENDAR |= _all("june july august september october november december")
# What kinds of pictures are called, where all names of a level are among them: "photo", "sketch".
LOOKS = _all("photo photos sketch sketches real clipart infograph painting paintings quickdraw cartoon art")
LOOKS |= _all("drawing drawings original originals augmented augmentation raw processed clean noisy scanned")
LOOKS |= _all("digital paper photographed cropped rendered synthetic handdrawn")
# Words before the number of a class: "class_3", "Letter 12".
CLASS_WORDS = _all("class classe klasse clase category cat_id label digit letter character char symbol shape")
MOST = 0.8
SAMPLE = 2000
WORD = re.compile(r"[^\W\d_]+")
CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
SYNSET = re.compile(r"n[0-9]{8}")
HASH = re.compile(r"(?=.*[0-9])([0-9a-f]{8,}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.IGNORECASE)
MIXED = re.compile(r"[0-9][^\W\d_]|[^\W\d_][0-9]")


class NameKind(IntEnum):
    """What the names of one level of folders, or of one field of file names, are; the highest kind names classes best."""

    GROUPS = 1  # people, days, batches, kinds of pictures
    NUMBERS = 2  # numbers, hashes, dates: classes only where nothing else can be
    WORDS = 3


def words_of(name: str) -> list[str]:
    """Split a name into its words, in lower case: `LogicGate_trainData2` has logic, gate, train and data."""
    return [word.casefold() for word in WORD.findall(CAMEL.sub(" ", unicodedata.normalize("NFKC", name)))]


def exact_role(name: str) -> Role | None:
    """Return the part of a data set that a folder's name is the word for, in any case; None for other names."""
    return ROLES.get(unicodedata.normalize("NFKC", name).strip().casefold())


def role_in_name(name: str) -> tuple[Role, tuple[str, ...]] | None:
    """Return the part that a name speaks of, and the name's other words, as in `Logic Gate Training Data`.

    Parts of one data set have the same other words; None where no word, or more than one, is a part's.
    """
    words = words_of(name)
    roles = [ROLES[word] for word in words if word in ROLES]
    rest = [word for word in words if word not in ROLES and word not in FILLERS] + re.findall(r"[0-9]+", name)
    return (roles[0], tuple(rest)) if len(roles) == 1 else None


def is_filler(name: str) -> bool:
    """Return whether a name says nothing about what is in a folder, as `images` and `Data set` do."""
    return all(word in FILLERS for word in words_of(name)) and any(map(str.isalpha, name))


def kind_of(names: Collection[str]) -> NameKind:
    """Decide what distinct names are: words, numbers, or people, days and batches.

    Args:
        names: Distinct names of folders, or of one field of file names; of very many, some are looked at.
    """
    if len(names) > SAMPLE:
        names = sorted(names)[:: len(names) // SAMPLE]
    grouped = sum(_is_group(name) for name in names)
    if all("".join(words_of(name)) in LOOKS for name in names):
        return NameKind.GROUPS
    if grouped >= MOST * len(names):
        return NameKind.GROUPS
    stems = Counter(_stem(name) for name in names if any(map(str.isdigit, name)) and not _names_class(name))
    numbered = len(stems) <= max(1.0, stems.total() / 4)  # "tx_01, tx_02, ..." but not "circle1, square1"
    words = sum(_is_word(name, numbered=numbered) for name in names)
    return NameKind.WORDS if 2 * words >= len(names) else NameKind.NUMBERS


def _stem(name: str) -> str:
    return " ".join(words_of(name))


def _names_class(name: str) -> bool:
    words = words_of(name)
    return bool(SYNSET.fullmatch(name)) or bool(words and words[0] in CLASS_WORDS)


def _is_group(name: str) -> bool:
    words = words_of(name)
    if "@" in name or (words and words[0] in CALENDAR):
        return True
    return bool(words) and words[0] in GROUP_WORDS and (len(words) > 1 or any(map(str.isdigit, name)))


def _is_word(name: str, *, numbered: bool) -> bool:
    """Return whether a name is a word; names with digits are none where all of a level share a stem (`numbered`)."""
    if _names_class(name):
        return True
    if not any(map(str.isalpha, name)) or HASH.fullmatch(name):
        return False
    if not any(map(str.isdigit, name)):
        return True
    return not numbered and not (len(name) >= 8 and len(MIXED.findall(name)) >= 3)


def first_names(names: Sequence[str], limit: int = 3) -> str:
    """List the first names in quotes, with their number where there are more: `'ant', 'bee', ...`."""
    return ", ".join(repr(name) for name in names[:limit]) + (", ..." if len(names) > limit else "")
