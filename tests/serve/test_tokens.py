import re

import pytest

from inkfold.errors import InkfoldError
from inkfold.serve.messages import Refusal, Request
from inkfold.serve.tokens import Token, check_token, make_token

SECRET = "a-token-of-nineteen"
HTML = {"accept": "text/html,application/xhtml+xml"}


@pytest.fixture
def token():
    return Token(SECRET)


def request(method="GET", path="/", query=None, root_path="", scheme="http", **headers):
    return Request(method, path, query or {}, headers, b"", root_path, scheme=scheme)


def cookie_of(token, **options):
    return dict(token.follow_link(request(query={"token": SECRET}, **options)).headers)["set-cookie"]


@pytest.mark.parametrize("header", [f"Bearer {SECRET}", f"bearer  {SECRET} "])
def test_a_bearers_token_is_taken(token, header):
    assert token.is_carried_by(request(authorization=header))


@pytest.mark.parametrize("header", ["", "Bearer", f"Basic {SECRET}", SECRET, f"Bearer {SECRET}x", "Bearer ß\udcff"])
def test_another_token_is_not(token, header):
    assert not token.is_carried_by(request(authorization=header))


def test_the_cookie_of_the_link_is_taken_among_others(token):
    value = cookie_of(token).partition(";")[0]
    assert token.is_carried_by(request(cookie=f"other=1; {value}; more=2"))
    for wrong in ("", f"{value}0", value.replace("inkfold", "ink"), f"inkfold={SECRET}", "=;;=", value[:-1] + "ß"):
        assert not token.is_carried_by(request(cookie=wrong))
    assert not Token(SECRET + "2").is_carried_by(request(cookie=value))


def test_the_cookie_is_strict_and_does_not_hold_the_token(token):
    name, *attributes = cookie_of(token).split("; ")
    assert re.fullmatch(r"inkfold-[0-9a-f]{8}=[0-9a-f]{32}", name)
    assert attributes == ["Path=/", "HttpOnly", "SameSite=Strict"]
    assert SECRET not in name


def test_below_a_prefix_and_tls_the_cookie_says_so(token):
    _, *attributes = cookie_of(token, root_path="/그림", scheme="https").split("; ")
    assert attributes == ["Path=/%EA%B7%B8%EB%A6%BC/", "HttpOnly", "SameSite=Strict", "Secure"]


def test_servers_on_one_host_have_cookies_of_their_own(token):
    assert cookie_of(token).partition("=")[0] != cookie_of_other().partition("=")[0]


def cookie_of_other():
    return dict(Token("other").follow_link(request(query={"token": "other"})).headers)["set-cookie"]


@pytest.mark.parametrize(
    ("path", "query", "location"),
    [
        ("/", {}, "./"),
        ("/docs", {"a": "1 &"}, "./docs?a=1+%26"),
        ("/api/model", {}, "./model"),
        ("//evil.example", {}, "./evil.example"),
    ],
)
def test_a_link_leads_to_its_address_without_the_token(token, path, query, location):
    answer = token.follow_link(request(path=path, query={**query, "token": SECRET}))
    assert (answer.status, dict(answer.headers)["location"]) == (303, location)


def test_a_browser_is_led_on_by_a_page_of_the_servers_own(token):
    answer = token.follow_link(request(path="/docs", query={"token": SECRET, "a": '"><script>'}, **HTML))
    assert answer.status == 200
    assert b'content="0;url=./docs?a=%22%3E%3Cscript%3E"' in answer.body
    assert "set-cookie" in dict(answer.headers)


def test_a_link_with_another_token_or_for_another_method_leads_nowhere(token):
    assert token.follow_link(request(query={"token": SECRET + "x"})) is None
    assert token.follow_link(request()) is None
    assert token.follow_link(request("POST", query={"token": SECRET})) is None


def test_programs_are_refused_and_people_are_asked(token):
    with pytest.raises(Refusal, match="401 no_token: got no token"):
        token.refuse(request())
    with pytest.raises(Refusal, match="got another token"):
        token.refuse(request(authorization="Bearer x"))
    with pytest.raises(Refusal):
        token.refuse(request("POST", **HTML))
    with pytest.raises(Refusal):
        token.refuse(request(path="/api/model", **HTML))
    page = token.refuse(request(**HTML))
    assert (page.status, dict(page.headers)["www-authenticate"]) == (401, 'Bearer realm="inkfold"')
    assert b'<form action="./" method="get">' in page.body
    assert "form-action 'self'" in dict(page.headers)["content-security-policy"]


def test_tokens_that_are_made_differ_and_can_be_sent():
    made = {make_token() for _ in range(5)}
    assert len(made) == 5
    for secret in made:
        check_token(secret)
        assert len(secret) == 32


@pytest.mark.parametrize("secret", ["", " ", "two words", "tök", "line\nend"])
def test_a_token_that_no_header_can_hold_is_refused(secret):
    with pytest.raises(InkfoldError, match="--token: got"):
        check_token(secret)
