"""Which names and pages may reach the server (a check against DNS rebinding), and what browsers may do with answers."""

import ipaddress
import re
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from inkfold.errors import InkfoldError
from inkfold.serve.messages import Refusal, Response

HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::(\d{0,5}))?")
NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
EVERYWHERE = ("", "::")
DEFAULT_PORTS = {"http": 80, "https": 443}
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


def security_headers(response: Response) -> tuple[tuple[str, str], ...]:
    """Return the answer's own headers with all of `HEADERS` that it doesn't set itself."""
    own = {name for name, _ in response.headers}
    return (*response.headers, *(header for header in HEADERS if header[0] not in own))


def is_loopback(host: str) -> bool:
    """Check whether an address, or a name by what it resolves to, can be reached from this machine only.

    Args:
        host: An IP address, with or without brackets, or a name; an empty one stands for all addresses of this machine.
    """
    name = host.removeprefix("[").removesuffix("]")
    if _is_address(name):
        return _is_loopback_address(name)
    addresses = resolve(name)
    return bool(addresses) and all(map(_is_loopback_address, addresses))


def resolve(host: str) -> list[str]:
    """Return the addresses that a name stands for on this machine; none where it has none.

    Args:
        host: An IP address or a name; an empty one and `::` stand for all addresses of this machine, of both IP versions.
    """
    try:
        found = socket.getaddrinfo(
            None if host in EVERYWHERE else host.lower(), 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


def split_host(text: str) -> tuple[str, int | None]:
    """Split `name:port`, where an IPv6 address with a port has brackets; the port is None where there is none.

    Args:
        text: A name or an IP address, such as `localhost:8000`, `::1`, `[::1]` or `[::1]:8000`.

    Returns:
        The name without brackets, as it was written, and the port, 0 to 99,999; an empty name where the text is neither.
    """
    if _is_address(text):
        return text, None
    match = HOST.fullmatch(text)
    if match is None:
        return "", None
    return match[1].strip("[]"), int(match[2]) if match[2] else None


def split_listen(text: str, port: int | None = None) -> tuple[str, int | None]:
    """Split the address to listen on, which may have a port of its own.

    Args:
        text: An IP address or a name, such as `0.0.0.0`, `::`, `[::1]` or `localhost:9000`; empty for all addresses.
        port: The port that was asked for beside it, if any.

    Returns:
        The address without brackets, and the port; None where none was asked for.

    Raises:
        InkfoldError: If the text is no address, or the two ports differ.
    """
    text = text.strip()
    host, own_port = split_host(text)
    if text and not host:
        got = f"--host: got {text!r}, expected an address or a name, such as 0.0.0.0, ::1, [::1]:8000 or localhost"
        raise InkfoldError(f"{got}. Give it without scheme and path.")
    if own_port is not None and port not in (None, own_port):
        raise InkfoldError(f"--host: got {text!r} beside --port {port}, expected one port. Leave one of them out.")
    return host, port if own_port is None else own_port


def check_host(headers: Mapping[str, str], names: frozenset[str] = frozenset()) -> None:
    """Refuse requests that name another server in their Host header.

    A web page can let its own domain point to this machine and then read this server's answers (DNS rebinding); the browser's
    Host header still has that domain, never an IP address.

    Args:
        headers: The request's headers by lower-case name.
        names: The names besides `localhost` that this server has, as `normal_name` returns them.

    Raises:
        Refusal: With 400 if the host is no IP address, not localhost and none of the names.
    """
    host = headers.get("host", "")
    name = normal_name(split_host(host)[0])
    if name != "localhost" and name not in names and not _is_address(name):
        do = "Open the page by that address, or start the server with --allow-host and this name, if it is the server's."
        expected = ", ".join(["localhost", "an IP address", *sorted(names)])
        raise Refusal(400, "foreign_host", f"got the host {host[:80]!r}", expected, do)


def check_origin(headers: Mapping[str, str], names: frozenset[str] = frozenset()) -> None:
    """Refuse requests that a foreign web page sends, which carry that page's origin.

    Args:
        headers: The request's headers by lower-case name; `host` is the one that the browser sees.
        names: Names whose pages are this server's own whatever `host` says, as behind a proxy that replaces it.

    Raises:
        Refusal: With 400 if there is an origin, and it isn't this server.
    """
    origin = headers.get("origin")
    if origin is not None and not _is_own(origin, headers.get("host", ""), names):
        do = "Send the request from there."
        raise Refusal(400, "foreign_origin", f"got the origin {origin[:80]!r}", "this server's own page", do)


def normal_name(name: str) -> str:
    """Return a host's name or address in the one form in which they can be compared."""
    if _is_address(name):
        return ipaddress.ip_address(name).compressed
    return name.lower().removesuffix(".")


def is_name(name: str) -> bool:
    """Check whether a text in the form of `normal_name` can be a host's name or address."""
    return NAME.fullmatch(name) is not None or _is_address(name)


def _is_own(origin: str, host: str, names: frozenset[str]) -> bool:
    try:
        parts = urlsplit(origin)
        name, port = normal_name(parts.hostname or ""), parts.port
    except ValueError:
        return False
    if parts.scheme not in DEFAULT_PORTS or not name:
        return False
    if name in names:
        return True
    own_name, own_port = split_host(host)
    default = DEFAULT_PORTS[parts.scheme]
    return name == normal_name(own_name) and (port or default) == (own_port or default)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback_address(text: str) -> bool:
    address = ipaddress.ip_address(text)
    inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (inner or address).is_loopback
