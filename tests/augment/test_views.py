import json
import math
import os
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from inkfold.augment import geometric as warp_module
from inkfold.augment.views import AUGMENT_VERSION, GATE_BYTES, GATES_BYTES, IDENTITY, View, parse_view, render, render_batch
from inkfold.config.operations import KINDS, parse_operation

SIDE_PX = 64
DRAWINGS = [b"drawing %d" % i for i in range(2000)]
# One form of each kind, most of them with a range.
FORMS = {
    "hflip": "hflip",
    "vflip": "vflip",
    "rotate": "rotate(25)",
    "scale": "scale(0.2)",
    "shear": "shear(12)",
    "translate": "translate(0.1)",
    "perspective": "perspective(0.1)",
    "elastic": "elastic(60,5)",
    "grid": "grid(4,0.3)",
    "thin": "thin(2)",
    "thicken": "thicken(3)",
    "stroke_dropout": "stroke_dropout(0.3,0.6)",
    "erase": "erase(0.05,0.3)",
    "blur": "blur(0.5,2)",
    "sharpen": "sharpen(0.5,3)",
    "contrast": "contrast(0.3,0.8)",
    "invert": "invert",
    "noise": "noise(20)",
    "jpeg": "jpeg(5,60)",
}
views = st.builds(
    lambda names, shares, seed, index: parse_view(
        " + ".join(f"{FORMS[name]}@{share}" for name, share in zip(names, shares, strict=False)) or "identity", seed, index
    ),
    st.lists(st.sampled_from(sorted(FORMS)), max_size=4),
    st.lists(st.sampled_from([0.25, 0.5, 1]), min_size=4, max_size=4),
    st.integers(0, 3),
    st.integers(0, 3),
)
drawings = st.binary(min_size=1, max_size=32)


def picture(side: int = SIDE_PX, *, coloured: bool = False) -> np.ndarray:
    """A ring, a slope and hatching, by whole numbers only, so that it is the same everywhere."""
    rows, columns = np.indices((side, side)) * 64 // side
    from_centre = (rows - 26) ** 2 + (columns - 36) ** 2
    ring = (from_centre > 14**2) & (from_centre < 17**2)
    slope = np.abs(rows * 2 - columns * 3 + 40) < 5
    hatching = (rows > 44) & (rows < 58) & (columns % 5 < 2) & (columns > 8) & (columns < 30)
    if not coloured:
        return np.where(ring | slope | hatching, np.uint8(12), np.uint8(255))
    pixels = np.full((side, side, 3), (250, 244, 230), np.uint8)
    pixels[slope], pixels[hatching], pixels[ring] = (20, 20, 24), (30, 60, 160), (190, 40, 30)
    return pixels


def shown(text: str, drawing: bytes = b"one", *, seed: int = 0, index: int = 0, coloured: bool = False) -> np.ndarray:
    return render(picture(coloured=coloured), parse_view(text, seed, index), drawing, SIDE_PX)


def test_every_operation_is_covered_here():
    assert list(FORMS) == list(KINDS)


def test_every_operation_has_random_bits_of_its_own_for_its_probability():
    assert len(KINDS) * GATE_BYTES <= GATES_BYTES, "a digest has no room for another operation"


@pytest.mark.parametrize("coloured", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_every_operation_changes_a_drawing_and_leaves_what_is_given(name, coloured):
    pixels = picture(coloured=coloured)
    before = pixels.copy()
    out = render(pixels, parse_view(FORMS[name]), b"one", SIDE_PX)
    assert out.dtype == np.uint8
    assert out.shape == pixels.shape
    assert not np.array_equal(out, pixels)
    np.testing.assert_array_equal(pixels, before)


@settings(max_examples=60, deadline=None)
@given(views, drawings, st.booleans())
def test_the_same_view_of_the_same_drawing_is_the_same_bytes(view, drawing, coloured):
    pixels = picture(coloured=coloured)
    again = parse_view(" + ".join(str(operation) for operation in view.operations) or "identity", view.seed, view.index)
    assert view == again
    assert hash(view) == hash(again)
    first = render(pixels, view, drawing, SIDE_PX)
    render(pixels, view, drawing + b"x", SIDE_PX)  # another drawing between changes nothing
    np.testing.assert_array_equal(render(pixels, again, drawing, SIDE_PX), first)


@settings(max_examples=20, deadline=None)
@given(views, st.permutations(range(6)), st.integers(1, 5), st.booleans())
def test_neither_batches_nor_their_order_change_a_byte(view, order, first, coloured):
    pixels = np.stack([np.roll(picture(coloured=coloured), 5 * i, axis=0) for i in range(6)])
    names = DRAWINGS[:6]
    together = render_batch(pixels, view, names, SIDE_PX)
    shuffled = render_batch(pixels[list(order)], view, [names[i] for i in order], SIDE_PX)
    np.testing.assert_array_equal(shuffled, together[list(order)])
    parts = [render_batch(pixels[part], view, names[part], SIDE_PX) for part in (slice(first), slice(first, None))]
    np.testing.assert_array_equal(np.concatenate(parts), together)
    alone = [render(one, view, name, SIDE_PX) for one, name in zip(pixels, names, strict=True)]
    np.testing.assert_array_equal(np.stack(alone), together)


def test_a_batch_needs_a_name_for_every_drawing():
    with pytest.raises(ValueError, match="zip"):
        render_batch(np.stack([picture()] * 3), parse_view("rotate(9)"), DRAWINGS[:2], SIDE_PX)


@pytest.mark.parametrize("coloured", [False, True])
def test_the_number_of_threads_changes_no_byte(coloured):
    pixels, threads = picture(512, coloured=coloured), cv2.getNumThreads()
    try:
        by_threads = []
        for count in (1, 4):
            cv2.setNumThreads(count)
            by_threads.append([render(pixels, parse_view(form), b"one", 256) for form in FORMS.values()])
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(*by_threads)


def test_an_older_processor_gives_the_same_bytes(tmp_path):
    program = """
import sys
import numpy as np
from inkfold.augment.views import parse_view, render
for form in sys.argv[2:]:
    sys.stdout.buffer.write(render(np.load(sys.argv[1]), parse_view(form), b"one", 96).tobytes())
"""
    path, forms = tmp_path / "picture.npy", ["rotate(25) + elastic(60,5) + grid(4,0.3) + perspective(0.1)", *FORMS.values()]
    np.save(path, picture(160, coloured=True))
    # OpenCV's own names of all that it uses beyond the least of x86-64; it ignores those of other processors.
    environment = {**os.environ, "OPENCV_CPU_DISABLE": "AVX512-SKX,AVX2,AVX,FP16,SSE4.2,SSE4.1", "OPENCV_IPP": "disabled"}
    older = subprocess.run([sys.executable, "-c", program, path, *forms], env=environment, capture_output=True, check=True)
    here = [render(picture(160, coloured=True), parse_view(form), b"one", 96).tobytes() for form in forms]
    assert older.stdout == b"".join(here)


@pytest.mark.parametrize("name", [name for name, form in FORMS.items() if not parse_operation(form).is_fixed])
def test_another_index_seed_or_drawing_is_drawn_anew(name):
    form = f"blur(1,1) + {FORMS[name]}"  # soft edges leave sharpening room
    variants = [shown(form), shown(form, index=1), shown(form, seed=1), shown(form, b"two"), shown(form, seed=1, index=1)]
    assert len({pixels.tobytes() for pixels in variants}) == len(variants)


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.9])
def test_an_operation_is_applied_to_its_share_of_the_drawings(p):
    tiny = np.full((8, 8), 255, np.uint8)
    tiny[2:5, 1:3] = 0
    view = parse_view(f"hflip@{p} + invert@{p}")
    out = render_batch(np.stack([tiny] * 2000), view, DRAWINGS, 8)
    inverted = out[:, 0, 0] == 0
    flipped = out[:, 3, 6] != out[:, 0, 0]
    four_deviations = 4 * math.sqrt(p * (1 - p) / 2000)
    assert inverted.mean() == pytest.approx(p, abs=four_deviations)
    assert flipped.mean() == pytest.approx(p, abs=four_deviations)
    # Each by itself: both together as often as chance has it.
    assert (inverted & flipped).mean() == pytest.approx(p * p, abs=4 * math.sqrt(p * p * (1 - p * p) / 2000))


def test_shares_hold_for_every_kind_and_differ_between_indices():
    text = " + ".join(f"{form}@0.3" for form in FORMS.values())
    applied = np.array(
        [[{one for one, _ in parse_view(text, index=index).applied(name)} for name in DRAWINGS[:1000]] for index in (0, 1)],
        object,
    )
    for operation in parse_view(text).operations:
        first, second = ([operation in one for one in row] for row in applied)
        assert np.mean(first) == pytest.approx(0.3, abs=0.06)  # four deviations
        assert np.mean(second) == pytest.approx(0.3, abs=0.06)
        assert np.mean(np.array(first) == np.array(second)) == pytest.approx(0.3**2 + 0.7**2, abs=0.065)


# Operations that are applied and change nothing.
@pytest.mark.parametrize(
    "idle", ["vflip + vflip", "scale(1,1)", "shear(0,0)", "perspective(0)", "blur(0)", "contrast(1,1)", "noise(0)", "thin(0)"]
)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_adding_an_operation_changes_no_draw_of_the_others(idle, place):
    forms = ["rotate(25)@0.8", "elastic(60,5)@0.7", "stroke_dropout(0.3,0.6)@0.7", "erase(0.05,0.3)@0.7"]
    extended = [*forms[:place], *idle.split(" + "), *forms[place:]]
    for drawing in DRAWINGS[:12]:
        np.testing.assert_array_equal(shown(" + ".join(extended), drawing), shown(" + ".join(forms), drawing))


def test_two_of_a_kind_draw_independently():
    tiny = np.stack([np.full((4, 4), 255, np.uint8)] * 2000)
    twice = render_batch(tiny, parse_view("invert@0.5 + invert@0.5"), DRAWINGS, 4)
    assert (twice[:, 0, 0] == 0).mean() == pytest.approx(0.5, abs=0.045)  # exactly one of them
    np.testing.assert_array_equal(render_batch(tiny, parse_view("invert + invert"), DRAWINGS, 4), tiny)
    one, other = (shown(f"rotate(5,40) + {second}") for second in ("rotate(5,40)", "rotate(-40,-5)"))
    assert not np.array_equal(one, shown("rotate(5,40)"))
    assert not np.array_equal(other, picture())


def test_angles_are_drawn_evenly_from_their_range(monkeypatch):
    angles, rotate = [], warp_module.rotate
    monkeypatch.setattr(warp_module, "rotate", lambda size, degrees: angles.append(degrees) or rotate(size, degrees))
    render_batch(np.stack([np.full((8, 8), 255, np.uint8)] * 1000), parse_view("rotate(10,40)"), DRAWINGS[:1000], 8)
    quarters = np.histogram(angles, [10, 17.5, 25, 32.5, 40])[0]
    assert quarters.sum() == 1000
    assert np.abs(quarters - 250).max() < 4 * math.sqrt(1000 * 0.25 * 0.75)


def test_fixed_numbers_are_taken_as_they_are():
    pixels = picture()
    np.testing.assert_array_equal(shown("rotate(90,90)"), np.rot90(pixels))
    np.testing.assert_array_equal(shown("hflip + vflip"), pixels[::-1, ::-1])
    np.testing.assert_array_equal(shown("translate(0.25,0.25)")[16:, 16:], pixels[:48, :48])
    assert (shown("translate(0.25,0.25)")[:16] == 255).all()
    np.testing.assert_array_equal(shown("scale(2,2) + scale(0.5,0.5)"), pixels)
    np.testing.assert_array_equal(shown("contrast(0,0)"), np.full((64, 64), 255))


def test_order_counts_among_motions_and_among_the_others_and_motions_come_first():
    assert not np.array_equal(shown("translate(0.2,0.2) + rotate(90,90)"), shown("rotate(90,90) + translate(0.2,0.2)"))
    assert not np.array_equal(shown("thin(1,1) + blur(1,1)"), shown("blur(1,1) + thin(1,1)"))
    np.testing.assert_array_equal(shown("thin(1,1) + rotate(30,30)"), shown("rotate(30,30) + thin(1,1)"))


def test_what_comes_into_the_page_is_the_drawings_own_paper():
    out = shown("translate(0.25,0.25)", coloured=True)
    assert (out[:16] == (250, 244, 230)).all()
    assert (out[:, :16] == (250, 244, 230)).all()


def test_after_inversion_the_paper_is_dark():
    blank = np.full((64, 64, 3), (250, 244, 230), np.uint8)
    for text in ("invert + erase(0.3,0.3)", "invert + contrast(0.5,0.5)", "invert + stroke_dropout(0.5,0.5)"):
        np.testing.assert_array_equal(render(blank, parse_view(text), b"one", 64), 255 - blank)


@settings(max_examples=60, deadline=None)
@given(views, drawings)
def test_three_equal_channels_are_one(view, drawing):
    grey = picture()
    out = render(np.repeat(grey[..., None], 3, axis=2), view, drawing, SIDE_PX)
    np.testing.assert_array_equal(out, np.repeat(render(grey, view, drawing, SIDE_PX)[..., None], 3, axis=2))


@pytest.mark.parametrize("coloured", [False, True])
def test_no_operation_at_equal_size_is_the_stored_picture(coloured):
    pixels = picture(coloured=coloured)
    np.testing.assert_array_equal(render(pixels, IDENTITY, b"one", SIDE_PX), pixels)
    np.testing.assert_array_equal(render_batch(pixels[None], IDENTITY, [b"one"], SIDE_PX)[0], pixels)


@pytest.mark.parametrize("text", ["identity", "rotate(25) + scale(0.2)", "grid(4,0.3) + shear(12)", "perspective(0.1) + hflip"])
@pytest.mark.parametrize("coloured", [False, True])
def test_a_larger_stored_size_gives_the_same_view(text, coloured):
    rows, columns = (np.indices((256, 256)) + 0.5) / 256
    cloud = np.exp(-((columns - 0.4) ** 2 + (rows - 0.55) ** 2) / 0.02)
    large = np.rint(255 - (cloud[..., None] * (200, 120, 60) if coloured else 200 * cloud)).astype(np.uint8)
    halves = large.reshape(128, 2, 128, 2, *large.shape[2:]).mean((1, 3)).round().astype(np.uint8)
    for drawing in DRAWINGS[:5]:
        one, other = (render(stored, parse_view(text), drawing, 128).astype(int) for stored in (large, halves))
        assert one.shape == halves.shape
        assert np.abs(one - other).max() <= 5
        assert np.abs(one - other).mean() < 0.7


def test_a_view_that_flips_half_settles_to_two_views():
    view = parse_view("hflip@0.5", seed=3, index=7)
    settled = [view.settled(drawing) for drawing in DRAWINGS]
    assert set(settled) == {IDENTITY, parse_view("hflip")}
    assert settled.count(IDENTITY) == pytest.approx(1000, abs=90)
    assert not view.settles_alike


@settings(max_examples=100, deadline=None)
@given(views, drawings, st.booleans())
def test_a_settled_view_looks_the_same(view, drawing, coloured):
    pixels, settled = picture(coloured=coloured), view.settled(drawing)
    np.testing.assert_array_equal(render(pixels, settled, drawing, 48), render(pixels, view, drawing, 48))
    assert settled.settled(drawing) == settled
    assert settled == view or (settled.is_fixed and settled.seed == settled.index == 0)
    if view.settles_alike:
        assert settled == view


def test_a_view_with_anything_continuous_in_it_is_its_own():
    view = parse_view("hflip@0.5 + rotate(10)@0.5", index=2)
    settled = {view.settled(drawing) for drawing in DRAWINGS[:200]}
    assert settled == {IDENTITY, parse_view("hflip"), view}
    assert parse_view("hflip@0.5 + rotate(10)").settles_alike
    assert IDENTITY.settles_alike


def test_every_part_of_a_view_is_in_its_key():
    texts = [
        "identity",
        "hflip",
        "vflip",
        "hflip@0.5",
        "hflip + vflip",
        "vflip + hflip",
        "rotate(10)",
        "rotate(11)",
        "rotate(-10,11)",
        "rotate(10)@0.5",
        "rotate(10) + hflip",
    ]
    parts = [View(parse_view(text).operations, seed, index) for text in texts for seed in (0, 1) for index in (0, 1)]
    keys = {json.dumps(view.key(), sort_keys=True) for view in parts}
    assert len(keys) == len(set(parts)) == 4 * len(texts)


def test_what_decides_a_changed_pictures_bytes_is_in_the_key_and_only_there():
    key = parse_view("rotate(10)").key()
    assert (key["version"], key["opencv"]) == (AUGMENT_VERSION, cv2.__version__)
    assert not {"version", "opencv"} & set(IDENTITY.key())


def test_views_that_draw_nothing_have_neither_seed_nor_index():
    for text in ("identity", "hflip", "rotate(90,90) + invert", "jpeg(50)"):
        assert parse_view(text, seed=4, index=2) == parse_view(text)
        assert parse_view(text).is_fixed
    for text in ("hflip@0.5", "rotate(10)", "erase(0.1,0.1)"):
        assert parse_view(text, seed=4, index=2) != parse_view(text)
        assert not parse_view(text).is_fixed


@settings(max_examples=60, deadline=None)
@given(views)
def test_a_views_short_form_is_read_as_the_view(view):
    text, _, index = str(view).partition(" #")
    assert parse_view(text, view.seed, int(index or 0)) == view
    assert view.is_fixed == (not index)


def test_a_views_short_form_is_for_people():
    assert str(IDENTITY) == "identity"
    assert str(parse_view("hflip + rotate(90,90)")) == "hflip + rotate(90,90)"
    assert str(parse_view("rotate(-15, 15) @ 0.5 + scale(0.9,1.1)", index=3)) == "rotate(15)@0.5 + scale(0.1) #3"


def test_forms_that_cant_be_read_are_refused_together():
    with pytest.raises(ValueError, match=r"did you mean 'rotate'.*rotate\(400\)"):
        parse_view("rotat(10) + rotate(400)")


# Digests of four draws each, of the grey and of the coloured picture.
GOLDEN = {
    "identity": ("c42be9aedf1871e2", "fcabeec4e8757a6f"),
    "hflip@0.5 + rotate(20) + scale(0.2) + translate(0.1)": ("ebe12c283acd547c", "a0bd02a056ae1268"),
    "perspective(0.1) + elastic(60,5)": ("72bde33a95d9dfe1", "06428e6a92591f8b"),
    "shear(12) + grid(4,0.3) + elastic(200,12)@0.7": ("913ff1713aee124b", "2fe08092fab41286"),
    "thin(2) + stroke_dropout(0.3) + blur(1.5) + noise(12)": ("1c7ea6f419060cc2", "0c6be56cab2d0c1e"),
    "thicken(3) + erase(0.2) + sharpen(1) + contrast(0.3) + invert@0.5 + jpeg(20,60)": ("87c687d039cd1f37", "e20726b5ebbb0897"),
    "rotate(180) + elastic(20,1.5) + vflip@0.5 + grid(7,0.5)": ("04abf5a60a91da8a", "dad3af141bde26a9"),
}


def pinned(package: str) -> str:
    lines = (Path(__file__).parents[2] / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line.removeprefix(f"{package}==") for line in lines if line.startswith(f"{package}=="))


@pytest.mark.parametrize("coloured", [False, True])
@pytest.mark.parametrize("text", GOLDEN)
def test_no_byte_changes_unless_the_version_is_raised(text, coloured):
    for package, installed in (("opencv-python-headless", cv2.__version__), ("simplejpeg", simplejpeg.__version__)):
        if not f"{pinned(package)}.".startswith(f"{installed}."):
            pytest.skip(f"{package} {installed}: the digests are those of {pinned(package)}, as constraints.txt has it")
    view, names = parse_view(text, seed=1, index=2), DRAWINGS[:4]
    out = render_batch(np.stack([picture(160, coloured=coloured)] * 4), view, names, 96)
    digest = blake2b(out.tobytes(), digest_size=8).hexdigest()
    assert (AUGMENT_VERSION, digest) == (1, GOLDEN[text][coloured]), "raise AUGMENT_VERSION, then pin the new digests here"


def test_equal_views_give_equal_bytes_though_one_of_them_holds_an_operation_twice():
    operation = parse_operation("invert@0.5")
    twice, apart = View((operation, operation)), View((operation, parse_operation("invert@0.5")))
    assert twice == apart
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    for name in DRAWINGS[:50]:
        np.testing.assert_array_equal(render(pixels, twice, name, 32), render(pixels, apart, name, 32))
        np.testing.assert_array_equal(render(pixels, twice, name, 32), render(pixels, twice.settled(name), name, 32))


@pytest.mark.parametrize("idle", ["grid(1,0)", "elastic(0,4)", "rotate(0,0)", "translate(0)"])
@pytest.mark.parametrize("elastic", ["elastic(120,10)", "elastic(900,60)"])
def test_an_elastic_field_is_the_same_beside_motions_that_do_nothing(elastic, idle):
    pixels = np.full((224, 224), 255, np.uint8)
    pixels[::16, :] = 0
    alone, beside = (render(pixels, parse_view(text), DRAWINGS[0], 224) for text in (elastic, f"{elastic} + {idle}"))
    assert np.abs(alone.astype(int) - beside).mean() < 3  # a finer lattice draws the same field a little more sharply
    assert np.abs(alone.astype(int) - pixels).mean() > 15


def test_fields_of_very_different_widths_go_together():
    pixels = np.zeros((224, 224), np.uint8)
    render(pixels, parse_view("elastic(20,1.5) + elastic(100,220)"), b"x", 224)
