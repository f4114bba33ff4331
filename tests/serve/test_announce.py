import pytest

from inkfold.serve.access import Access, AccessOptions, with_token
from inkfold.serve.announce import page_lines, page_link, url_host

TOKEN = "a-token-of-nineteen"
PROXIED = {"allow_hosts": ("draw.example.com",), "proxies": ("127.0.0.1",)}


def lines(host="127.0.0.1", made=None, **rules):
    options = AccessOptions(**rules)
    access = Access(options if made is None else with_token(options, made))
    first, *others = page_lines(host, 8000, access, options)
    return first, "\n".join(others)


@pytest.mark.parametrize(
    ("host", "shown"),
    [("", "127.0.0.1"), ("::", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("me.lan", "me.lan")],
)
def test_a_link_has_an_address_that_can_be_opened(host, shown):
    assert url_host(host) == shown


def test_on_loopback_there_is_nothing_to_say():
    assert lines() == ("page: http://127.0.0.1:8000/   interface: http://127.0.0.1:8000/docs   stop: Ctrl-C", "")


def test_a_token_that_was_made_is_shown_with_the_page():
    page, note = lines("0.0.0.0", TOKEN)
    assert page.startswith(f"page: http://127.0.0.1:8000/?token={TOKEN} ")
    assert note.startswith("WARNING: 0.0.0.0 can be reached from other machines, by those with the token, without encryption")


def test_a_token_that_the_user_gave_is_not_shown():
    page, note = lines("0.0.0.0", token=TOKEN)
    assert TOKEN not in page + note
    assert "?token=TOKEN" in note
    link = page_link("0.0.0.0", 8000, Access(AccessOptions(token=TOKEN)))
    assert link == f"http://127.0.0.1:8000/?token={TOKEN}"


def test_everybody_is_warned_of_where_no_token_is_wanted():
    assert "every address can be reached from other machines, by anybody, without password" in lines("", no_token=True)[1]


def test_behind_a_proxy_the_page_is_where_people_find_it():
    page, note = lines(root_path="/draw", made=TOKEN, **PROXIED)
    assert page.startswith(f"page: http://127.0.0.1:8000/draw/?token={TOKEN} ")
    assert note == f"behind the proxy: https://draw.example.com/draw/?token={TOKEN}"


def test_a_proxy_that_lets_everybody_in_is_warned_of():
    assert "WARNING: everybody whom the proxy lets in can use it" in lines(**PROXIED)[1]
    assert "WARNING" not in lines(no_token=True, **PROXIED)[1]
    assert "give its public name with --allow-host" in lines(no_token=True, proxies=("127.0.0.1",))[1]


def test_a_short_token_is_warned_of():
    assert "the token has 5 characters, and can be guessed" in lines(token="short")[1]
