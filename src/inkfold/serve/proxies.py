"""What named proxies in front of the server report of the requests that they got: client, scheme, host and path."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import unquote

from inkfold.errors import InkfoldError
from inkfold.serve.messages import Request
from inkfold.serve.security import split_host

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PREFIX = re.compile(r"(?:/[A-Za-z0-9._~%!$&'()*+,=:@-]+)*")
DOTS = {".", ".."}
FORWARDED = "x-forwarded-"


class TrustedProxies:
    """The proxies whose `X-Forwarded-*` headers count; those of all others are ignored.

    Args:
        networks: The addresses from which the proxies connect; none where there is no proxy.
        root_path: The path below which the server is reached from outside, decoded, without a slash at its end.
    """

    def __init__(self, networks: Sequence[Network] = (), root_path: str = "") -> None:
        self._networks, self._root_path = tuple(networks), root_path

    def trusts(self, client: str) -> bool:
        """Check whether an address is one of a proxy."""
        try:
            address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(client)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address):
            address = address.ipv4_mapped or address
        return any(address.version == network.version and address in network for network in self._networks)

    def resolve(self, request: Request) -> Request:
        """Return the request as the client sent it to the proxy.

        Of each header the last value counts, which is the one that the nearest proxy wrote. `X-Forwarded-For` is read from its
        end up to the first address that is no proxy's.

        Args:
            request: As it arrived, with the address that it arrived from.

        Returns:
            The request with the client's address, the scheme, host and path prefix of the outside.
        """
        if self._root_path and not request.root_path:
            request = replace(request, path=_below(request.path, self._root_path), root_path=self._root_path)
        if not self.trusts(request.client):
            return request
        headers = request.headers
        scheme, host, prefix = (_last(headers.get(FORWARDED + name, "")) for name in ("proto", "host", "prefix"))
        return replace(
            request,
            client=self._client(request),
            scheme=scheme.lower() if scheme.lower() in ("http", "https") else request.scheme,
            headers={**headers, "host": host} if host else headers,
            root_path=_prefix(prefix) or request.root_path,
        )

    def _client(self, request: Request) -> str:
        client = request.client
        for hop in reversed(request.headers.get(FORWARDED + "for", "").split(",")):
            name, _ = split_host(hop.strip())
            try:
                client = ipaddress.ip_address(name).compressed
            except ValueError:
                break
            if not self.trusts(client):
                break
        return client


def read_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Read the addresses of proxies.

    Args:
        texts: IP addresses, networks such as `10.0.0.0/8`, or `localhost`; several in one text are separated by commas.

    Raises:
        InkfoldError: If one is neither; a problem per line.
    """
    words = [word.strip() for text in texts for word in text.split(",") if word.strip()]
    networks, problems = [], []
    for word in words:
        for address in ("127.0.0.0/8", "::1") if word.lower() == "localhost" else (word.strip("[]"),):
            try:
                networks.append(ipaddress.ip_network(address, strict=False))
            except ValueError:
                expected = "an IP address or a network such as 10.0.0.0/8, from which the proxy connects"
                problems.append(f"--behind-proxy: got {word!r}, expected {expected}. A name can't be trusted: it is anybody's.")
    if problems or (texts and not words):
        raise InkfoldError(
            "\n".join(problems) or "--behind-proxy: got nothing, expected the proxy's address, such as 127.0.0.1."
        )
    return tuple(networks)


def read_prefix(text: str) -> str:
    """Read the path below which the server is reached from outside: decoded, without a slash at its end, empty for none.

    Raises:
        InkfoldError: If it is no path.
    """
    prefix = _prefix(text)
    if text.strip("/") and not prefix:
        raise InkfoldError(f"--root-path: got {text!r}, expected a path such as /draw. Non-ASCII letters are percent-encoded.")
    return prefix


def _prefix(text: str) -> str:
    """Decode a path prefix, without a slash at its end; empty where it is no path."""
    prefix = text.rstrip("/")
    return unquote(prefix) if PREFIX.fullmatch(prefix) and not DOTS & set(prefix.split("/")) else ""


def _below(path: str, root: str) -> str:
    """Take a prefix off a path; the rest is empty where the prefix's own slash is missing."""
    return path[len(root) :] if path == root or path.startswith(root + "/") else path


def _last(values: str) -> str:
    return values.rpartition(",")[2].strip()
