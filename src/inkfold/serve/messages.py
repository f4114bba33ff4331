"""Requests and answers over HTTP, apart from any server; a refusal is an exception that says what to do instead."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

JSON = "application/json; charset=utf-8"
RETRY_AFTER_S = 1
WITHOUT_BODY = (204, 304)


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request whose head and body have arrived whole.

    Attributes:
        method: HTTP method in capitals, such as `POST`.
        path: The path, decoded, without the query.
        query: The last value of each name in the query.
        headers: The last value of each header, by lower-case name.
        body: The whole body; empty where there is none.
        root_path: The path that the server is mounted under, without a slash at its end; `path` doesn't have it.
        client: The IP address of the client, not of a trusted proxy between; empty where it is unknown.
        scheme: `http` or `https`, by which the client reached the server or a trusted proxy.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    root_path: str = ""
    client: str = ""
    scheme: str = "http"


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer that is sent whole: status, headers and body.

    Attributes:
        status: HTTP status code, 200 to 599.
        body: The bytes that are sent; the answer to a HEAD request has their length only.
        content_type: Media type of the body, such as `application/json`.
        headers: Further headers; names in lower case.
    """

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()

    def all_headers(self) -> list[tuple[str, str]]:
        """Return the headers with those of the body; without one, as by 304, neither its length nor its type is said."""
        if self.status in WITHOUT_BODY:
            return list(self.headers)
        return [("content-type", self.content_type), ("content-length", str(len(self.body))), *self.headers]


class Refusal(Exception):  # noqa: N818 - an answer, which the service sends
    """A request that isn't served.

    Args:
        status: HTTP status code, 400 to 599.
        code: A word that programs can compare, such as `too_large`; it never changes.
        reason: What the server got and doesn't serve, as a phrase for people.
        expected: What the server would have served, as a phrase for people.
        do: What the client can do to be served, as a sentence for people.
    """

    def __init__(self, status: int, code: str, reason: str, expected: str, do: str) -> None:
        self.status, self.code, self.reason, self.expected, self.do = status, code, reason, expected, do
        super().__init__(f"{status} {code}: {reason}")

    def response(self, headers: tuple[tuple[str, str], ...] = ()) -> Response:
        """Return the refusal as JSON; where trying again helps, a header says when."""
        words = {"code": self.code, "reason": self.reason, "expected": self.expected, "do": self.do}
        if self.status in (429, 503):
            headers = (*headers, ("retry-after", str(RETRY_AFTER_S)))
        return json_response({"error": words}, self.status, headers)


def json_response(value: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """Return a value as JSON that caches may not keep; NaN is refused, since browsers don't read it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    body = text.encode(errors="replace")  # half a surrogate pair, which clients can write in JSON, is no text
    return Response(status, body, JSON, (("cache-control", "no-store"), *headers))
