"""What a user's hands do on the page, and what the page then shows."""

import base64
import contextlib
import io
import math
import struct
import zlib

from PIL import Image, ImageDraw

CIRCLE = [(0.5 + 0.3 * math.cos(math.tau * i / 24), 0.5 + 0.3 * math.sin(math.tau * i / 24)) for i in range(25)]
LINE = [(0.2, 0.2), (0.5, 0.5), (0.8, 0.8)]
MIDDLE = [(0.4, 0.4), (0.5, 0.5), (0.6, 0.6)]
PNG = "image/png"


@contextlib.contextmanager
def visits(browser, url):
    """Open pages of a site; whatever they complain of fails the test, but for refused requests that it names."""
    contexts, complaints, expected = [], [], []

    def open_page(width=1400, *, refused=(), **options):
        context = browser.new_context(**{"viewport": {"width": width, "height": 900}, "locale": "en-GB", **options})
        context.set_default_timeout(30_000)
        context.add_init_script("document.addEventListener('securitypolicyviolation', e => console.error(e.violatedDirective))")
        contexts.append(context)
        expected.extend(refused)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if not is_own(request.url, url) else None)
        page.goto(url)
        page.locator("#known").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    unexpected = [one for one in complaints if not any(word in one for word in expected)]
    assert unexpected == []


def is_own(url, own):
    return url.startswith((own, "data:", "blob:"))


def on_sheet(page, points):
    box = page.locator("#sheet").bounding_box()
    return [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]


def draw(page, points):
    start, *others = on_sheet(page, points)
    page.mouse.move(*start)
    page.mouse.down()
    for point in others:
        page.mouse.move(*point)
    page.mouse.up()


def touch(page, points):
    """Draw with a finger: real touch events, which the browser turns into pointer events or scrolls."""
    session = page.context.new_cdp_session(page)
    kinds = ["touchStart"] + ["touchMove"] * (len(points) - 1)
    for kind, (x, y) in zip(kinds, on_sheet(page, points), strict=True):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def expect(locator):
    from playwright.sync_api import expect as expectation

    return expectation(locator, "of the page")


def says(page, name):
    expect(page.locator("#best")).to_have_text(name)


def is_empty(page):
    expect(page.locator("#empty")).to_be_visible()
    expect(page.locator("#answer")).to_be_hidden()


def picture(points=CIRCLE, size=(300, 200)):
    return encoded("PNG", size, points)


def encoded(kind, size, points=CIRCLE):
    page = Image.new("RGB", size, "white")
    ImageDraw.Draw(page).line([(x * size[0], y * size[1]) for x, y in points], fill="black", width=max(size) // 50)
    file = io.BytesIO()
    page.save(file, kind)
    return file.getvalue()


def bomb():
    """A PNG of 100 kB with 900 million pixels."""
    side = 30_000

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes((side // 8 + 1) * side))
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def hold(page):
    """Hold questions back until the test lets them go."""
    held = []

    def keep(route):
        held.append(route)

    page.route("**/predict*", keep)
    return held


def wait_for(page, held, count):
    wait_until(page, lambda: len(held) >= count)
    assert len(held) == count


def wait_until(page, condition):
    for _ in range(1500):
        if condition():
            return
        page.wait_for_timeout(20)
    assert condition()


def replay(page, held, hand, strokes):
    """Draw all strokes and let what is asked then pass; gives that question and its answer."""
    held.clear()
    for stroke in strokes:
        hand(page, stroke)
    wait_for(page, held, 1)
    held[0].continue_()
    wait_for(page, held, 2)
    held[1].continue_()
    return held[1].request.post_data_json, held[1].request.response().json()["answers"][0]


def watch_files(page):
    """Keep what the page sends as files, which playwright doesn't show."""
    page.evaluate(
        """() => {
        const ask = fetch;
        window.fetch = async (address, request) => {
            const {body, headers} = request;
            if (body instanceof Blob) {
                const count = (window.sent?.count ?? 0) + 1;
                window.sent = {count, kind: headers["Content-Type"], bytes: [...new Uint8Array(await body.arrayBuffer())]};
            }
            return ask(address, request);
        };
    }"""
    )


def sent_count(page):
    return page.evaluate("window.sent?.count ?? 0")


def last_file(page):
    sent = page.evaluate("window.sent")
    return sent["kind"], bytes(sent["bytes"])


def sent_side(page):
    width, height = Image.open(io.BytesIO(last_file(page)[1])).size
    assert width == height
    return width


def as_transfer(page, data, name="drawn.png", kind=PNG):
    """A DataTransfer in the page that holds one file."""
    script = """([data, name, kind]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name, {type: kind}));
        return transfer;
    }"""
    return page.evaluate_handle(script, [base64.b64encode(data).decode(), name, kind])


def drop(page, data, **options):
    transfer = as_transfer(page, data, **options)
    page.dispatch_event("body", "dragover", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_be_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_be_hidden()


def paper(page):
    """The canvas of what is drawn, in grey."""
    data = page.evaluate("document.querySelector('#base').toDataURL()").split(",")[1]
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("L")


def ink(page):
    """The share of dark pixels on the canvas of what is drawn."""
    counts = paper(page).histogram()
    return sum(counts[:128]) / sum(counts)
