"""Which pages may send requests, and what browsers may do with answers: a check against DNS rebinding, and security headers."""

import ipaddress
import re
from collections.abc import Mapping

from inkfold.serve.messages import Refusal

HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::\d+)?")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = (
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
)


def is_loopback(host: str) -> bool:
    """Check whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_origin(headers: Mapping[str, str]) -> None:
    """Refuse requests that a foreign web page sends to a server on loopback.

    A page can let its own domain point to 127.0.0.1 and then read this server's answers (DNS rebinding); the browser's Host
    header still has that domain, never an IP address. Requests of other pages carry those pages' origin.

    Raises:
        Refusal: With 400 if the host is a domain other than localhost, or the origin isn't this server.
    """
    host = headers.get("host", "")
    match = HOST.fullmatch(host)
    name = match[1].strip("[]").lower() if match else ""
    if name != "localhost" and not _is_address(name):
        do = "Open the page by that address."
        raise Refusal(400, "foreign_host", f"got the host {host[:80]!r}", "localhost or an IP address", do)
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        raise Refusal(
            400, "foreign_origin", f"got the origin {origin[:80]!r}", "this server's own page", "Send the request from there."
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
