"""What is asked over HTTP and what is answered; a refusal is an exception that says what to do instead."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

JSON = "application/json; charset=utf-8"
RETRY_AFTER_S = 1


@dataclass(frozen=True, slots=True)
class Request:
    """One whole request.

    Attributes:
        method: In capitals.
        path: Decoded, without the query.
        query: The last value of each name.
        headers: By lower-case name.
        body: All of it; empty without any.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """One whole answer.

    Attributes:
        status: HTTP's number.
        body: What is sent; of a HEAD request only its length is.
        content_type: Of the body.
        headers: Further ones.
    """

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class Refusal(Exception):  # noqa: N818 - an answer, which the service sends
    """A request that isn't served.

    Args:
        status: HTTP's number.
        code: A stable word for programs.
        reason: What was got.
        expected: What would have been served.
        do: What the client can do.
    """

    def __init__(self, status: int, code: str, reason: str, expected: str, do: str) -> None:
        self.status, self.code, self.reason, self.expected, self.do = status, code, reason, expected, do
        super().__init__(f"{status} {code}: {reason}")

    def response(self, headers: tuple[tuple[str, str], ...] = ()) -> Response:
        """Give the refusal as JSON; clients that may come back are told when."""
        words = {"code": self.code, "reason": self.reason, "expected": self.expected, "do": self.do}
        if self.status in (429, 503):
            headers = (*headers, ("retry-after", str(RETRY_AFTER_S)))
        return json_response({"error": words}, self.status, headers)


def json_response(value: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """Give a value as JSON; NaN is refused, since browsers don't read it.

    Args:
        value: Of JSON's types.
        status: HTTP's number.
        headers: Further ones.

    Returns:
        The answer, which nothing may keep.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    body = text.encode(errors="replace")  # half a surrogate pair, which clients can write in JSON, is no text
    return Response(status, body, JSON, (("cache-control", "no-store"), *headers))
