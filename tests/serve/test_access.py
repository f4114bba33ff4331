import pytest

from inkfold.errors import InkfoldError
from inkfold.serve.access import Access, AccessOptions, read_names
from inkfold.serve.messages import Refusal, Request, Response

NAME, PROXY = "draw.example.com", "10.0.0.2"
TOKEN = "a-token-of-nineteen"


def request(path="/", method="GET", client="203.0.113.7", **headers):
    named = {name.replace("_", "-"): value for name, value in {"host": NAME, **headers}.items()}
    return Request(method, path, {}, named, client=client)


@pytest.fixture
def access():
    return Access(AccessOptions(token=TOKEN, allow_hosts=(NAME,), proxies=(PROXY,)))


def refusal(access, request):
    with pytest.raises(Refusal) as caught:
        access.admit(request)
    return caught.value.code


def test_without_rules_everybody_is_served_by_address():
    assert Access().admit(request(host="192.168.0.5")).path == "/"
    assert refusal(Access(), request()) == "foreign_host"
    assert Access().admit(request(), check_hosts=False).path == "/"


def test_health_needs_no_token_but_the_right_name(access):
    for path in ("/healthz", "/readyz"):
        assert access.admit(request(path)).path == path
        assert refusal(access, request(path, host="evil.example")) == "foreign_host"


@pytest.mark.parametrize("path", ["/", "/predict", "/api/model", "/metrics", "/docs", "/main.js", "/healthz/", "//healthz"])
def test_everything_else_needs_the_token(access, path):
    assert refusal(access, request(path)) == "no_token"
    assert access.admit(request(path, authorization=f"Bearer {TOKEN}")).path == path


def test_the_host_that_arrives_and_the_one_that_a_proxy_reports_are_both_checked(access):
    assert refusal(access, request(client=PROXY, host="evil.example", x_forwarded_host=NAME)) == "foreign_host"
    assert refusal(access, request(client=PROXY, host="127.0.0.1", x_forwarded_host="evil.example")) == "foreign_host"


def test_behind_a_proxy_that_replaces_the_host_pages_of_its_name_are_its_own(access):
    own = {"host": "127.0.0.1:8000", "origin": f"https://{NAME}", "authorization": f"Bearer {TOKEN}"}
    assert access.admit(request(client=PROXY, **own)).client == PROXY
    assert refusal(access, request(**own)) == "foreign_origin"


def test_what_is_wrong_with_the_rules_is_said_all_at_once():
    options = AccessOptions("a b", False, ("http://x.y/", "*.x.y", ""), ("proxy",), "draw")
    with pytest.raises(InkfoldError) as caught:
        Access(options)
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["--token", *["--allow-host"] * 3, "--behind-proxy", "--root-path"]


def test_a_token_and_none_is_a_contradiction():
    with pytest.raises(InkfoldError, match="both a token and --no-token"):
        Access(AccessOptions(token=TOKEN, no_token=True))


def test_names_are_read_as_browsers_send_them():
    names = read_names(["Draw.Example.COM:8443,a_b", "zeichnen.münchen.example.", "::1"])
    assert names == {"draw.example.com", "a_b", "zeichnen.xn--mnchen-3ya.example", "::1"}


def test_the_prefix_without_its_slash_leads_to_the_one_with_it():
    access = Access(AccessOptions(token=TOKEN, root_path="/a b/draw".replace(" ", "%20")))
    answer = access.admit(request("/a b/draw", host="localhost"))
    assert isinstance(answer, Response)
    assert (answer.status, dict(answer.headers)["location"]) == (307, "./draw/")


def test_the_port_of_the_figures_needs_the_name_and_no_token(access):
    assert access.admit_monitor(request("/metrics")).path == "/metrics"
    with pytest.raises(Refusal, match="foreign_host"):
        access.admit_monitor(request("/metrics", host="evil.example"))
