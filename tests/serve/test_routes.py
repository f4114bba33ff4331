"""What a service answers apart from a running server: before the model is there, when it stops, and when something fails."""

import asyncio
import json
import logging

import pytest

from inkfold.serve.http import HttpLimits
from inkfold.serve.messages import Request, Response
from inkfold.serve.metrics import Counters
from inkfold.serve.routes import Service
from inkfold.serve.static import StaticFiles


@pytest.fixture
def service(tmp_path):
    return Service(StaticFiles(tmp_path), Counters(), HttpLimits(), guarded=True)


def ask(service, method, path):
    response = asyncio.run(service.answer(Request(method, path, {}, {"host": "localhost"}, b"x")))
    return response.status, json.loads(response.body) if response.body[:1] == b"{" else response.body


class Broken:
    """A desk that fails in a way that nobody foresaw."""

    async def predict(self, request):
        raise ValueError("secret detail")


class Working:
    """A desk that answers."""

    async def predict(self, request):
        return Response(200, b"answer")


@pytest.mark.parametrize(("method", "path"), [("POST", "/predict"), ("GET", "/api/model"), ("GET", "/readyz")])
def test_while_the_model_loads_clients_are_told_to_come_back(service, method, path):
    status, told = ask(service, method, path)
    assert (status, told["error"]["code"]) == (503, "loading")
    assert ask(service, "GET", "/healthz")[0] == 200


def test_while_it_stops_it_answers_but_is_not_ready(service):
    service.desk, service.is_stopping = Working(), True
    assert ask(service, "GET", "/readyz")[1]["error"]["code"] == "stopping"
    assert ask(service, "POST", "/predict") == (200, b"answer")


def test_what_nobody_foresaw_is_logged_and_not_told(service, caplog):
    service.desk = Broken()
    with caplog.at_level(logging.ERROR):
        status, told = ask(service, "POST", "/predict")
    assert (status, told["error"]["code"]) == (500, "internal_error")
    assert "secret" not in json.dumps(told)
    assert "secret detail" in caplog.text


def test_paths_that_nobody_knows_share_one_figure(service):
    for path in ("/a", "/b", '/"}\n'):
        ask(service, "GET", path)
    text = asyncio.run(service.answer(Request("GET", "/metrics", {}, {"host": "localhost"}))).body.decode()
    assert 'inkfold_requests_total{path="other",status="404"} 3' in text
