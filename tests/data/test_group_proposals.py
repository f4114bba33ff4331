"""The names are those that people's own data have; each family is written as a function of a seeded generator."""

import hashlib
import random

import numpy as np
import pytest

from inkfold.data.group_proposals import propose_groups
from inkfold.data.group_words import Role
from inkfold.data.label_patterns import read_groups
from inkfold.data.tables import STRING

CLASSES = ("cat", "dog", "hot_dog", "ice cream", "bird", "car", "sun", "tree")
PEOPLE = ("anna", "ben", "cleo", "dan", "eva", "finn", "gus", "hal", "ida")
AUGMENTED = ("orig", "flip", "rot90")
COLOURS = ("red", "blue", "green", "black", "white", "yellow")
LOOKS = ("real", "sketch", "clipart", "painting", "quickdraw", "infograph")


def md5(text, length=32):
    return hashlib.md5(text.encode()).hexdigest()[:length]


def rng():
    return random.Random(0)


def each(form, **fields):
    """Write names for each class and each combination of the fields' values; a callable gives a value by class."""
    rows = [{"c": name, "u": name.replace(" ", "_")} for name in CLASSES]
    for key, values in fields.items():
        rows = [{**row, key: value} for row in rows for value in (values(row) if callable(values) else values)]
    return [(row["c"], form.format(**row)) for row in rows]


def numbers(count, low=100, high=99_999):
    generator = rng()
    return lambda row: generator.sample(range(low, high), count)


def stamps(count):
    generator = rng()
    return lambda row: [generator.randint(1_600_000_000_000, 1_700_000_000_000) for _ in range(count)]


def global_ids(count):
    return lambda row: range(CLASSES.index(row["c"]) * count, (CLASSES.index(row["c"]) + 1) * count)


GROUPED = {
    "photo id and sketch number": (each("{c}/n01_{p}-{j}.png", p=numbers(12), j=(1, 2, 3)), Role.ORIGIN, 96, None),
    "photo id alone": (each("{c}/{p}-{j}.png", p=numbers(12), j=(1, 2, 3)), Role.ORIGIN, 96, None),
    "photos numbered anew in each class": (each("{c}/photo{p:04d}-{j}.png", p=range(12), j=(1, 2, 3)), Role.ORIGIN, 96, None),
    "photos numbered on": (each("{c}/photo{p:04d}-{j}.png", p=global_ids(12), j=(1, 2, 3)), Role.ORIGIN, 96, "photo0000"),
    "few photos": (each("{c}/n02_{p}-{j}.png", p=range(3), j=(1, 2)), Role.ORIGIN, 24, "cat/n02_0"),
    "crops": (each("{c}/IMG_{p}_crop{j}.png", p=global_ids(12), j=(1, 2, 3)), Role.ORIGIN, 96, "IMG_0"),
    "augmented drawings": (each("{c}/{u}_{p}_{a}.png", p=range(30), a=AUGMENTED), Role.ORIGIN, 240, "cat_0"),
    "photo and sketcher": (
        each("{c}/photo-{p:06d}_sketcher{s}.png", p=global_ids(12), s=range(8)),
        Role.ORIGIN,
        96,
        "photo-000000",
    ),
    "writer's pages": (
        each("{c}/writer{w:02d}_page{p}_sym{j}.png", w=range(12), p=(1, 2), j=(1, 2)),
        Role.PERSON,
        12,
        "writer00",
    ),
    "class, who, time": (each("{c}/{c}-{w}-{t}.png", w=PEOPLE, t=stamps(4)), Role.OTHER, 9, "anna"),
    "class, number of who, time, in one folder": (each("{c}-{w}-{t}.png", w=range(55), t=stamps(3)), Role.OTHER, 55, "0"),
    "hashes of who": (each("{c}/{w}-{t}.png", w=[md5(f"{i}", 8) for i in range(25)], t=stamps(3)), Role.OTHER, 25, None),
    "many people of which none draws all": (
        [
            (c, f"{c}/{w}-{j}.png")
            for i, c in enumerate(CLASSES)
            for w in map("who{}x".format, "abcdefghijklmnopqrstuvwxyz")
            for j in (1, 2)
            if (i + ord(w[3])) % 3
        ],
        Role.OTHER,
        26,
        "whoax",
    ),
    "people's folders": (each("user.{w}/images/{c}/{j}.png", w=range(17), j=(1, 2)), Role.PERSON, 17, "user.0"),
    "people below the class": (each("{c}/user{w}/{j}.png", w=range(17), j=(1, 2)), Role.PERSON, 17, "user0"),
    "photos' folders": (each("{c}/{p}/{j}.png", p=numbers(12), j=(1, 2, 3)), Role.ORIGIN, 96, None),
    "sessions' folders": (each("session_{s}/{c}/{j}.png", s=range(9), j=numbers(4)), Role.SESSION, 9, "session_0"),
    "who before a class of several words": (each("{c}/user_{w}_{u}_{j}.png", w=range(15), j=(1, 2, 3)), Role.PERSON, 15, "0"),
    "who after a class of several words": (each("{c}/{u}_user{w}_{j}.png", w=range(15), j=(1, 2, 3)), Role.PERSON, 15, "user0"),
    "a drawing of each class by each": (each("{c}/{w}.png", w=PEOPLE), Role.OTHER, 9, "anna"),
}

UNGROUPED = {
    "class and counter": each("{c}/{c}_{j:03d}.png", j=range(40)),
    "counter": each("{c}/{j:03d}.png", j=range(40)),
    "sketches of a contest": each("{c}/sketch_{j}.JPEG", j=range(40)),
    "numbers of copies that systems add": each("{c}/{c}-{j} ({m}).png", j=range(12), m=(1, 2, 3)),
    "hashes": [(c, f"{c}/{md5(f'{c}{j}')}.png") for c in CLASSES for j in range(40)],
    "times": each("{c}/{t}.png", t=stamps(40)),
    "days and times": each("{c}/2021-03-{d:02d}_{h:02d}-15-{s:02d}.png", d=range(1, 8), h=range(9, 15), s=(1, 7)),
    "screenshots": each("{c}/Screenshot 2021-03-{d:02d} at {h:02d}.15.{s:02d}.png", d=range(1, 8), h=range(9, 15), s=(1, 7)),
    "drawers that drew each character once": each("alphabet/{c}/0709_{j:02d}.png", j=range(1, 21)),
    "colours": each("{c}/{u}_{a}_{j}.png", a=COLOURS, j=range(9)),
    "poses": each("{c}/{u}_{a}_{j}.png", a=("sitting", "running", "lying", "asleep", "jumping", "eating"), j=range(9)),
    "kinds of pictures": each("{a}/{c}/{j}.png", a=LOOKS, j=range(9)),
    "fewer people than folds": each("user.{w}/{c}/{j}.png", w=(1, 2, 3), j=range(9)),
    "people that drew once": each("{c}/person_{p}.png", p=global_ids(40)),
    "bundles": each("batch_{b}/{c}/{j}.png", b=range(8), j=range(9)),
    "subclasses": each("{c}/{u}-{a}_{j}.png", a=("tabby", "wild", "tame"), j=range(9)),
    "sizes": each("{c}/{c}_{j}_128x128.png", j=range(40)),
    "one folder, numbered on": each("train/{p:06d}.png", p=global_ids(40)),
    "pairs of random numbers": each("{c}/{p}_{q}.png", p=numbers(40), q=numbers(1)),
    "groups of classes": [(f"{a}{i}", f"{a}/{a}{i}/{j}.png") for a in COLOURS for i in range(4) for j in range(9)],
}


def read(rows):
    rows = sorted(rows)
    rng().shuffle(rows)
    names = sorted({name for name, _ in rows})
    return np.array([path for _, path in rows], STRING), np.array([names.index(name) for name, _ in rows])


def alike(first, second):
    """Whether two groupings are the same."""
    pairs = {*zip(first.tolist(), second.tolist(), strict=True)}
    return len(pairs) == len({*first.tolist()}) == len({*second.tolist()})


@pytest.mark.parametrize(("rows", "role", "count", "example"), GROUPED.values(), ids=GROUPED)
def test_names_of_one_origin_or_person_are_taken_as_groups(rows, role, count, example):
    paths, targets = read(rows)
    best, *_ = propose_groups(paths, targets, 5)
    values = read_groups(best.pattern, paths)
    assert (best.role, len({*values.tolist()})) == (role, count)
    assert example is None or example in values.tolist()
    assert alike(values, best.values)


@pytest.mark.parametrize("rows", UNGROUPED.values(), ids=UNGROUPED)
def test_counters_dates_hashes_and_kinds_are_no_groups(rows):
    assert propose_groups(*read(rows), 5) == []


def test_the_other_groups_that_names_suggest_are_named_too():
    rows = each("{c}/photo-{p:06d}_sketcher{s}.png", p=global_ids(12), s=range(8))
    assert [proposal.role for proposal in propose_groups(*read(rows), 5)] == [Role.ORIGIN, Role.PERSON]


def test_of_many_names_whole_groups_are_looked_at():
    rows = [(str(c), f"{c}/photo{p}-{j}.png") for c in range(12) for p in range(900) for j in (1, 2, 3)]
    paths, targets = read(rows)
    assert len(paths) > 30_000
    [best] = propose_groups(paths, targets, 5)
    assert len({*read_groups(best.pattern, paths).tolist()}) == 12 * 900


def test_a_column_is_taken_by_its_name_and_by_what_it_holds():
    paths, targets = read(each("{c}/{j:03d}.png", j=range(40)))
    rows = np.arange(len(paths))
    who = np.array([f"person {row % 11}" for row in rows], STRING)
    columns = {
        "who": who,
        "photo": np.array([str(row) for row in rows], STRING),
        "user": np.array([*"ab"] * (len(rows) // 2), STRING),
    }
    [proposal] = propose_groups(paths, targets, 5, columns)
    assert proposal.key == "folds.group_column=who"
    assert propose_groups(paths, targets, 5, {"user": np.array([str(target) for target in targets], STRING)}) == []
