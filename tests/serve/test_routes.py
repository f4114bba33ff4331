"""What a service answers apart from a running server: before the model is there, when it stops, and when something fails."""

import asyncio
import json
import logging

import pytest

from inkfold.serve.http import HttpLimits
from inkfold.serve.messages import Request, Response
from inkfold.serve.metrics import ServerMetrics
from inkfold.serve.routes import Service
from inkfold.serve.static import StaticFiles


@pytest.fixture
def service(tmp_path):
    return Service(StaticFiles(tmp_path), ServerMetrics(), HttpLimits())


def ask(service, method, path):
    request = Request(method, path, {}, {"host": "localhost"}, b"x")
    response = asyncio.run(service.answer(request, check_host=True))
    return response.status, json.loads(response.body) if response.body[:1] == b"{" else response.body


class Broken:
    """A predictor that fails unexpectedly."""

    async def predict(self, request):
        raise ValueError("secret detail")


class Working:
    """A predictor that answers."""

    async def predict(self, request):
        return Response(200, b"answer")


@pytest.mark.parametrize(("method", "path"), [("POST", "/predict"), ("GET", "/api/model"), ("GET", "/readyz")])
def test_while_the_model_loads_clients_get_503(service, method, path):
    status, body = ask(service, method, path)
    assert (status, body["error"]["code"]) == (503, "loading")
    assert ask(service, "GET", "/healthz")[0] == 200


def test_while_it_stops_it_answers_but_is_not_ready(service):
    service.predictor, service.is_stopping = Working(), True
    assert ask(service, "GET", "/readyz")[1]["error"]["code"] == "stopping"
    assert ask(service, "POST", "/predict") == (200, b"answer")


def test_an_unexpected_error_is_logged_and_not_shown(service, caplog):
    service.predictor = Broken()
    with caplog.at_level(logging.ERROR):
        status, body = ask(service, "POST", "/predict")
    assert (status, body["error"]["code"]) == (500, "internal_error")
    assert "secret" not in json.dumps(body)
    assert "secret detail" in caplog.text


def test_unknown_paths_share_one_metric(service):
    for path in ("/a", "/b", '/"}\n'):
        ask(service, "GET", path)
    text = ask(service, "GET", "/metrics")[1].decode()
    assert 'inkfold_requests_total{path="other",status="404"} 3.0' in text
