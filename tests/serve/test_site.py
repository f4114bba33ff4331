import base64
import io
import re
import shutil
import zlib
from dataclasses import dataclass
from importlib.resources import files
from itertools import product
from urllib.parse import parse_qsl, urlsplit

import cv2
import numpy as np
import pytest
from PIL import Image, features

from accessibility import violations
from hands import (
    CIRCLE,
    LINE,
    MIDDLE,
    PNG,
    bomb,
    draw,
    drop,
    encoded,
    expect,
    hold,
    ink,
    is_empty,
    last_file,
    on_sheet,
    paper,
    picture,
    replay,
    says,
    sent_count,
    sent_side,
    touch,
    visits,
    wait_for,
    wait_until,
    watch_files,
)
from inkfold.data.synthetic import draw_strokes
from inkfold.export.export import ExportOptions, export_onnx
from inkfold.pipeline.train import train
from inkfold.serve.index import write_index
from models import write_ring_index, write_ring_model
from served import served
from toy import toy_data

WIDTHS = (320, 1400)
DRAWN_CLASSES = ("bicycle", "envelope", "fish", "house", "lightning", "snowman")
DRAWN_SEED = 1  # the training drawings' is 0
DRAWN_EACH = 3
BEND = 0.005  # of the paper's side


@dataclass(frozen=True)
class Site:
    """Where the page is served, and what its model calls a circle and a line."""

    url: str
    circle: str
    line: str


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    model = write_ring_model(tmp_path_factory.mktemp("site") / "toy.onnx")
    write_ring_index(model)
    with served(model) as server:
        yield Site(server.url, "sun", "line")


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="the page is drawn on with playwright: pip install playwright")
    file = shutil.which("chromium")
    if file is None:
        pytest.skip("no chromium on the path to draw on the page with; `make browser` installs it where it can")
    with sync_api.sync_playwright() as playwright:
        # without a GPU to imitate, and with 60 frames a second at most, the browser computes a third less
        opened = playwright.chromium.launch(executable_path=file, args=["--no-sandbox", "--disable-gpu"])
        sync_api.expect.set_options(timeout=30_000)
        yield opened
        opened.close()


FROZEN = {
    "backbone": {"name": "ink-small"},
    "train_head": {"epochs": 30, "batch_size": 64, "optimiser": "adamw", "lr": 2.0e-3, "scaling": "standardise"},
}


@pytest.fixture(scope="module")
def demo(browser, tmp_path_factory):
    """The server of a model for six of the demo's classes: drawn, trained, exported and indexed as users do."""
    root = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INKFOLD_HOME", str(root / "home"))
        data = toy_data(root / "data", classes=DRAWN_CLASSES, train_per_class=30, test_per_class=1, size_px=256)
        run = train(FROZEN, f"data={data}", out=root / "run")
        export_onnx(run.path, root / "model.onnx", ExportOptions(drawings=30))
        write_index(run.path, root / "model.onnx")
    with served(root / "model.onnx") as server:
        yield server


@pytest.fixture
def opened(browser, site):
    with visits(browser, site.url) as open_page:
        yield open_page


@pytest.fixture
def opened_demo(browser, demo):
    with visits(browser, demo.url) as open_page:
        yield open_page


def strokes_of(class_name, index):
    """What a hand would draw, with points only where it bends: each is an event."""
    strokes = draw_strokes(class_name, np.random.default_rng([DRAWN_SEED, index, zlib.crc32(class_name.encode())]))
    return [cv2.approxPolyDP(stroke, BEND, False)[:, 0].tolist() for stroke in strokes]


def test_what_the_mouse_draws_is_named_with_its_rivals_and_its_nearest_drawings(opened, site):
    page = opened()
    is_empty(page)
    draw(page, CIRCLE)
    says(page, site.circle)
    assert page.locator("#bars .bar").count() == 5
    assert page.locator("#near img").count() == 6
    assert page.evaluate("[...document.querySelectorAll('#near img')].every(one => one.complete && one.naturalWidth > 0)")
    expect(page.locator("#took")).to_contain_text("ms")
    page.keyboard.press("Control+z")
    draw(page, LINE)
    says(page, site.line)


def test_the_answer_comes_while_the_pen_is_still_down(opened, site):
    page = opened()
    start, *others = on_sheet(page, LINE)
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*others[0])
    says(page, site.line)
    page.mouse.up()


def test_what_a_finger_draws_is_named_and_nothing_scrolls(opened, site):
    page = opened(380, has_touch=True, is_mobile=True)
    touch(page, CIRCLE)
    says(page, site.circle)
    assert page.evaluate("scrollY") == 0
    page.locator("#undo").tap()
    is_empty(page)
    touch(page, LINE)
    says(page, site.line)


def test_undo_redo_clear_and_the_eraser_change_the_answer(opened, site):
    page = opened()
    draw(page, LINE)
    says(page, site.line)
    page.click("#undo")
    is_empty(page)
    expect(page.locator("#undo")).to_be_disabled()
    page.click("#redo")
    says(page, site.line)
    page.click("#eraser")
    drawn = ink(page)
    draw(page, MIDDLE)
    says(page, site.circle)
    assert ink(page) < drawn
    page.keyboard.press("Control+z")
    says(page, site.line)
    page.keyboard.press("Control+y")
    says(page, site.circle)
    page.click("#clear")
    is_empty(page)
    assert ink(page) == 0
    page.click("#undo")
    says(page, site.circle)
    page.keyboard.press("Delete")
    is_empty(page)


def grey(page, point):
    """The grey value of the paper at a point, in parts of its side."""
    return grey_at(paper(page), point)


def grey_at(image, point):
    return image.getpixel(tuple(round(part * side) for part, side in zip(point, image.size, strict=True)))


def click(page, point):
    page.mouse.click(*on_sheet(page, [point])[0])


def test_a_tap_is_seen_as_the_dot_that_is_sent(opened):
    page = opened()
    held = hold(page)
    click(page, (0.25, 0.25))
    wait_for(page, held, 1)
    assert [len(one["points"]) for one in held[0].request.post_data_json["strokes"]] == [1]
    page.locator("#sheet").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Space")
    dots = [(0.25, 0.25), (0.5, 0.5)]  # the keyboard's pen begins in the middle
    assert [grey(page, dot) < 64 for dot in dots] == [True, True]
    assert [grey(page, (x + 0.02, y)) for x, y in dots] == [255, 255]
    page.click("#undo")
    assert [grey(page, dot) < 64 for dot in dots] == [True, False]
    page.click("#redo")
    assert [grey(page, dot) < 64 for dot in dots] == [True, True]
    page.click("#eraser")
    click(page, (0.25, 0.25))
    assert [grey(page, dot) < 64 for dot in dots] == [False, True]


def test_a_finger_taps_a_dot(opened):
    page = opened(380, has_touch=True, is_mobile=True)
    page.locator("#sheet").tap(position={"x": 100, "y": 100})
    side = page.locator("#sheet").bounding_box()["width"]
    assert grey(page, (100 / side, 100 / side)) < 64


def test_a_pasted_picture_is_shown_and_named(opened, site):
    page = opened(permissions=["clipboard-read", "clipboard-write"])
    page.evaluate(
        """async data => navigator.clipboard.write([new ClipboardItem({"image/png":
        new Blob([Uint8Array.from(atob(data), c => c.charCodeAt(0))], {type: "image/png"})})])""",
        base64.b64encode(picture()).decode(),
    )
    page.keyboard.press("Control+v")
    says(page, site.circle)
    assert ink(page) > 0.01


def test_a_dropped_picture_is_sent_as_its_file_and_once_drawn_upon_as_it_looks(opened, site):
    page = opened()
    watch_files(page)
    data = picture()
    drop(page, data)
    says(page, site.circle)
    assert last_file(page) == (PNG, data)
    draw(page, LINE)
    says(page, site.line)
    assert sent_side(page) <= 1024
    click(page, (0.1, 0.1))
    wait_until(page, lambda: grey_at(Image.open(io.BytesIO(last_file(page)[1])).convert("L"), (0.1, 0.1)) < 64)
    for _ in range(3):
        page.keyboard.press("Control+z")
    is_empty(page)


def test_a_chosen_picture_that_is_too_large_for_the_server_is_sent_smaller(opened, site):
    page = opened()
    watch_files(page)
    with page.expect_file_chooser() as chooser:
        page.click("#choose")
    chooser.value.set_files({"name": "large.png", "mimeType": PNG, "buffer": picture(size=(2400, 1800))})
    says(page, site.circle)
    assert sent_side(page) <= 1024


def svg(path):
    """A ring as an SVG without a size, which would run a script, load from elsewhere and show HTML where it could."""
    return f"""<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 60 40" onload="fetch('/evil')">
        <style>path {{ stroke: black }}</style><script>fetch("/evil")</script><image href="http://127.0.0.1:9/x.png"/>
        <path d="{path}" fill="none" stroke-width="2"/>
        <foreignObject width="5" height="5"><b xmlns="http://www.w3.org/1999/xhtml">x</b></foreignObject></svg>""".encode()


def test_what_the_browser_shows_and_the_server_doesnt_read_is_sent_as_its_pixels(opened, site):
    page = opened()
    watch_files(page)
    ring = "M" + "L".join(f"{60 * x:.1f} {40 * y:.1f}" for x, y in CIRCLE)
    files = {"ring.svg": svg(ring), "ring.ico": encoded("ICO", (200, 200))}
    if features.check("avif"):
        files["ring.avif"] = encoded("AVIF", (300, 200))
    for count, (name, data) in enumerate(files.items(), 1):
        drop(page, data, name=name, kind="")
        wait_until(page, lambda count=count: sent_count(page) == count)
        says(page, site.circle)
        kind, sent = last_file(page)
        assert kind == PNG
        assert max(Image.open(io.BytesIO(sent)).size) <= 1024
        expect(page.locator("#unseen")).to_be_hidden()
        assert ink(page) > 0.01
    wide = svg("M0 20L60 20").replace(b"viewBox", b'width="90%" viewBox')
    drop(page, wide, name="wide.svg")
    wait_until(page, lambda: sent_count(page) == len(files) + 1)
    assert Image.open(io.BytesIO(last_file(page)[1])).size == (1024, 683)


def test_a_file_that_is_no_picture_is_explained_in_the_users_language(opened):
    page = opened(refused=["422"], locale="ko-KR")
    drop(page, bytes(range(256)), name="what.bin", kind="")
    expect(page.locator("#trouble")).to_contain_text("그림 파일이 아니에요")
    assert re.findall(r"b'|\\\\x|expected|got ", page.inner_text("main")) == []


FOUND = {"left": 180, "top": 180, "right": 820, "bottom": 820}
SURE = {"words": "likely", "text": "", "accuracy": 0.0, "low": 0.0, "high": 0.7, "count": 2}
ANSWER = {"name": None, "top": [{"class_name": "sun", "target": 0, "probability": 0.7}], "sure": SURE, "nearest": []}
FOUND_IN_PICTURE = {"left": 30, "top": 20, "right": 210, "bottom": 160}


def frames(page, asked):
    """Let the server find the same frames every time, unless one is chosen; keep what is asked for."""

    def answer(route):
        is_sketch = "json" in route.request.headers["content-type"]
        query = dict(parse_qsl(urlsplit(route.request.url).query))
        chosen = route.request.post_data_json.get("frame") if is_sketch else query.get("frame")
        asked.append(chosen)
        frame = chosen if is_sketch and chosen else FOUND if is_sketch else FOUND_IN_PICTURE
        route.fulfill(json={"answers": [{**ANSWER, "frame": frame}], "time_ms": {"queued": 0, "model": 1, "total": 1}})

    page.route("**/predict*", answer)


def shown_frame(page):
    """The edges of the frame on the page, in thousandths of the paper's side."""
    sheet, marks = (page.locator(one).bounding_box() for one in ("#sheet", "#marks"))
    left, top = ((marks[axis] - sheet[axis]) / sheet["width"] for axis in "xy")
    sides = (left, top, left + marks["width"] / sheet["width"], top + marks["height"] / sheet["width"])
    return [round(1000 * side) for side in sides]


def drag(page, start, end):
    page.mouse.move(*on_sheet(page, [start])[0])
    page.mouse.down()
    page.mouse.move(*on_sheet(page, [end])[0])
    page.mouse.up()


def test_the_frame_that_the_model_sees_is_shown_and_corrected(opened, site):
    page, asked = opened(reduced_motion="reduce"), []
    frames(page, asked)
    draw(page, CIRCLE)
    says(page, site.circle)
    assert shown_frame(page) == pytest.approx([180, 180, 820, 820], abs=2)
    expect(page.locator("#measured")).to_have_text(re.compile("Too few drawings"))  # not 0% of 2
    expect(page.locator("#framed")).to_be_hidden()
    click(page, (0.05, 0.95))
    expect(page.locator("#framed")).to_contain_text("One mark is outside the frame")
    page.click("#count-all")
    expect(page.locator("#framed")).to_contain_text("All of the paper counts")
    wait_until(page, lambda: asked[-1] == {"left": 0, "top": 0, "right": 1000, "bottom": 1000})
    assert shown_frame(page) == [0, 0, 1000, 1000]
    page.keyboard.press("Control+z")
    page.keyboard.press("f")
    drag(page, (0.18, 0.18), (0.1, 0.15))  # a corner
    expect(page.locator("#framed")).to_contain_text("You chose")
    assert shown_frame(page) == pytest.approx([100, 150, 820, 820], abs=2)
    edge = page.locator("#marks [data-edges=right]")
    edge.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert edge.get_attribute("aria-valuetext") == "85% from the left"
    assert shown_frame(page) == pytest.approx([100, 150, 845, 820], abs=2)
    drag(page, (0.3, 0.35), (0.6, 0.7))  # a new one
    assert shown_frame(page) == pytest.approx([300, 350, 600, 700], abs=2)
    wait_until(page, lambda: asked[-1] and list(asked[-1].values()) == pytest.approx([300, 350, 600, 700], abs=2))
    page.keyboard.press("f")
    page.click("#automatic")
    expect(page.locator("#framed")).to_contain_text("outside")
    assert shown_frame(page) == pytest.approx([180, 180, 820, 820], abs=2)
    assert asked[-1] is None


def test_a_pictures_frame_is_shown_where_the_picture_lies_and_sent_in_its_pixels(opened, site):
    page, asked = opened(reduced_motion="reduce"), []
    frames(page, asked)
    drop(page, picture(size=(300, 200)))
    says(page, site.circle)
    # 300 px are the paper's side, and 167 thousandths of it lie above the picture
    assert shown_frame(page) == pytest.approx([100, 233, 700, 700], abs=2)
    expect(page.locator("#framed")).to_contain_text("The model sees the part within the frame")
    page.click("#frame")
    drag(page, (0.2, 0.05), (0.8, 0.5))  # above the picture there is nothing
    wait_until(page, lambda: len(asked) == 2)
    assert asked[0] is None
    assert [float(part) for part in asked[1].split(",")] == pytest.approx([60, 0, 240, 100], abs=1)
    page.click("#count-all")
    expect(page.locator("#framed")).to_contain_text("All of the picture counts")
    wait_until(page, lambda: asked[2:] == ["page"])


def test_a_picture_that_only_the_server_finds_too_large_is_sent_smaller(opened, site):
    page = opened(refused=["422"])
    told = {"error": {"code": "too_large", "reason": "x", "expected": "y", "do": "Do z."}}
    data = picture()

    def refuse_the_file(route):
        route.fulfill(status=422, json=told) if route.request.post_data_buffer == data else route.continue_()

    page.route("**/predict*", refuse_the_file)
    watch_files(page)
    drop(page, data)
    says(page, site.circle)
    assert sent_side(page) == 1000  # its model takes a million pixels


def test_a_broken_picture_is_explained_and_one_can_go_on(opened, site):
    page = opened(refused=["422", "415"])
    drop(page, picture()[:60], name="torn.png")
    trouble = page.locator("#trouble")
    expect(trouble).to_contain_text("can’t read this as a drawing")
    expect(page.locator("#trouble-hint")).to_contain_text("cut short")
    expect(page.locator("#retry")).to_be_hidden()
    expect(page.locator("#unseen")).to_contain_text("torn.png")
    expect(page.locator("#answer")).to_be_hidden()
    page.click("#clear")
    expect(trouble).to_be_hidden()
    draw(page, CIRCLE)
    says(page, site.circle)


def test_a_picture_of_too_many_pixels_that_the_browser_cant_show_is_explained(opened, site):
    page = opened(refused=["422"])
    drop(page, bomb(), name="bomb.png")
    expect(page.locator("#trouble")).to_contain_text("too large")
    expect(page.locator("#trouble-hint")).to_contain_text("at most 1 million pixels. Try a smaller picture.")
    draw(page, CIRCLE)
    says(page, site.circle)


def test_one_can_draw_with_the_keyboard_alone(opened, site):
    page = opened()
    for _ in range(4):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "sheet":
            break
    expect(page.locator("#sheet")).to_be_focused()
    for key in ("ArrowLeft", "ArrowUp"):
        for _ in range(5):
            page.keyboard.press(key)
    expect(page.locator("#ring")).to_be_visible()
    expect(page.locator("#place")).to_have_text("40% from the left, 40% from the top")
    page.keyboard.press("Space")
    expect(page.locator("#voice")).to_have_text("Pen down, 40% from the left, 40% from the top")
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
        for _ in range(10):
            page.keyboard.press(key)
    page.keyboard.press("Space")
    says(page, site.circle)
    expect(page.locator("#voice")).to_contain_text(site.circle)
    page.keyboard.press("Escape")
    expect(page.locator("#ring")).to_be_hidden()
    page.keyboard.press("e")
    expect(page.locator("#eraser")).to_have_attribute("aria-pressed", "true")
    press_hangul(page, "ㅔ", "KeyP")
    expect(page.locator("#pen")).to_have_attribute("aria-pressed", "true")
    width = page.locator("#width")
    before = float(width.input_value())
    page.keyboard.press("]")
    assert float(width.input_value()) > before
    page.keyboard.press("Control+z")
    is_empty(page)
    page.keyboard.press("Control+Shift+Z")
    says(page, site.circle)
    press_hangul(page, "ㅋ", "KeyZ", control=True)
    is_empty(page)


def press_hangul(page, key, code, *, control=False):
    """Press a key of a Korean layout."""
    session = page.context.new_cdp_session(page)
    press = {"key": key, "code": code, "modifiers": 2 if control else 0}
    session.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **press})
    session.send("Input.dispatchKeyEvent", {"type": "keyUp", **press})


def test_single_keys_can_be_turned_off_for_good(opened):
    page = opened()
    eraser = page.locator("#eraser")
    assert eraser.get_attribute("title") == "Eraser (E)"
    page.locator("summary").click()
    page.uncheck("#single-keys")
    for _ in range(2):
        page.keyboard.press("e")
        page.keyboard.press("f")
        page.keyboard.press("]")
        expect(page.locator("#pen")).to_have_attribute("aria-pressed", "true")
        assert page.locator("#width").input_value() == "16"
        assert eraser.get_attribute("title") == "Eraser"
        assert eraser.get_attribute("aria-keyshortcuts") is None
        page.reload()
        page.locator("#known").wait_for()
    click(page, (0.5, 0.5))
    page.keyboard.press("Control+z")
    is_empty(page)


def test_what_is_known_can_be_searched_and_typing_there_draws_nothing(opened):
    page = opened()
    classes = page.locator("#classes li:visible")
    known = classes.count()
    draw(page, LINE)
    page.fill("#search", "")
    page.locator("#search").press_sequentially("eiffelp")
    page.keyboard.press("Backspace")
    assert classes.all_inner_texts() == ["the Eiffel Tower"]
    page.keyboard.press("Delete")
    expect(page.locator("#answer")).to_be_visible()
    page.fill("#search", "")
    assert classes.count() == known


def test_the_page_speaks_korean_to_koreans_and_keeps_what_is_chosen(opened, site):
    page = opened(locale="ko-KR")
    assert page.evaluate("document.documentElement.lang") == "ko"
    draw(page, CIRCLE)
    says(page, site.circle)
    expect(page.locator("#sure")).to_have_text("거의 확실해요.")
    page.click("[data-language=en]")
    expect(page.locator("#sure")).to_have_text("Almost certain.")
    assert page.locator("#sheet").get_attribute("aria-label") == "Drawing paper"
    page.reload()
    page.locator("#known").wait_for()
    assert page.evaluate("document.documentElement.lang") == "en"


def test_both_languages_have_every_word_that_the_page_asks_for(opened):
    page = opened()
    words = page.evaluate(
        """async () => {
        const flat = (one, at = "") => Object.entries(one).flatMap(([key, value]) =>
            typeof value === "object" ? flat(value, at + key + ".") : [at + key]);
        const [{english}, {korean}] = [await import("./english.js"), await import("./korean.js")];
        return [flat(english).sort(), flat(korean).sort()];
    }"""
    )
    assert words[0] == words[1]
    html = files("inkfold.serve").joinpath("site", "index.html").read_text("utf-8")
    assert set(re.findall(r'data-(?:word|label|placeholder)="(\w+)"', html)) <= set(words[0])


def test_nothing_overflows_on_phones_and_desktops_by_day_and_by_night(opened, site):
    page = opened()
    wide = """[...document.body.querySelectorAll("*")].filter(one => !one.closest(".unseen, .skip, #marks")
        && one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 200))"""
    draw(page, CIRCLE)
    says(page, site.circle)
    page.locator("summary").click()
    page.click("#frame")
    for width, scheme, language in product(WIDTHS, ("light", "dark"), ("ko", "en")):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        page.click(f"[data-language={language}]")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(wide) == []
        assert page.locator("#width").bounding_box()["width"] > 120
        assert page.evaluate("(one => one.scrollWidth - one.clientWidth)(document.querySelector('#classes'))") == 0
        assert page.evaluate("getComputedStyle(document.querySelector('#sheet')).backgroundColor") == "rgb(255, 255, 255)"
        if width == WIDTHS[0] or language == "en":
            assert violations(page) == []


def test_a_slow_server_is_waited_for_by_one_question_while_one_draws_on(opened, site):
    page = opened()
    held = hold(page)
    draw(page, CIRCLE)
    expect(page.locator("#took")).to_contain_text("Waiting")
    drawn = ink(page)
    draw(page, LINE)
    assert ink(page) > drawn
    assert len(held) == 1
    held[0].continue_()
    expect(page.locator("#answer")).to_be_visible()
    wait_for(page, held, 2)
    held[1].continue_()
    says(page, site.line)


def test_an_answer_to_what_was_cleared_is_never_waited_for(opened, site):
    page = opened()
    held = hold(page)
    draw(page, CIRCLE)
    wait_for(page, held, 1)
    page.click("#clear")
    is_empty(page)
    page.unroute("**/predict*")
    draw(page, LINE)
    says(page, site.line)


def test_what_goes_wrong_is_explained_and_passes(opened, site):
    troubles = {401: "no longer knows you", 429: "Too many", 503: "isn’t ready", 504: "in time", 500: "went wrong"}
    page = opened(refused=list(map(str, troubles)))
    told = {"error": {"code": "x", "reason": "got x", "expected": "y", "do": "Do z."}}
    box = page.locator("#trouble")
    for status, word in troubles.items():
        answer = {"status": status, "json": told, "headers": {"Retry-After": "60"}}
        page.route("**/predict*", lambda route, _, answer=answer: route.fulfill(**answer))
        drop(page, picture())
        expect(box).to_contain_text(word)
        page.unroute("**/predict*")
        page.click("#retry")
        says(page, site.circle)
        expect(box).to_be_hidden()
        page.click("#clear")
        is_empty(page)


def test_a_server_that_is_gone_is_asked_again_by_itself(opened, site):
    page = opened(refused=["ERR_FAILED", "ERR_CONNECTION_REFUSED"])
    page.route("**/predict*", lambda route: route.abort("connectionrefused"))
    draw(page, CIRCLE)
    expect(page.locator("#trouble")).to_contain_text("can’t be reached")
    page.unroute("**/predict*")
    says(page, site.circle)


def is_shown(page, answer):
    """Wait until the page shows an answer, and only that: all bars in order."""
    says(page, answer["top"][0]["class_name"])
    expect(page.locator("#bars .name")).to_have_text([one["class_name"] for one in answer["top"]])
    expect(page.locator("#near .name")).to_have_text([one["class_name"] for one in answer["nearest"]])


def as_sent(asked, strokes):
    """A question like another one, about other strokes."""
    pen = asked["strokes"][0]
    return {**asked, "strokes": [{**pen, "points": (np.array(one) * asked["width"]).tolist()} for one in strokes]}


@pytest.mark.parametrize(
    ("hand", "index", "visit"),
    [(draw, 0, {"width": 900}), (touch, DRAWN_EACH, {"width": 380, "has_touch": True, "is_mobile": True})],
    ids=["mouse", "touch"],
)
def test_drawings_replayed_by_hand_get_their_class_on_the_demos_model(opened_demo, demo, hand, index, visit):
    """Drawings of half the classes by hand; the page is shown to send what is drawn, and so the others are sent without it."""
    page = opened_demo(**visit)
    held, right, sent_alone = hold(page), [], []
    by_hand = DRAWN_CLASSES[bool(index) :: 2]  # the mouse draws every other class, the finger those between
    for class_name in by_hand:
        strokes = strokes_of(class_name, index)
        asked, answer = replay(page, held, hand, strokes)
        is_shown(page, answer)
        for sent, drawn in zip(asked["strokes"], strokes, strict=True):
            np.testing.assert_allclose(np.array(sent["points"]) / asked["width"], drawn, atol=0.001)
        assert demo.ask_json("POST", "/predict?top=5&nearest=6", asked)[1]["answers"] == [answer]
        page.keyboard.press("Delete")
        is_empty(page)
        right.append(answer["top"][0]["class_name"] == class_name)
        sent_alone += [(class_name, other) for other in range(index + 1, index + DRAWN_EACH)]
    others = [class_name for class_name in DRAWN_CLASSES if class_name not in by_hand]
    sent_alone += [(class_name, other) for class_name in others for other in range(index, index + DRAWN_EACH)]
    for class_name, other in sent_alone:
        [answer] = demo.ask_json("POST", "/predict?top=1", as_sent(asked, strokes_of(class_name, other)))[1]["answers"]
        right.append(answer["top"][0]["class_name"] == class_name)
    assert len(right) == len(DRAWN_CLASSES) * DRAWN_EACH
    assert sum(right) >= len(right) * 2 / 3  # by chance 1/6 are


def test_undo_brings_the_demos_answer_before_back_and_clear_an_empty_page(opened_demo):
    page = opened_demo()
    held = hold(page)
    strokes = strokes_of("house", 0)
    _, before = replay(page, held, draw, strokes[:1])
    is_shown(page, before)
    _, after = replay(page, held, draw, strokes[1:])
    is_shown(page, after)
    assert [one["class_name"] for one in after["top"]] != [one["class_name"] for one in before["top"]]
    page.unroute("**/predict*")
    for _ in strokes[1:]:
        page.click("#undo")
    is_shown(page, before)
    page.click("#clear")
    is_empty(page)
    assert ink(page) == 0


def test_what_the_answer_is_based_on_is_shown_while_it_is_wanted(opened, site):
    page = opened()
    draw(page, CIRCLE)
    says(page, site.circle)
    image, legend = page.locator("#why-ink"), page.locator("#why-legend")
    expect(image).to_be_hidden()
    page.locator("#why").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#why")).to_have_attribute("aria-pressed", "true")
    expect(image).to_be_visible()
    expect(legend).to_contain_text(f"speaks for {site.circle}")
    expect(page.locator("#why-said")).to_contain_text(site.circle)
    assert violations(page) == []
    paper_box, ink_box = page.locator("#sheet").bounding_box(), image.bounding_box()
    middle = [box["x"] + box["width"] / 2 - paper_box["x"] for box in (paper_box, ink_box)]
    assert abs(middle[0] - middle[1]) < paper_box["width"] / 50
    page.click("[data-language=ko]")
    expect(legend).to_contain_text("쪽")
    draw(page, MIDDLE)  # a new answer is explained anew
    expect(image).to_be_hidden()
    expect(image).to_be_visible()
    page.click("#why")
    expect(image).to_be_hidden()
    expect(legend).to_be_hidden()
