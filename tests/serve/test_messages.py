import json

import pytest

from inkfold.serve.messages import Refusal, json_response


@pytest.mark.parametrize("status", [400, 404, 405, 413, 415, 422, 429, 503, 504])
def test_a_refusal_says_what_was_got_what_was_expected_and_what_to_do(status):
    response = Refusal(status, "code", "got this", "that", "Do so.").response()
    assert response.status == status
    assert json.loads(response.body) == {"error": {"code": "code", "reason": "got this", "expected": "that", "do": "Do so."}}
    assert ("retry-after" in dict(response.headers)) is (status in (429, 503))


def test_json_is_what_browsers_read():
    assert json_response({"이름": 1}).body.decode() == '{"이름":1}'
    assert json_response({"got": "\ud800"}).body == b'{"got":"?"}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_response(float("nan"))
