"""The page in a browser behind nginx and Caddy, by the configurations of docs/proxies, with a token, with and without a prefix.

    .venv/bin/python benchmarks/behind_proxies.py [MODEL.onnx] [--pictures DIRECTORY] [--quick]

Needs nginx, openssl, caddy and chromium on the path, and playwright. For each configuration a person opens the page without the
token and types it, draws and gets an answer; another opens it by a link with the token in somebody else's page. Without
MODEL.onnx a toy model answers.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Page, sync_playwright

from inkfold.serve.access import AccessOptions

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from hands import CIRCLE, draw
from models import write_ring_model
from proxies import NAME, PROGRAMS, in_front, missing
from served import served

TOKEN = "a-token-of-nineteen"
PATIENCE_MS = 60_000


def visit(browser: Any, address: str, pictures: Path | None, name: str) -> dict[str, bool]:
    """Open the page by its link and draw; say for each thing that must hold whether it does."""
    context = browser.new_context(ignore_https_errors=True, viewport={"width": 1200, "height": 800}, locale="en-GB")
    context.set_default_timeout(PATIENCE_MS)
    page: Page = context.new_page()
    answer = page.goto(address)
    asks = answer is not None and answer.status == 401 and page.locator("input[name=token]").count() == 1
    done = {"asks for the token": asks}
    elsewhere = context.new_page()  # a page of another site, as a mail is read in a browser
    elsewhere.route(
        "**/mail", lambda route: route.fulfill(body=f'<a href="{address}?token={TOKEN}">draw</a>', content_type="text/html")
    )
    elsewhere.goto("https://mail.example/mail")
    elsewhere.click("a")
    elsewhere.locator("#known").wait_for()
    done["link from elsewhere"] = elsewhere.url == address
    page.fill("input[name=token]", TOKEN)
    page.click("button")
    page.locator("#known").wait_for()
    done["typed token"] = page.url == address
    draw(page, CIRCLE)
    page.locator("#best").wait_for(state="visible")
    done["answer"] = page.locator("#best").inner_text() != ""
    cookies = context.cookies()
    path = urlsplit(address).path
    done["strict cookie"] = [(c["path"], c["httpOnly"], c["secure"], c["sameSite"]) for c in cookies] == [
        (path, True, True, "Strict")
    ]
    if pictures is not None:
        page.screenshot(path=pictures / f"{name}.png")
    context.close()
    return done


def main() -> None:
    """Visit the page through every proxy, print a table and the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--pictures", type=Path, help="where a screenshot of each is written")
    parser.add_argument("--quick", action="store_true", help="the configurations with a prefix only")
    options = parser.parse_args()
    configurations = [name for name in PROGRAMS if "prefix" in name or not options.quick]
    lacking = {missing(name) for name in configurations} - {None}
    if lacking:
        sys.exit(f"{', '.join(sorted(map(str, lacking)))}: not installed, which this benchmark needs.")
    access = AccessOptions(token=TOKEN, allow_hosts=(NAME,), proxies=("127.0.0.1",))
    right = wrong = 0
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        model = options.model or write_ring_model(Path(temporary) / "toy.onnx")
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", f"--host-resolver-rules=MAP {NAME} 127.0.0.1"],
        )
        with served(model, access=access) as server:
            for name in configurations:
                directory = Path(temporary) / name
                directory.mkdir()
                with in_front(name, server.port, directory) as proxy:
                    root = "/draw/" if "prefix" in name else "/"
                    done = visit(browser, f"https://{proxy.host}{root}", options.pictures, name)
                print(
                    f"{name:18} " + "  ".join(f"{what}: {'yes' if holds else 'NO'}" for what, holds in done.items()), flush=True
                )
                right, wrong = right + sum(done.values()), wrong + len(done) - sum(done.values())
        browser.close()
    print(f"RESULT proxies={len(configurations)} right={right} wrong={wrong}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
