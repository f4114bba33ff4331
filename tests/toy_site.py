"""A stand-in for the server, for the tests of the page: the page's files under its policy, and a rule in place of a model."""

import base64
import io
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files

from PIL import Image, ImageDraw

SIDE_PX = 96
MIDDLE_PX = 44  # from here to as far from the other side
CLASSES = ("line", "sun", "umbrella", "바다", "the Eiffel Tower")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
MODEL = {
    "name": "toy",
    "classes": len(CLASSES),
    "class_names": list(CLASSES),
    "size_px": SIDE_PX,
    "backbones": ["none"],
    "folds": 5,
    "accuracy": {"value": 0.512, "ci95": [0.5, 0.524], "of": "out_of_fold"},
    "look": {"line_width_fraction": 0.016, "margin_fraction": 0.05, "ink": 0, "paper": 255},
    "nearest": True,
    "limits": {"body_bytes": 2**20, "pixels": 2**22, "strokes": 1000, "points": 20000},
}


def draw_strokes(asked):
    """Draw JSON strokes in black on white."""
    page = Image.new("L", (SIDE_PX, SIDE_PX), 255)
    pen = ImageDraw.Draw(page)
    scale = SIDE_PX / asked["width"]
    for stroke in asked["strokes"]:
        points = [(x * scale, y * scale) for x, y in stroke["points"]]
        wide = max(2, round(stroke["pen"] * scale))
        colour = 255 if stroke["erase"] else 0
        pen.line(points, fill=colour, width=wide, joint="curve")
        for x, y in points:
            pen.ellipse((x - wide / 2, y - wide / 2, x + wide / 2, y + wide / 2), fill=colour)
    return page


def judge(page):
    """Ink in the very middle is a line, other ink is a sun, no ink is nothing. A small ONNX file could hold this rule."""
    if page.getextrema()[0] > 200:
        return None
    fitted = page.resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    return (
        "line" if fitted.crop((MIDDLE_PX, MIDDLE_PX, SIDE_PX - MIDDLE_PX, SIDE_PX - MIDDLE_PX)).getextrema()[0] < 200 else "sun"
    )


def as_data(page):
    file = io.BytesIO()
    page.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def to_answer(page):
    best = judge(page)
    others = [name for name in CLASSES if name != best][:4]
    names = [best or "line", *others][:5]
    top = [
        {"class_name": name, "target": CLASSES.index(name), "probability": p}
        for name, p in zip(names, (0.92, 0.05, 0.02, 0.006, 0.004), strict=True)
    ]
    sure = {
        "words": "almost_certain" if best else "blank",
        "text": "Almost certain.",
        "accuracy": 0.97,
        "low": 0.95,
        "high": 0.98,
        "count": 1204,
    }
    picture = as_data(page.resize((SIDE_PX, SIDE_PX)))
    near = [{"class_name": name, "similarity": 0.9, "image": picture} for name in (names * 2)[:6]]
    return {"name": None, "top": top, "sure": sure, "nearest": near}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/api/model":
            self.reply(200, json.dumps(MODEL).encode(), "application/json")
            return
        name = path.removeprefix("/") or "index.html"
        file = files("inkfold").joinpath("site", name)
        if "/" in name or not file.is_file():
            self.reply(404, b"{}", "application/json")
            return
        self.reply(200, file.read_bytes(), TYPES["." + name.rsplit(".", 1)[-1]])

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            if self.headers["Content-Type"] == "application/json":
                page = draw_strokes(json.loads(body))
            else:
                page = Image.open(io.BytesIO(body)).convert("L")
        except OSError:
            told = {"code": "unreadable", "reason": "no picture", "expected": "PNG or JPEG", "do": "Send another."}
            self.reply(422, json.dumps({"error": told}).encode(), "application/json")
            return
        said = {"answers": [to_answer(page)], "time_ms": {"queued": 0.1, "model": 2.5, "total": 3.0}}
        self.reply(200, json.dumps(said).encode(), "application/json")

    def reply(self, status, body, kind):
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), ("Content-Security-Policy", POLICY)):
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except ConnectionError:
            self.close_connection = True  # the page no longer wanted this answer


@contextmanager
def serve_toy_site():
    """Serve on loopback until the block ends; gives the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
