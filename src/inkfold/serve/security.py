"""Who may ask, and what browsers are told not to do: the check against DNS rebinding, and the security headers."""

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
    """Say whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_origin(headers: Mapping[str, str]) -> None:
    """Refuse what a foreign page sends to a server on loopback.

    A page can let its own name point to 127.0.0.1 and then read what this server answers; the browser's Host header still
    has that name. An address in it can't be such a trick. Other pages' requests carry their own origin.

    Args:
        headers: By lower-case name.

    Raises:
        Refusal: With 400 if the host is a foreign name, or the origin another one's.
    """
    given = headers.get("host", "")
    found = HOST.fullmatch(given)
    name = found[1].strip("[]").lower() if found else ""
    if name != "localhost" and not _is_address(name):
        do = "Open the page by that address."
        raise Refusal(400, "foreign_host", f"got the host {given[:80]!r}", "localhost or an IP address", do)
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != given:
        raise Refusal(400, "foreign_origin", f"got the origin {origin[:80]!r}", "this server's own page", "Ask from there.")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
