import pytest

from inkfold.serve.messages import Refusal
from inkfold.serve.security import check_origin, is_loopback


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST", "192.168.0.5:8000"]
)
def test_addresses_and_localhost_are_served(host):
    check_origin({"host": host})
    check_origin({"host": host, "origin": f"http://{host}"})


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:8000", "localhost.evil.example", "a@localhost", "x/localhost", "[::1"]
)
def test_foreign_names_are_refused(host):
    with pytest.raises(Refusal, match="foreign_host"):
        check_origin({"host": host})


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9000", "http://127.0.0.1:8000"])
def test_foreign_pages_are_refused(origin):
    with pytest.raises(Refusal, match="foreign_origin"):
        check_origin({"host": "localhost:8000", "origin": origin})


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("me.lan", False),
    ],
)
def test_loopback_is_known(host, expected):
    assert is_loopback(host) is expected
