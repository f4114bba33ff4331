"""Makes the README's picture: the page of the demo's model while a drawing is made on it. Needs Chromium.

make pictures
"""

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from inkfold.data.synthetic import draw_strokes

HERE = Path(__file__).parent
CLASS, SEED = "bicycle", 5
COLOURS = 64


def main() -> None:
    """Train the demo's model, serve it, draw on its page and save what is seen."""
    with tempfile.TemporaryDirectory() as temp:
        demo, model = Path(temp) / "demo", Path(temp) / "model.onnx"
        inkfold("demo", "--out", str(demo))
        inkfold("export", str(demo / "run"), "--out", str(model), "--nearest")
        command = [sys.executable, "-m", "inkfold", "serve", str(model), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                save(screenshot(address(server)), HERE / "page.png")
            finally:
                server.terminate()


def inkfold(*arguments: str) -> None:
    """Run one command."""
    subprocess.run([sys.executable, "-m", "inkfold", *arguments], check=True)


def address(server: "subprocess.Popen[str]") -> str:
    """Wait for the line that says where the server listens."""
    assert server.stdout is not None
    for line in server.stdout:
        if found := re.search(r"http://[\w.:\[\]]+/?", line):
            return found[0]
    raise SystemExit("the server ended before it listened")


def screenshot(url: str) -> bytes:
    """Draw on the page and take its picture."""
    file = shutil.which("chromium")
    if file is None:
        raise SystemExit("no chromium on the path; install it first: make browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=file, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 760}, locale="en-GB")
        page.goto(url)
        page.locator("#known").wait_for()
        for stroke in draw_strokes(CLASS, np.random.default_rng(SEED)):
            draw(page, [(float(x), float(y)) for x, y in stroke])
        page.locator("#best").wait_for()
        page.wait_for_timeout(1500)
        picture = page.screenshot()
        browser.close()
        return picture


def draw(page: Page, points: list[tuple[float, float]]) -> None:
    """Draw one stroke with the mouse; points are shares of the paper's sides."""
    box = page.locator("#sheet").bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place)
    page.mouse.up()


def save(picture: bytes, path: Path) -> None:
    """Save with few colours: the page is mostly white."""
    image = Image.open(io.BytesIO(picture)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    image.save(path, optimize=True)
    sys.stdout.write(f"{path}: {path.stat().st_size / 1e3:.0f} kB\n")


if __name__ == "__main__":
    main()
