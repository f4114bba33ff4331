"""The ASGI application, driven by hand as ASGI 3 says, and once under uvicorn."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading

import pytest
import uvicorn

import inkfold.serve
from inkfold.serve.http import HttpLimits
from inkfold.serve.security import HEADERS
from models import CLASS_NAMES, write_model
from served import bar, png, served
from toy import python

LEFT = png(bar("left"))
SMALL = HttpLimits(body_bytes=1000, held_bytes=1500, body_s=0.2)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "toy.onnx", sharpness=400.0)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    directory = tmp_path_factory.mktemp("site")
    (directory / "index.html").write_text("<!doctype html><title>draw</title>")
    return directory


@pytest.fixture
def build(model, site):
    return lambda **options: inkfold.serve.asgi(model, site=site, **options)


async def ask(
    application, method="GET", path="/", body=b"", *, headers=None, query=b"", root_path="", server=("127.0.0.1", 80)
):
    """Send a whole request in parts of 300 bytes; give status, headers and body of the answer, None where there was none."""
    parts = [body[i : i + 300] for i in range(0, len(body), 300)] or [b""]
    messages = [{"type": "http.request", "body": part, "more_body": part is not parts[-1]} for part in parts]
    return await talk(
        application, messages, scope_of(method, path, headers, query_string=query, root_path=root_path, server=server)
    )


def scope_of(method, path, headers=None, **more):
    headers = [(name.encode(), value.encode()) for name, value in {"host": "localhost", **(headers or {})}.items()]
    return {"type": "http", "asgi": {"version": "3.0"}, "method": method, "path": path, "headers": headers, **more}


async def talk(application, messages, scope):
    queue, sent = asyncio.Queue(), []
    for message in messages:
        queue.put_nowait(message)

    async def send(message):
        sent.append(message)

    await application({"query_string": b"", **scope}, queue.get, send)
    if not sent:
        return None
    start, end = sent
    assert (start["type"], end["type"]) == ("http.response.start", "http.response.body")
    assert not end.get("more_body", False)
    return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, end["body"]


def run(application, scenario):
    async def within():
        async with application:
            return await asyncio.wait_for(scenario(application), 20)

    return asyncio.run(within())


def test_it_answers_as_the_server_does(model, site, build):
    sketch = json.dumps({"strokes": [[[10, 10], [10, 90]]], "width": 100, "height": 100}).encode()
    as_json = {"content-type": "application/json"}
    requests = [
        ("GET", "/", b"", {}),
        ("HEAD", "/", b"", {}),
        ("GET", "/nothing", b"", {}),
        ("GET", "/docs", b"", {}),
        ("GET", "/openapi.json", b"", {}),
        ("GET", "/api/model", b"", {}),
        ("GET", "/readyz", b"", {}),
        ("PUT", "/", b"", {}),
        ("POST", "/predict?top=2", LEFT, {"content-type": "image/png"}),
        ("POST", "/predict?top=x", LEFT, {}),
        ("POST", "/predict", b"", {}),
        ("POST", "/predict", sketch, as_json),
        ("POST", "/predict", b"{}", as_json),
        ("POST", "/predict", b"[" * 90_000, as_json),
        ("GET", "/", b"", {"host": "evil.example"}),
        ("GET", "/", b"", {"origin": "http://evil.example"}),
    ]

    async def scenario(application):
        answers = []
        for method, target, body, headers in requests:
            path, _, query = target.partition("?")
            answers.append(await ask(application, method, path, body, headers=headers, query=query.encode()))
        return answers

    answers = run(build(), scenario)
    with served(model, site=site) as server:
        for (method, target, body, headers), answer in zip(requests, answers, strict=True):
            expected = server.ask(method, target, body, headers)
            assert answer[0] == expected[0]
            assert dict(HEADERS).items() <= answer[1].items()
            if target.startswith("/predict") and answer[0] == 200:
                assert json.loads(answer[2])["answers"] == json.loads(expected[2])["answers"]
            else:
                without_date = {name: text for name, text in expected[1].items() if name != "date"}  # of whoever serves
                assert answer[1:] == (without_date, expected[2])


def test_a_tag_saves_sending_a_file_again(build):
    async def scenario(application):
        tag = (await ask(application))[1]["etag"]
        return await ask(application, headers={"if-none-match": tag})

    status, headers, body = run(build(), scenario)
    assert (status, body) == (304, b"")
    assert "content-length" not in headers


def test_a_body_past_the_limit_is_refused_whether_announced_or_not(build):
    async def scenario(application):
        announced = await talk(application, [], scope_of("POST", "/predict", {"content-length": "1001"}))  # nothing is read
        huge = await talk(application, [], scope_of("POST", "/predict", {"content-length": "9" * 5000}))
        return [announced, huge, await ask(application, "POST", "/predict", b"x" * 1001)]

    for status, headers, body in run(build(limits=SMALL), scenario):
        assert status == 413
        assert json.loads(body)["error"]["code"] == "body_too_large"
        assert dict(HEADERS).items() <= headers.items()


def test_a_body_that_does_not_arrive_in_time_is_refused(build):
    async def scenario(application):
        begun = {"type": "http.request", "body": b"x", "more_body": True}
        return await talk(application, [begun], scope_of("POST", "/predict"))

    assert run(build(limits=SMALL), scenario)[0] == 408


def test_bodies_together_hold_no_more_than_their_limit(build):
    async def scenario(application):
        begun = [{"type": "http.request", "body": b"x" * 900, "more_body": True}]
        stalled = asyncio.create_task(talk(application, begun, scope_of("POST", "/predict")))
        await asyncio.sleep(0.05)
        refused = await ask(application, "POST", "/predict", b"x" * 700)
        return refused, await stalled, await ask(application, "POST", "/predict", b"x" * 700)

    refused, stalled, later = run(build(limits=SMALL), scenario)
    assert (refused[0], json.loads(refused[2])["error"]["code"]) == (503, "out_of_memory")
    assert stalled[0] == 408
    assert later[0] == 422


def test_a_client_that_disconnects_gets_no_answer(build):
    async def scenario(application):
        messages = [{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}]
        return await talk(application, messages, scope_of("POST", "/predict"))

    assert run(build(), scenario) is None


def test_a_mounted_application_takes_its_root_path_off(build):
    async def scenario(application):
        page = await ask(application, path="/draw/", root_path="/draw")
        stripped = await ask(application, path="/healthz", root_path="/draw")  # by servers older than ASGI's 2023 wording
        document = await ask(application, path="/draw/openapi.json", root_path="/draw/")
        other = await ask(application, path="/drawing", root_path="/draw")
        bare = await ask(application, path="/a b/draw", root_path="/a b/draw")
        return page, stripped, document, other, bare

    page, stripped, document, other, bare = run(build(), scenario)
    assert (page[0], page[2]) == (200, b"<!doctype html><title>draw</title>")
    assert stripped[0] == 200
    assert json.loads(document[2])["servers"] == [{"url": "/draw"}]
    assert other[0] == 404
    assert (bare[0], bare[1]["location"]) == (307, "./draw/")


@pytest.mark.parametrize(
    ("check_host", "server", "status"),
    [
        (None, ("127.0.0.1", 80), 400),
        (None, ("::1", 80), 400),
        (None, ("::ffff:127.0.0.1", 80), 400),
        (None, None, 400),
        (None, ("192.168.0.5", 80), 200),
        (True, ("192.168.0.5", 80), 400),
        (False, ("127.0.0.1", 80), 200),
    ],
)
def test_foreign_hosts_are_refused_on_loopback_and_where_it_is_wanted(build, check_host, server, status):
    async def scenario(application):
        return await ask(application, headers={"host": "drawings.example"}, server=server)

    assert run(build(check_host=check_host), scenario)[0] == status


async def live(application, *types):
    """Send lifespan events; give the types of the replies and the last one."""
    queue, sent = asyncio.Queue(), []
    for kind in types:
        queue.put_nowait({"type": f"lifespan.{kind}"})

    async def send(message):
        sent.append(message)

    await application({"type": "lifespan", "asgi": {"version": "3.0"}}, queue.get, send)
    return [message["type"] for message in sent], sent[-1]


def test_lifespan_starts_and_stops_the_threads(build):
    async def scenario():
        application = build()
        for _ in range(2):  # also a second time, as tests' clients do
            replies = asyncio.create_task(live(application, "startup", "shutdown"))
            assert (await replies)[0] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        async with application:
            assert (await ask(application, "POST", "/predict", LEFT))[0] == 200
            assert model_threads()
        assert not model_threads()

    asyncio.run(scenario())


def model_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("inkfold-")]


def test_a_model_that_cant_be_loaded_fails_the_startup_with_its_reason(tmp_path):
    kinds, reply = asyncio.run(live(inkfold.serve.asgi(tmp_path / "none.onnx"), "startup"))
    assert kinds == ["lifespan.startup.failed"]
    assert "no such file or directory" in reply["message"]


def test_without_lifespan_the_first_requests_load_the_model_once(build):
    async def scenario():
        application = build()
        answers = await asyncio.gather(*(ask(application, "POST", "/predict", LEFT) for _ in range(3)))
        await application.shutdown()
        return answers

    assert [status for status, _, _ in asyncio.run(scenario())] == [200] * 3


def test_another_event_loop_is_refused(build):
    application = build()
    with asyncio.Runner() as runner:
        runner.run(application.startup())
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(ask(application))
        runner.run(application.shutdown())


def test_websockets_are_closed_and_unknown_connections_are_an_error(build):
    async def scenario(application):
        sent = []

        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            sent.append(message["type"])

        await application({"type": "websocket"}, receive, send)
        with pytest.raises(ValueError, match="expected http or lifespan"):
            await application({"type": "other"}, receive, send)
        return sent

    assert run(build(), scenario) == ["websocket.close"]


@contextlib.contextmanager
def under_uvicorn(application):
    """Run an application under uvicorn in a thread; give its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(application, lifespan="on", log_level="error", ws="none"))
        thread = threading.Thread(target=asyncio.run, args=(server.serve([listening]),))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def test_uvicorn_serves_it(build):
    with under_uvicorn(build()) as port:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        for side in CLASS_NAMES:
            client.request("POST", "/predict?top=1", png(bar(side)), {"content-type": "image/png"})
            answer = client.getresponse()
            assert answer.status == 200
            assert answer.getheader("content-security-policy")
            assert json.loads(answer.read())["answers"][0]["top"][0]["class_name"] == side
        client.request("POST", "/predict", b"x" * ((8 << 20) + 1))
        with contextlib.suppress(ConnectionError):  # it may be closed while the body is being sent
            assert client.getresponse().status == 413
        client.close()


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, inkfold.serve\nprint(sorted({'numpy', 'h11', 'onnxruntime', 'pydantic'} & set(sys.modules)))"
    assert python(code) == "[]"


def test_the_class_that_the_models_rule_decides_on_comes_first(tmp_path, site):
    rule = {"kind": "weighted", "numbers": [1.0, 1e9, 1.0, 1.0], "scale": 1.0, "offset": 0.0}
    deciding = inkfold.serve.asgi(write_model(tmp_path / "rule.onnx", decision=rule), site=site)

    async def scenario(application):
        return await ask(application, "POST", "/predict", LEFT, headers={"content-type": "image/png"}, query=b"top=3")

    answer = json.loads(run(deciding, scenario)[2])["answers"][0]
    names = [guess["class_name"] for guess in answer["top"]]
    assert names[:2] == [CLASS_NAMES[1], CLASS_NAMES[0]], "the most probable class, the left half, is the second"
    probabilities = [guess["probability"] for guess in answer["top"]]
    assert probabilities[0] < probabilities[1]
