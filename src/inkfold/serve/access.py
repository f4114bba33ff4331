"""Who is served beyond this machine: the rules of one server, and the check of each request against them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar
from urllib.parse import quote

from inkfold.errors import InkfoldError
from inkfold.serve.messages import Request, Response
from inkfold.serve.proxies import Network, TrustedProxies, read_networks, read_prefix
from inkfold.serve.security import check_host, check_origin, is_name, normal_name, split_host
from inkfold.serve.tokens import Token, check_token

PUBLIC = frozenset({"/healthz", "/readyz", "/docs.css"})  # without the token

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class AccessOptions:
    """Who may use a server.

    Attributes:
        token: What clients must send; None makes one where other machines reach the server, and needs none elsewhere.
        no_token: Whether everybody who reaches the server may use it.
        allow_hosts: The names by which the server is reached, besides `localhost` and IP addresses.
        proxies: IP addresses and networks of the proxies whose `X-Forwarded-*` headers count.
        root_path: The path below which a proxy has the server, such as `/draw`; empty for none.
        metrics_port: The port of `/metrics`, which then needs no token; None leaves it beside the page.
    """

    token: str | None = None
    no_token: bool = False
    allow_hosts: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    root_path: str = ""
    metrics_port: int | None = None


class Access:
    """The check of each request against the rules of a server.

    Args:
        options: The rules; None takes the defaults. Without a token in them no request needs one: the server makes it.

    Raises:
        InkfoldError: If the token, names, addresses or the path can't be used; a problem per line.
    """

    def __init__(self, options: AccessOptions | None = None) -> None:
        options, problems = options or AccessOptions(), []

        def attempt(read: Callable[[], Value], otherwise: Value) -> Value:
            try:
                return read()
            except InkfoldError as error:
                problems.append(str(error))
                return otherwise

        self.token = attempt(lambda: _read_token(options), None)
        no_names: frozenset[str] = frozenset()
        no_networks: tuple[Network, ...] = ()
        self.names = attempt(lambda: read_names(options.allow_hosts), no_names)
        networks = attempt(lambda: read_networks(options.proxies), no_networks)
        self.root_path = attempt(lambda: read_prefix(options.root_path), "")
        if problems:
            raise InkfoldError("\n".join(problems))
        self._proxies = TrustedProxies(networks, self.root_path)

    def admit(self, request: Request, *, check_hosts: bool = True) -> Request | Response:
        """Check who sends a request.

        Args:
            request: As it arrived, with the address that it arrived from.
            check_hosts: Whether requests of foreign hosts and origins are refused.

        Returns:
            The request as the client sent it to a proxy, for an answer; or the answer to a request that gets no other.

        Raises:
            Refusal: With 400 for foreign hosts and origins, 401 without the token.
        """
        is_forwarded = self._proxies.trusts(request.client)
        if check_hosts:
            check_host(request.headers, self.names)
        request = self._proxies.resolve(request)
        if check_hosts:
            check_host(request.headers, self.names)
            check_origin(request.headers, self.names if is_forwarded else frozenset())
        if not request.path:
            return _add_slash(request)
        if self.token is None or request.path in PUBLIC:
            return request
        answer = self.token.follow_link(request)
        if answer is None and not self.token.is_carried_by(request):
            answer = self.token.refuse(request)
        return request if answer is None else answer

    def admit_monitor(self, request: Request) -> Request:
        """Check a request on the port of the figures, which needs no token.

        Raises:
            Refusal: With 400 for foreign hosts.
        """
        check_host(request.headers, self.names)
        return request


def read_names(texts: Sequence[str]) -> frozenset[str]:
    """Read the names by which a server is reached.

    Args:
        texts: Names such as `draw.example.com`, whose port, if any, is left out; several in one text are separated by commas.

    Returns:
        The names in the form that `normal_name` gives them.

    Raises:
        InkfoldError: If one is no name of a host; a problem per line.
    """
    words = [word.strip() for text in texts for word in text.split(",")]
    names = {word: _ascii_name(split_host(word)[0]) for word in words}
    expected = "a host's name such as draw.example.com, without scheme, path and wildcard"
    problems = [f"--allow-host: got {word!r}, expected {expected}." for word, name in names.items() if not is_name(name)]
    if problems:
        raise InkfoldError("\n".join(problems))
    return frozenset(names.values())


def _ascii_name(name: str) -> str:
    """Return a name in the form in which browsers send it, where letters beyond ASCII are encoded (IDNA)."""
    try:
        return normal_name(name if name.isascii() else name.encode("idna").decode("ascii"))
    except UnicodeError:
        return ""


def with_token(options: AccessOptions, token: str) -> AccessOptions:
    """Return the rules with a token in them."""
    return replace(options, token=token)


def _read_token(options: AccessOptions) -> Token | None:
    if options.token is None:
        return None
    if options.no_token:
        raise InkfoldError("got both a token and --no-token, expected one of them. Leave out --token (or INKFOLD_TOKEN).")
    check_token(options.token)
    return Token(options.token)


def _add_slash(request: Request) -> Response:
    """Add the slash that the page's relative links need."""
    return Response(307, headers=(("location", f"./{quote(request.root_path.rpartition('/')[2])}/"),))
