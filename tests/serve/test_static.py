import pytest

from inkfold.serve.messages import Request
from inkfold.serve.static import StaticFiles


@pytest.fixture
def static_files(tmp_path):
    (tmp_path / "words").mkdir()
    for name in ("index.html", "style.css", "app.js", "words/ko.js", "icon.svg", "notes.md"):
        (tmp_path / name).write_text(name)
    (tmp_path.parent / "secret.js").write_text("secret")
    return StaticFiles(tmp_path)


@pytest.mark.parametrize(
    ("path", "name", "kind"),
    [
        ("/", "index.html", "text/html; charset=utf-8"),
        ("/style.css", "style.css", "text/css; charset=utf-8"),
        ("/words/ko.js", "words/ko.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "icon.svg", "image/svg+xml"),
    ],
)
def test_files_have_their_types(static_files, path, name, kind):
    response = static_files.find(Request("GET", path))
    assert (response.status, response.body, response.content_type) == (200, name.encode(), kind)


@pytest.mark.parametrize("path", ["/none.js", "/notes.md", "/../secret.js", "//style.css", "/words", "/words/", "style.css"])
def test_nothing_else_is_found(static_files, path):
    assert static_files.find(Request("GET", path)) is None


def test_a_copy_that_is_still_good_is_not_sent_again(static_files):
    tag = dict(static_files.find(Request("GET", "/")).headers)["etag"]
    again = static_files.find(Request("GET", "/", {}, {"if-none-match": f'"other", W/{tag}'}))
    assert (again.status, again.body) == (304, b"")
    assert static_files.find(Request("GET", "/", {}, {"if-none-match": '"other"'})).status == 200
    assert dict(again.headers)["cache-control"] == "no-cache"


def test_without_a_page_nothing_is_found(tmp_path):
    assert StaticFiles(tmp_path / "none").find(Request("GET", "/")) is None
