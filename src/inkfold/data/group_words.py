"""Words by which names of files, folders and columns speak of an origin, a person or a session, and those that never do."""

from collections import Counter
from collections.abc import Collection
from enum import IntEnum

from inkfold.data.name_kinds import CALENDAR, LOOKS, words_of

NEARLY_ALL = 0.9  # of the names have the word


def _all(words: str) -> frozenset[str]:
    return frozenset(words.split())


# What holds drawings of one class, and what holds drawings of several.
PHOTO_WORDS = _all("photo photograph source original origin ref reference scene clip video picid photoid imageid sourceid")
PAGE_WORDS = _all("page sheet scan notebook document doc form book panel frame")
ORIGIN_WORDS = PHOTO_WORDS | PAGE_WORDS
PERSON_WORDS = _all("user users userid uid usr person people participant subject subj student pupil child kid artist author")
PERSON_WORDS |= _all("writer drawer sketcher volunteer respondent contributor player anon anonymous worker who patient drawn")
PERSON_WORDS |= _all("username nutzer schreiber zeichner")
SESSION_WORDS = _all("session sitting visit day date week trial round")
# Values that say how or of what kind a drawing is, which don't make drawings belong together.
KINDS = _all("black white red green blue yellow orange purple pink brown grey gray dark light colour color mono")
KINDS |= _all("small big large medium tiny huge thin thick left right top bottom front back side up down centre center")
KINDS |= _all("flip flipped hflip vflip mirror mirrored rot rotate rotated aug augmented crop cropped resized scaled noise")
KINDS |= _all("blur blurred shear shift shifted orig original train test val valid validation easy hard good bad new old")
KINDS |= _all("pen pencil marker brush ink chalk crayon digital paper tablet mouse finger stylus png jpg jpeg svg raw final")
KINDS |= _all("happy sad angry neutral surprised surprise fear disgust contempt calm fearful disgusted smiling")
KINDS |= LOOKS | CALENDAR


class Role(IntEnum):
    """What a group is, the likeliest to make drawings alike first."""

    ORIGIN = 1  # a photo, a page: its drawings are nearly copies
    PERSON = 2
    SESSION = 3
    OTHER = 4


COLUMN_WORDS = "id nr no name number key by hash code uuid sketch drawing image picture original source of"


def role_of_column(name: str) -> Role | None:
    """Return what a column's values are by its name, such as `photo_id` or `who`; None for other columns."""
    words = words_of(name)
    roles = [role for word in words if (role := role_of_word(word)) is not None]
    known = all(role_of_word(word) is not None or word in COLUMN_WORDS.split() for word in words)
    return min(roles) if roles and known else None


def role_of_word(word: str) -> Role | None:
    """Return what a word in lower case, such as `writer`, says of what it stands before; None for other words."""
    for role, words in ((Role.ORIGIN, ORIGIN_WORDS), (Role.PERSON, PERSON_WORDS), (Role.SESSION, SESSION_WORDS)):
        if word in words:
            return role
    return None


def role_of_numbered(names: Collection[str]) -> Role | None:
    """Return what nearly all names are by their first word, as in `user.17` and `page2`; None where they aren't named so."""
    roles = Counter[Role | None]()
    for name in names:
        words = words_of(name)
        roles[role_of_word(words[0]) if words and (len(words) > 1 or any(map(str.isdigit, name))) else None] += 1
    [(role, count)] = roles.most_common(1) or [(None, 0)]
    return role if count >= NEARLY_ALL * len(names) else None
