"""The token that a server's users know: sent by programs as a header, and by browsers as a cookie that a link sets."""

import hmac
import secrets
from hashlib import blake2b
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from inkfold.errors import InkfoldError
from inkfold.serve.messages import Refusal, Request, Response
from inkfold.serve.security import POLICY

TEMPLATES = Path(__file__).parent / "templates"
HTML = "text/html; charset=utf-8"
QUERY = "token"
MADE_BYTES = 24
SHORT = 16  # characters; fewer can be guessed
FORM_POLICY = POLICY.replace("form-action 'none'", "form-action 'self'")
CHALLENGE = ("www-authenticate", 'Bearer realm="inkfold"')
NO_STORE = ("cache-control", "no-store")


class Token:
    """A secret that every request must carry, but for those about the server's health.

    Args:
        secret: What users must know; printable ASCII without spaces.
    """

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self._digest = _digest(secret, b"inkfold token")
        self._cookie = _digest(secret, b"inkfold cookie").hex()  # the cookie gives the token itself away to nobody
        self._name = f"inkfold-{_digest(secret, b'inkfold name').hex()[:8]}"  # a host's ports share their cookies

    def is_carried_by(self, request: Request) -> bool:
        """Check whether a request has the token as a bearer's, or the cookie; the time doesn't depend on how much is right."""
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_right(value.strip()):
            return True
        try:
            morsel = SimpleCookie(request.headers.get("cookie", "")).get(self._name)
        except CookieError:
            return False
        return morsel is not None and hmac.compare_digest(morsel.value.encode(), self._cookie.encode())

    def follow_link(self, request: Request) -> Response | None:
        """Answer a link that has the token in its query: set the cookie and lead to the same address without the token.

        A browser gets a page that leads on by itself. After a link in somebody else's page it would send a strict cookie on no
        redirect, but it does with what this server's own page opens.

        Args:
            request: Any request.

        Returns:
            The answer; None where the request has no token in its query, or a wrong one.
        """
        if request.method not in ("GET", "HEAD") or not self._is_right(request.query.get(QUERY, "")):
            return None
        address = _relative(request)
        secure = "; Secure" if request.scheme == "https" else ""
        cookie = f"{self._name}={self._cookie}; Path={quote(request.root_path)}/; HttpOnly; SameSite=Strict{secure}"
        headers = (("set-cookie", cookie), NO_STORE)
        if _is_read_by_people(request):
            return Response(200, _page(address), HTML, headers)
        return Response(303, headers=(("location", address), *headers))

    def refuse(self, request: Request) -> Response:
        """Answer a request without the token: people get a page where they can type it.

        Raises:
            Refusal: With 401 where the request isn't one of a person for a page.
        """
        if _is_read_by_people(request) and request.path.count("/") == 1:
            return Response(401, _page(), HTML, (CHALLENGE, NO_STORE, ("content-security-policy", FORM_POLICY)))
        is_wrong = "authorization" in request.headers or QUERY in request.query
        got = "another token" if is_wrong else "no token"
        do = "Send the header 'Authorization: Bearer TOKEN', or open the link that the server printed when it started."
        raise Refusal(401, "no_token", f"got {got}", "the server's token", do)

    def _is_right(self, text: str) -> bool:
        return hmac.compare_digest(_digest(text, b"inkfold token"), self._digest)


def make_token() -> str:
    """Make a token of 192 random bits, for a server whose user gave none."""
    return secrets.token_urlsafe(MADE_BYTES)


def check_token(secret: str) -> None:
    """Check that a token can be sent in a header.

    Raises:
        InkfoldError: If it is empty, or has other characters than printable ASCII ones.
    """
    if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
        got = "nothing" if not secret else "one with spaces or characters that are not printable ASCII"
        raise InkfoldError(f"--token: got {got}, expected letters and digits, {SHORT} or more. Leave it out and one is made.")


def _digest(text: str, purpose: bytes) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16, person=purpose).digest()


def _relative(request: Request) -> str:
    """Return the request's own address without the token, relative to itself, which holds behind any proxy."""
    query = urlencode({name: value for name, value in request.query.items() if name != QUERY})
    return f"./{quote(request.path.rpartition('/')[2])}" + (f"?{query}" if query else "")


def _is_read_by_people(request: Request) -> bool:
    return request.method in ("GET", "HEAD") and "text/html" in request.headers.get("accept", "").lower()


def _page(address: str | None = None) -> bytes:
    """Draw the page that leads on to an address, or asks for the token where there is none."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("token.html.j2").render(address=address).encode()
