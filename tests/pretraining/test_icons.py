"""Icons become named line drawings: names joined, unseen classes left out, licences checked, SVG refused."""

import csv
import io
import json
import sys
import tarfile
from pathlib import Path

import icon_names
import icon_pictures
import icons
import numpy as np
import pytest
import yaml

CIRCLE = '<circle cx="12" cy="12" r="8" fill="none" stroke="currentColor" stroke-width="1.5"/>'
DISC = '<circle cx="12" cy="12" r="9" fill="currentColor"/>'
PARTY = '<path fill="#e33" d="M2 2h20v10H2z"/><path fill="#36c" d="M2 12h20v10H2z"/>'
LICENCES = ["MIT", "CC-BY-4.0"]


def joined(name: str, siblings: tuple[str, ...] = ()) -> str:
    """Join a name as `name_drawings` does."""
    others = {" ".join(icon_names.split_words(sibling)) for sibling in siblings}
    return icon_names.object_name(icon_names.without_style(name, others))


def icon_set(name: str, bodies: dict[str, str], licence: str = "MIT", palette: bool = False) -> dict[str, object]:
    """Write a set as its package does."""
    info = {"name": name.title(), "author": {"name": "A", "url": "https://a.example"}, "palette": palette}
    info["license"] = {"spdx": licence, "url": "https://l.example"}
    return {
        "prefix": name,
        "info": info,
        "icons": {key: {"body": body} for key, body in bodies.items()},
        "width": 24,
        "height": 24,
    }


def packed(path: Path, sets: list[dict[str, object]]) -> Path:
    """Pack sets as the registry does."""
    with tarfile.open(path, "w:gz") as package:
        for content in sets:
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(f"package/json/{content['prefix']}.json")
            member.size = len(data)
            package.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat-fill", "cat"),
        ("cat-24-filled", "cat"),
        ("Cats", "cat"),
        ("cat-face", "cat"),
        ("face_cat", "cat"),
        ("aeroplane", "airplane"),
        ("airplane-2-line-duotone", "airplane 2 line"),
        ("automobile", "car"),
        ("tv", "television"),
        ("smartphone-outline", "cell phone"),
        ("teddy-bear", "teddy bear"),
        ("strawberries", "strawberry"),
        ("glass", "glass"),
        ("bus", "bus"),
        ("matches", "match"),
        ("weary-face", "weary face"),
        ("number-5", "number 5"),
        ("pen3", "pen"),
        ("mp3", "mp3"),
    ],
)
def test_names_lose_style_and_number_and_are_joined_with_their_synonyms(name: str, expected: str) -> None:
    assert joined(name) == expected


def test_a_doubtful_style_word_goes_only_where_the_set_has_the_name_in_another_style() -> None:
    assert joined("car-light") == "car light"
    assert joined("car-light", ("car", "car-light")) == "car"
    assert joined("car-light", ("car-bold", "car-light")) == "car"


def test_a_traffic_light_never_becomes_traffic() -> None:
    assert joined("traffic-light", ("traffic", "traffic-light")) == "traffic light"


def test_words_of_quick_draw_and_of_icons_meet_under_one_name() -> None:
    found = icons.quickdraw_names(["airplane", "flip_flops", "t-shirt", "cup"], ["cup"])
    assert found == {"airplane": "airplane", joined("flip-flop-fill"): "flip_flops", joined("tshirt"): "t-shirt"}


@pytest.mark.parametrize(
    ("name", "unseen"),
    [
        ("palm-tree", "palm_tree"),
        ("palmtrees-2", "palm_tree"),
        ("coffee-cup", "cup"),
        ("cups-filled", "cup"),
        ("maple-leaves", "leaf"),
        ("two-buses", "bus"),
        ("moustaches", "moustache"),
        ("mustache", "moustache"),
        ("rhino", "rhinoceros"),
        ("pocketcalculator", "calculator"),
        ("horseshoe", "horse"),
        ("police-car-light", "police_car"),
        ("tiger-face", "tiger"),
        ("grinning-face-with-sweat", "smiley_face"),
    ],
)
def test_an_unseen_class_is_found_as_a_word_a_variant_or_a_plural(name: str, unseen: str) -> None:
    classes = [
        "palm_tree",
        "cup",
        "bus",
        "leaf",
        "moustache",
        "rhinoceros",
        "calculator",
        "horse",
        "police_car",
        "tiger",
        "smiley_face",
    ]
    assert icon_names.UnseenClasses(classes).match(icon_names.split_words(name)) == unseen


@pytest.mark.parametrize("name", ["tablet", "vegetables", "business-bag", "cat-face", "pigment", "trainer", "handlebar"])
def test_words_that_only_begin_like_an_unseen_class_stay(name: str) -> None:
    unseen = icon_names.UnseenClasses(["table", "bus", "smiley_face", "pig", "train", "hand"])
    assert unseen.match(icon_names.split_words(name)) is None


def test_every_class_that_is_left_out_is_found_among_other_words() -> None:
    hidden = sorted(yaml.safe_load(icon_names.WORDS.read_text())["unseen"])
    unseen = icon_names.UnseenClasses(hidden)
    assert [name for name in hidden if unseen.match(icon_names.split_words(f"big-{name}-fill")) is None] == []
    plural = [name for name in hidden if not name.endswith(("s", "yoga"))]
    assert [name for name in plural if unseen.match(["big", *icon_names.split_words(f"{name}s")]) is None] == []


@pytest.mark.parametrize("name", ["flag-fr", "flag-for-france", "waving-dark-skin-tone", "github-logo", "123"])
def test_flags_companies_and_skin_tones_are_dropped(name: str) -> None:
    assert icon_names.is_dropped(icon_names.split_words(name))
    assert not icon_names.is_dropped(["flag"])


def test_categories_before_names_go_where_other_sets_know_the_ending() -> None:
    known = icon_names.Counter({"purse": 3, "product": 9, "bag": 2})
    assert icon_names.join_tails(["product purse", "product bag"], known) == ["purse", "product bag"]


def test_a_share_alike_licence_is_refused_by_name(tmp_path: Path) -> None:
    package = packed(tmp_path / "p.tgz", [icon_set("good", {"cat": CIRCLE}), icon_set("bad", {"cat": CIRCLE}, "CC-BY-SA-4.0")])
    with pytest.raises(icons.IconError, match=r"none: not in(.|\n)*bad: licence CC-BY-SA-4\.0"):
        icons.read_sets(package, {"sets": ["good", "bad", "none"], "licences": LICENCES})


def test_a_package_with_another_digest_is_refused(tmp_path: Path) -> None:
    package = packed(tmp_path / "p.tgz", [icon_set("good", {"cat": CIRCLE})])
    with pytest.raises(icons.IconError, match="expected sha512-x"):
        icons.check_package(package, {"max_bytes": 10_000, "integrity": "sha512-x"})


def test_all_sets_are_pinned_and_every_licence_is_permissive() -> None:
    settings = yaml.safe_load(icons.SETS.read_text())
    assert settings["integrity"].startswith("sha512-")
    assert len(settings["sets"]) == len(set(settings["sets"]))
    assert set(settings["category_first"]) <= set(settings["sets"])
    assert not [spdx for spdx in settings["licences"] if any(word in spdx for word in ("GPL", "SA", "NC", "OFL", "ND"))]


def drawings(names: list[tuple[str, str, str]]) -> list[icons.Drawing]:
    """Make drawings of (name, set, variant)."""
    return [icons.Drawing(*one, icon_pictures.Icon("", (0, 0, 1, 1), False, 0)) for one in names]


def test_each_sets_first_drawing_of_a_name_comes_before_any_sets_second() -> None:
    every = drawings([("cat", f"s{i}", f"cat-{j}") for i in range(5) for j in range(6)])
    kept = icons.select(every, ())
    assert len(kept) == icons.PER_NAME
    assert [one.set_name for one in kept[:5]] == ["s0", "s1", "s2", "s3", "s4"]
    assert len(icons.select(every, ("cat",))) == 5 * icons.PER_SET


def test_a_name_in_two_sets_keeps_one_drawing_of_each() -> None:
    assert len(icons.select(drawings([("cat", f"s{i}", f"cat-{j}") for i in range(2) for j in range(6)]), ())) == 2


@pytest.mark.parametrize(
    "body",
    [
        '<image href="file:///etc/passwd"/>',
        '<use xlink:href="other.svg#a"/>',
        '<path fill="url(http://x)"/>',
        "<!ENTITY a 'b'>",
        CIRCLE * 2000,
        "<use/>" * 9,
    ],
)
def test_svg_that_refers_to_anything_outside_or_is_too_long_is_refused(body: str) -> None:
    pytest.importorskip("resvg_py")
    with pytest.raises(icon_pictures.DrawError, match="refused"):
        icon_pictures.draw(icon_pictures.Icon(body, (0, 0, 24, 24), False, 1))


@pytest.mark.parametrize("body", ["", "<path d='M0 0'/>", "<g>"])
def test_an_empty_or_broken_icon_is_no_drawing(body: str) -> None:
    pytest.importorskip("resvg_py")
    with pytest.raises(icon_pictures.DrawError):
        icon_pictures.draw(icon_pictures.Icon(body, (0, 0, 24, 24), False, 1))


@pytest.mark.parametrize(
    ("body", "coloured", "kinds"),
    [(CIRCLE, False, {"stroke"}), (DISC, False, {"fill", "outline"}), (PARTY, True, {"border", "shaded", "hatched"})],
)
def test_strokes_stay_and_fills_and_colours_get_outlines(body: str, coloured: bool, kinds: set[str]) -> None:
    pytest.importorskip("resvg_py")
    drawn = dict(icon_pictures.draw(icon_pictures.Icon(body, (0, 0, 24, 24), coloured, 1)))
    assert set(drawn) <= kinds
    assert len(drawn) == min(2, len(kinds))
    for picture in drawn.values():
        assert picture.shape == (128, 128)
        assert picture[0, 0] == 255
        assert picture.min() < 30
    if "outline" in kinds:
        assert drawn["outline"][64, 64] == 255
        assert drawn["fill"][64, 64] == 0
    if coloured:
        assert drawn["border"][64, 40] < 128, "the border between two colours is a line"
        assert drawn["border"][40, 40] == 255, "no region is filled"


def test_a_small_package_becomes_pictures_tables_and_attribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resvg_py")
    pen, two = icon_set("pen", {"ball": CIRCLE, "ball-fill": DISC, "cups": CIRCLE, "bad": "<image/>"}), PARTY
    package = packed(tmp_path / "p.tgz", [pen, icon_set("col", {"balls": two, "ball-3": two}, "CC-BY-4.0", palette=True)])
    digest = icons.hashlib.sha512(package.read_bytes()).digest()
    settings = {"integrity": "sha512-" + icons.base64.b64encode(digest).decode(), "max_bytes": 10_000, "sets": ["pen", "col"]}
    (tmp_path / "sets.yaml").write_text(yaml.safe_dump({**settings, "licences": LICENCES, "category_first": []}))
    (tmp_path / "train.csv").write_text("class_name\n" + "\n".join(["anvil", "ball", "cup"]) + "\n")
    monkeypatch.setattr(icons, "SETS", tmp_path / "sets.yaml")
    out = tmp_path / "out"
    command = ["icons", "--quickdraw", str(tmp_path), "--out", str(out), "--package", str(package), "--processes", "1"]
    monkeypatch.setattr(sys, "argv", command)
    icons.main()
    pictures = np.load(out / "icons.npy", allow_pickle=False)
    with (out / "icons.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(pictures) == len(rows)
    assert [(row["set"], row["variant"], row["kind"]) for row in rows[:2]] == [
        ("pen", "ball", "stroke"),
        ("col", "balls", "border"),
    ]
    assert {row["name"] for row in rows} == {"ball"}
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    with (out / "names.csv").open() as file:
        assert list(csv.DictReader(file)) == [
            {"class": "0", "name": "ball", "count": str(len(rows)), "sets": "2", "quickdraw": "ball"}
        ]
    with (out / "left_out.csv").open() as file:
        assert list(csv.DictReader(file)) == [{"icon": "cups", "set": "pen", "class": "cup"}]
    assert "CC-BY-4.0" in (out / "attribution.md").read_text()
