import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from accessibility import violations
from inkfold.cli import main as cli
from inkfold.errors import PredictionError
from inkfold.report.write import write_report
from inkfold.storage.files import write_json
from toy import CLASSES, RECIPE, python, read_rows, toy_data, toy_recipe, write_rows
from toy_runs import audit, made_up, weakness, write_run

NAMES = ("<script>alert(1)</script>", "a & \"b\" 'c' {{ 7 * 7 }}", "$x^2$ " + "long" * 40)
WIDTHS = (380, 1400)


def hostile_data(root):
    """The toy drawings, whose classes have names that no page may take at their word."""
    data = toy_data(root)
    header, *rows = read_rows(data / "train.csv")
    place = header.index("class_name")
    for row in rows:
        row[place] = NAMES[CLASSES.index(row[place])]
    write_rows(data / "train.csv", [header, *rows])
    with (data / "test.csv").open(newline="") as file:
        tests = [row["image_path"] for row in csv.DictReader(file)]
    return data, [(row[header.index("image_path")], row[place]) for row in rows], tests


def hostile_run(out, data, rows, tests, *, seed=0, accuracy=0.4, **recipe):
    names = tuple(dict.fromkeys(name for _, name in rows))
    targets = np.array([names.index(name) for _, name in rows])
    out_of_fold = made_up(
        [path for path, _ in rows], targets, names, accuracy=accuracy, seed=seed, folds=np.arange(len(rows)) % 2
    )
    test = made_up(tests, np.arange(len(tests)) % 3, names, seed=seed)
    keys = {
        "data": {"root": str(data)},
        "image": {"resize": "pad"},
        "backbone": {"name": "<b>x</b>"},
        **recipe,
    }
    write_run(out, data, out_of_fold, test, recipe=keys, warnings=["<img src=x onerror=alert(1)>"])
    write_json(out / "weakness.json", weakness())
    write_json(out / "audit.json", audit([path for path, _ in rows][:3], names))
    return out


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The reports of one run and of two, over classes with hostile names."""
    root = tmp_path_factory.mktemp("reports")
    data, rows, tests = hostile_data(root / "data")
    one = hostile_run(root / "one", data, rows, tests)
    two = hostile_run(root / "two", data, rows, tests, seed=1, accuracy=0.9, seed_of="<i>it</i>")
    assert write_report([one], root / "one.html") > 0
    assert write_report([one, two], root / "both.html") > 0
    return root


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="the report is looked at with playwright: pip install playwright"
    )
    file = shutil.which("chromium")
    if file is None:
        pytest.skip("no chromium on the path to look at the report with; `make browser` installs it where it can")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=file, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def opened(browser):
    """Open a page, offline, and collect whatever it complains of or asks for."""
    contexts = []

    def open_page(file, width=1400, scheme="light", *, scripts=True):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, java_script_enabled=scripts
        )
        contexts.append(context)
        page, complaints = context.new_page(), []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on(
            "request",
            lambda request: complaints.append(request.url) if not request.url.startswith(("file:", "data:")) else None,
        )
        page.goto(Path(file).as_uri())
        return page, complaints

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", ["one", "both"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_errs_and_nothing_overflows(pages, opened, name, scheme, width):
    page, complaints = opened(pages / f"{name}.html", width, scheme)
    for summary in page.query_selector_all("summary"):
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    # what is wider than the page may only be so inside something that scrolls
    wide = """[...document.querySelectorAll("body *")].filter(one => one.getBoundingClientRect().right > innerWidth + 1
        && !one.closest(".scroll, .sprite, svg.plot, svg.ci")).map(one => one.outerHTML.slice(0, 200))"""
    assert page.evaluate(wide) == []
    assert complaints == []
    assert violations(page) == []
    assert page.locator("main").count() == 1
    scrolling = """[...document.querySelectorAll("*")].filter(one => one.scrollWidth > one.clientWidth + 1 && one.tabIndex < 0
        && ["auto", "scroll"].includes(getComputedStyle(one).overflowX)).map(one => one.outerHTML.slice(0, 200))"""
    assert page.evaluate(scrolling) == []
    assert page.evaluate("[...document.querySelectorAll('use')].every(one => document.querySelector(one.href.baseVal))")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_comparison_fits_a_phone_without_scrolling_anything_sideways(pages, opened, scheme):
    page, _ = opened(pages / "both.html", 390, scheme)
    for summary in page.query_selector_all("summary"):
        summary.click()
    wide = """[...document.querySelectorAll("body *")].filter(one => one.getBoundingClientRect().right > innerWidth + 1
        && !one.closest(".sprite, svg")).map(one => one.outerHTML.slice(0, 200))"""
    assert page.evaluate(wide) == []
    labels = page.eval_on_selector_all("#tests td[data-label]", "cells => cells.map(one => one.dataset.label)")
    assert "difference, points" in labels


def test_warnings_stand_open_under_the_headline(pages, opened):
    page, _ = opened(pages / "one.html", 390)
    assert page.locator("#answer .doubts > .doubt").first.is_visible()
    boxes = [
        page.locator(one).first.bounding_box()["y"] for one in ("#answer .figure b", "#answer .doubt", "#answer .facts", "nav")
    ]
    assert boxes == sorted(boxes)
    assert "<img src=x onerror=alert(1)>" in page.inner_text("#answer")


@pytest.mark.parametrize("name", ["one", "both"])
def test_names_are_shown_to_the_letter_and_never_run(pages, opened, name):
    page, complaints = opened(pages / f"{name}.html")
    text = page.inner_text("body")
    for hostile in NAMES:
        assert hostile in text
    assert page.evaluate("document.scripts.length") == 1
    assert page.query_selector("body b:text-is('x'), img, i") is None
    assert complaints == []


def column(page, number):
    return [text.strip() for text in page.locator(f"#class-table tbody tr > :nth-child({number + 1})").all_text_contents()]


def test_tables_sort_by_value_both_ways(pages, opened):
    page, _ = opened(pages / "one.html")
    shares = [int(text) for text in column(page, 3)]
    assert shares == sorted(shares)
    head = page.locator("#class-table th button", has_text="right")
    head.click()
    head.click()
    assert [int(text) for text in column(page, 3)] == sorted(shares, reverse=True)
    assert page.get_attribute("#class-table th[aria-sort]", "aria-sort") == "descending"
    page.locator("#class-table th button", has_text="class").first.click()
    assert sorted(column(page, 1)) == sorted(NAMES)


def test_the_search_leaves_the_classes_whose_name_holds_it(pages, opened):
    page, _ = opened(pages / "one.html")
    visible = page.locator("#class-table tbody tr:visible th")
    page.fill("input[type=search] >> nth=0", "ALERT(1)")
    assert visible.all_text_contents() == [NAMES[0]]
    assert page.inner_text("output >> nth=0") == "1 of 3"
    page.fill("input[type=search] >> nth=0", "")
    assert visible.count() == 3


def test_without_scripts_all_stands_there_and_no_search_that_would_do_nothing(pages, opened):
    page, complaints = opened(pages / "one.html", scripts=False)
    assert page.locator("#class-table tbody tr").count() == 3
    assert not page.locator("input[type=search]").first.is_visible()
    assert not [text for text in complaints if "script" not in text.lower()]


def test_dark_and_light_differ_and_print_is_light(pages, opened):
    grounds = {}
    for scheme in ("light", "dark"):
        page, _ = opened(pages / "one.html", scheme=scheme)
        grounds[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(media="print", color_scheme="dark")
    grounds["print"] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert grounds["print"] == "rgb(255, 255, 255)"
    assert len({*grounds.values()}) == 3
    assert not page.locator("nav").is_visible()


def test_sections_come_in_their_order_the_answer_first(pages):
    text = (pages / "one.html").read_text(encoding="utf-8")
    order = ["answer", "next", "ladder", "curves", "classes", "pairs", "failures", "reliability", "weakness", "audit", "recipe"]
    places = [text.index(f'id="{name}"') for name in order]
    assert places == sorted(places)
    assert "upside down" in text
    assert "One drawing, different labels" in text
    assert "inkfold audit" not in text


def test_a_run_without_an_audit_names_the_command(tmp_path):
    data, rows, tests = hostile_data(tmp_path / "data")
    run = hostile_run(tmp_path / "run", data, rows, tests)
    (run / "audit.json").unlink()
    (run / "weakness.json").unlink()
    assert cli.main(["report", str(run)]) == 0
    text = (run / "report.html").read_text(encoding="utf-8")
    assert text.count("inkfold audit run<") == 1
    assert str(tmp_path) not in text


@pytest.mark.parametrize("name", ["one", "both"])
def test_a_report_can_be_shared_since_no_path_of_this_machine_is_in_it(pages, name):
    text = (pages / f"{name}.html").read_text(encoding="utf-8")
    assert str(pages) not in text
    assert str(Path.home()) not in text
    if name == "one":
        assert '<code>data.root</code></td><td class="name"><code>data</code>' in text


def test_drawings_that_have_moved_are_found_where_the_user_says(tmp_path, capsys):
    data, rows, tests = hostile_data(tmp_path / "data")
    run = hostile_run(tmp_path / "run", data, rows, tests)
    data.rename(tmp_path / "moved")
    assert cli.main(["report", str(run), "--out", str(tmp_path / "bare.html")]) == 0
    assert "0 drawings" in capsys.readouterr().out
    assert "--data DIR" in (tmp_path / "bare.html").read_text(encoding="utf-8")
    assert write_report([run], tmp_path / "full.html", tmp_path / "moved") > 0


def test_equal_runs_give_equal_bytes(pages, tmp_path):
    write_report([pages / "one"], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == (pages / "one.html").read_bytes()


def test_a_page_of_many_classes_and_drawings_stays_small(tmp_path):
    """500 classes and 10,000 test drawings; `benchmarks/report.py` does it with as many files and opens it."""
    data = toy_data(tmp_path / "data")
    names = tuple(f"class {i}" for i in range(500))
    targets = np.arange(15_000) % 500
    out_of_fold = made_up([f"{i}.png" for i in range(15_000)], targets, names, folds=targets % 5)
    test = made_up([f"t{i}.png" for i in range(10_000)], np.arange(10_000) % 500, names, seed=1)
    write_run(tmp_path / "run", data, out_of_fold, test)
    write_report([tmp_path / "run"], tmp_path / "page.html")
    from inkfold.report.thumbnails import MOST_BYTES

    assert (tmp_path / "page.html").stat().st_size + MOST_BYTES < 4.9e6


def test_too_many_or_unfinished_runs_are_refused(tmp_path, capsys):
    with pytest.raises(PredictionError, match="expected 1 to 26"):
        write_report([tmp_path] * 27, tmp_path / "out.html")
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "no finished run" in capsys.readouterr().err


def test_a_report_without_the_suffix_html_is_refused_before_anything_is_read(tmp_path, capsys):
    for out in ("page.txt", "page", "html", "page.html.pdf"):
        assert cli.main(["report", str(tmp_path / "no run"), "--out", str(tmp_path / out)]) == 2
        assert f"got out '{tmp_path / out}', expected a file that ends in .html" in capsys.readouterr().err
        assert not (tmp_path / out).exists()


def test_a_trained_run_and_an_ensemble_are_reported_without_pytorch(tmp_path):
    recipe, data = toy_recipe(tmp_path, RECIPE), toy_data(tmp_path / "data")
    for seed in "12":
        settings = [f"data={data}", "data.test_targets=test_labels.csv", f"out={tmp_path / seed}", f"seed={seed}"]
        assert cli.main(["train", str(recipe), *settings]) == 0
    assert cli.main(["vote", str(tmp_path / "1"), str(tmp_path / "2"), "--out", str(tmp_path / "vote")]) == 0
    code = (
        "import sys\nfrom inkfold.report.write import write_report\n"
        f"for runs, out in (([{str(tmp_path / '1')!r}], 'a'), ([{str(tmp_path / 'vote')!r}], 'b'), "
        f"([{str(tmp_path / '1')!r}, {str(tmp_path / 'vote')!r}], 'c')):\n"
        f"    assert write_report(runs, {str(tmp_path)!r} + '/' + out + '.html') > 0\n"
        "print([name for name in ('torch', 'timm', 'torchvision') if name in sys.modules])"
    )
    assert python(code) == "[]"
    assert 'id="members"' in (tmp_path / "b.html").read_text(encoding="utf-8")


def test_a_vote_over_mere_test_predictions_without_classes_has_a_page_too(tmp_path):
    data, _, tests = hostile_data(tmp_path / "data")
    test = made_up(tests, np.zeros(len(tests), int), NAMES)
    blind = type(test)(test.image_paths, test.probs, NAMES)
    write_run(tmp_path / "run", data, None, blind, with_curve=False)
    write_report([tmp_path / "run"], tmp_path / "page.html")
    assert "nothing can be measured" in (tmp_path / "page.html").read_text(encoding="utf-8")
