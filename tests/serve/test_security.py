import socket

import pytest

from inkfold.errors import InkfoldError
from inkfold.serve.messages import Refusal, Response
from inkfold.serve.security import (
    HEADERS,
    check_host,
    check_origin,
    is_loopback,
    resolve,
    security_headers,
    split_host,
    split_listen,
)

NAMES = frozenset({"draw.example.com"})


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST", "localhost.", "192.168.0.5:8000"]
)
def test_addresses_and_localhost_are_served(host):
    check_host({"host": host})
    check_origin({"host": host, "origin": f"http://{host}"})


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:8000", "localhost.evil.example", "a@localhost", "x/localhost", "[::1", "[localhost"],
)
def test_foreign_names_are_refused(host):
    with pytest.raises(Refusal, match="foreign_host"):
        check_host({"host": host}, NAMES)


@pytest.mark.parametrize("host", ["draw.example.com", "Draw.Example.com:8443", "draw.example.com."])
def test_names_of_its_own_are_served(host):
    check_host({"host": host}, NAMES)
    check_origin({"host": host, "origin": f"https://{host}"})


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://localhost:9000",
        "http://127.0.0.1:8000",
        "localhost:8000",
        "http://[::1",
        "file://",
    ],
)
def test_foreign_pages_are_refused(origin):
    with pytest.raises(Refusal, match="foreign_origin"):
        check_origin({"host": "localhost:8000", "origin": origin}, NAMES)


@pytest.mark.parametrize(
    ("host", "origin", "is_own"),
    [
        ("localhost:80", "http://localhost", True),
        ("localhost:443", "https://localhost", True),
        ("localhost", "https://localhost", True),  # a proxy took the encryption off
        ("localhost:443", "http://localhost", False),
        ("[::1]:8000", "http://[0:0::1]:8000", True),
        ("127.0.0.1:8000", "https://draw.example.com:8443", True),  # a proxy that replaces the host
        ("127.0.0.1:8000", "https://x.draw.example.com", False),
    ],
)
def test_an_origin_is_compared_by_scheme_name_and_port(host, origin, is_own):
    if is_own:
        check_origin({"host": host, "origin": origin}, NAMES)
    else:
        with pytest.raises(Refusal, match="foreign_origin"):
            check_origin({"host": host, "origin": origin}, NAMES)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("127.1", True),  # the resolver's short form
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("0", False),
        ("::", False),
        ("", False),
        ("::ffff:192.168.0.1", False),
    ],
)
def test_loopback_is_known(host, expected):
    assert is_loopback(host) is expected


def test_a_name_is_loopback_if_all_its_addresses_are(monkeypatch):
    places = {"both": ["127.0.0.1", "192.168.0.5"], "own": ["127.0.1.1"]}

    def resolver(name, port, **options):
        if name not in places:
            raise socket.gaierror
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in places[name]]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    assert [is_loopback(name) for name in ("both", "own", "unknown")] == [False, True, False]
    assert resolve("both") == places["both"]


@pytest.mark.parametrize(
    ("text", "port", "expected"),
    [
        ("0.0.0.0", None, ("0.0.0.0", None)),
        ("", 9000, ("", 9000)),
        ("::", 9000, ("::", 9000)),
        ("::1", None, ("::1", None)),
        ("[::1]", 9000, ("::1", 9000)),
        ("[::1]:9000", None, ("::1", 9000)),
        ("[::1]:9000", 9000, ("::1", 9000)),
        ("LOCALHOST:9000", None, ("LOCALHOST", 9000)),
        (" 127.0.0.1:0 ", None, ("127.0.0.1", 0)),
    ],
)
def test_an_address_to_listen_on_may_have_its_port(text, port, expected):
    assert split_listen(text, port) == expected


def test_an_address_with_two_ports_or_that_is_a_link_is_refused():
    with pytest.raises(InkfoldError, match="beside --port 1, expected one port"):
        split_listen("[::1]:9000", 1)
    for text in ("http://localhost:8000/", "[::1", ":::::", "a:b"):
        with pytest.raises(InkfoldError, match="expected an address or a name"):
            split_listen(text)


def test_hosts_are_split_from_their_ports():
    assert split_host("localhost:80") == ("localhost", 80)
    assert split_host("localhost:") == ("localhost", None)
    assert split_host("::1") == ("::1", None)
    assert split_host("a:b:c") == ("", None)


def test_an_answers_own_header_replaces_the_usual_one():
    own = ("x-frame-options", "SAMEORIGIN")
    headers = security_headers(Response(200, headers=(own, ("etag", "1"))))
    assert [value for name, value in headers if name == "x-frame-options"] == ["SAMEORIGIN"]
    assert len(headers) == len(HEADERS) + 1
