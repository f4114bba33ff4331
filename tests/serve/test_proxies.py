import json

import pytest

from inkfold.errors import InkfoldError
from inkfold.serve.access import AccessOptions
from inkfold.serve.messages import Request
from inkfold.serve.proxies import TrustedProxies, read_networks, read_prefix
from models import write_model
from proxies import DOCS, NAME, PROGRAMS, in_front, missing
from served import bar, png, served

PROXY, CLIENT = "10.0.0.2", "203.0.113.7"
TOKEN = "a-token-of-nineteen"


def resolved(client=PROXY, path="/", trusted=(PROXY,), root_path="", **headers):
    named = {name.replace("_", "-"): value for name, value in {"host": "127.0.0.1:8000", **headers}.items()}
    return TrustedProxies(read_networks(trusted), root_path).resolve(Request("GET", path, {}, named, client=client))


def test_what_a_named_proxy_reports_counts():
    # as Traefik sends it
    request = resolved(
        x_forwarded_for=CLIENT,
        x_forwarded_proto="https",
        x_forwarded_host=NAME,
        x_forwarded_port="443",
        x_forwarded_prefix="/draw",
        x_real_ip=CLIENT,
    )
    assert (request.client, request.scheme, request.headers["host"], request.root_path, request.path) == (
        CLIENT,
        "https",
        NAME,
        "/draw",
        "/",
    )


def test_what_others_report_does_not():
    request = resolved("10.0.0.3", x_forwarded_for=CLIENT, x_forwarded_proto="https", x_forwarded_host=NAME)
    assert (request.client, request.scheme, request.headers["host"]) == ("10.0.0.3", "http", "127.0.0.1:8000")


@pytest.mark.parametrize(
    ("hops", "client"),
    [
        (CLIENT, CLIENT),
        (f"192.0.2.1, {CLIENT}", CLIENT),  # the first was written by the client itself
        (f"192.0.2.1, {CLIENT}, 10.0.0.9", CLIENT),  # 10.0.0.9 is a proxy, too
        (f"{CLIENT}:51234", CLIENT),
        ("[2001:db8::1]:51234", "2001:db8::1"),
        ("2001:DB8::0001", "2001:db8::1"),
        ("unknown", PROXY),
        ("", PROXY),
    ],
)
def test_the_client_is_the_last_address_that_is_no_proxys(hops, client):
    assert resolved(trusted=("10.0.0.0/24",), x_forwarded_for=hops).client == client


@pytest.mark.parametrize(
    ("word", "client"), [("localhost", "::1"), ("localhost", "127.0.0.1"), ("127.0.0.1", "::ffff:127.0.0.1"), ("[::1]", "::1")]
)
def test_proxies_are_named_by_address_or_as_localhost(word, client):
    assert resolved(client, trusted=(word,), x_forwarded_proto="https").scheme == "https"


@pytest.mark.parametrize("prefix", ["draw", "/a b", "/../etc", "/x;Secure", "http://evil.example", "//"])
def test_what_is_no_path_is_no_prefix(prefix):
    assert resolved(x_forwarded_prefix=prefix).root_path == ""


@pytest.mark.parametrize(
    ("path", "rest"), [("/draw/docs", "/docs"), ("/draw", ""), ("/docs", "/docs"), ("/drawing", "/drawing")]
)
def test_a_root_path_is_taken_off_where_the_proxy_left_it(path, rest):
    request = resolved(path=path, root_path="/draw")
    assert (request.path, request.root_path) == (rest, "/draw")


def test_a_proxys_prefix_is_not_taken_off_again():
    assert resolved(path="/docs", x_forwarded_prefix="/docs").path == "/docs"


def test_all_addresses_that_cannot_be_trusted_are_named():
    with pytest.raises(InkfoldError) as caught:
        read_networks(["proxy.lan, 10.0.0.0/8", "300.1.1.1"])
    first, second = str(caught.value).splitlines()
    assert "'proxy.lan', expected an IP address or a network" in first
    assert "'300.1.1.1'" in second
    with pytest.raises(InkfoldError, match="got nothing"):
        read_networks([" "])


def test_a_root_path_is_a_path():
    assert (read_prefix("/draw/"), read_prefix("/"), read_prefix(""), read_prefix("/%EA%B7%B8%EB%A6%BC")) == (
        "/draw",
        "",
        "",
        "/그림",
    )
    with pytest.raises(InkfoldError, match="'draw', expected a path such as /draw"):
        read_prefix("draw")


def test_every_configuration_is_tested_or_in_another_format():
    assert {file.name for file in DOCS.iterdir()} == {*PROGRAMS, "traefik.yaml"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    model = write_model(tmp_path_factory.mktemp("model") / "toy.onnx", sharpness=400.0)
    with served(model, access=AccessOptions(token=TOKEN, allow_hosts=(NAME,), proxies=("127.0.0.1",))) as running:
        yield running


@pytest.mark.parametrize("configuration", PROGRAMS)
def test_the_documented_proxies_pass_the_page_on(server, tmp_path, configuration):
    program = missing(configuration)
    if program is not None:
        pytest.skip(f"{program} isn't installed, which the documented set-up is tested with")
    root = "/draw" if "prefix" in configuration else ""
    with in_front(configuration, server.port, tmp_path) as proxy:
        bearer = {"authorization": f"Bearer {TOKEN}"}
        assert proxy.ask("GET", f"{root}/healthz")[0] == 200
        assert proxy.ask("GET", f"{root}/api/model")[0] == 401
        status, headers, _ = proxy.ask("GET", f"{root}/?token={TOKEN}")
        assert (status, headers["location"]) == (303, "./")
        cookie, *attributes = headers["set-cookie"].split("; ")
        assert attributes == [f"Path={root}/", "HttpOnly", "SameSite=Strict", "Secure"]
        assert b"<title>inkfold" in proxy.ask("GET", f"{root}/", headers={"cookie": cookie})[2]
        own = {"cookie": cookie, "origin": f"https://{proxy.host}"}
        status, _, body = proxy.ask("POST", f"{root}/predict?top=1", png(bar("left")), own)
        assert (status, json.loads(body)["answers"][0]["top"][0]["class_name"]) == (200, "left")
        assert proxy.ask("POST", f"{root}/predict", b"x", {**bearer, "origin": "https://evil.example"})[0] == 400
        assert proxy.ask("POST", f"{root}/predict", b"x" * (8 << 20 | 1), bearer)[0] == 413
        assert proxy.ask("GET", f"{root}/openapi.json", headers={**bearer, "x-forwarded-prefix": "/x"})[0] == 200
        if root:
            status, headers, _ = proxy.ask("GET", root, headers={"cookie": cookie})
            assert (status // 100, headers["location"]) == (3, "/draw/")
