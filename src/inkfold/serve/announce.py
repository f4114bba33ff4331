"""What the user reads when the server listens: where the page is, who reaches it, and what that lacks."""

from urllib.parse import quote

from inkfold.serve.access import Access, AccessOptions
from inkfold.serve.security import is_loopback
from inkfold.serve.tokens import QUERY, SHORT

EVERYWHERE = ("", "::", "0.0.0.0")  # noqa: S104 - compared, not listened on


def url_host(host: str) -> str:
    """Return the host by which a URL on this machine reaches an address that a server listens on.

    Args:
        host: The address, without brackets; empty for all addresses.
    """
    host = "127.0.0.1" if host in EVERYWHERE else host
    return f"[{host}]" if ":" in host else host


def page_link(host: str, port: int, access: Access) -> str:
    """Return the page's address on this machine, with the token where it needs one."""
    token = "" if access.token is None else f"?{QUERY}={quote(access.token.secret, safe='')}"
    return f"http://{url_host(host)}:{port}{quote(access.root_path)}/{token}"


def page_lines(host: str, port: int, access: Access, options: AccessOptions) -> list[str]:
    """Say where the page is, then, in one text, what to know about who reaches it.

    Args:
        host: The address that the server listens on, without brackets; empty for all addresses.
        port: The port that it listens on.
        access: The rules in force, with the token, if there is one.
        options: The rules that the user gave; a token among them is known already, and isn't shown.

    Returns:
        A text, or two, without line ends.
    """
    page, _, token = page_link(host, port, access).partition("?")
    link = f"?{token}" if token and options.token is None else ""
    notes = _warnings(host, access, options)
    if options.proxies:
        notes += [f"behind the proxy: https://{name}{quote(access.root_path)}/{link}" for name in sorted(access.names)]
    if token and not link:
        notes.append(f"browsers open it with ?{QUERY}=TOKEN, programs send 'Authorization: Bearer TOKEN'")
    return [f"page: {page}{link}   interface: {page}docs   stop: Ctrl-C", *(["\n".join(notes)] if notes else [])]


def _warnings(host: str, access: Access, options: AccessOptions) -> list[str]:
    found: list[str] = []
    if not is_loopback(host):
        who = (
            "by anybody, without password or encryption"
            if access.token is None
            else "by those with the token, without encryption"
        )
        advice = "a proxy in front of it brings encryption: docs/serve.md"
        found.append(f"{host or 'every address'} can be reached from other machines, {who}; {advice}.")
    elif options.proxies and access.token is None and not options.no_token:
        found.append("everybody whom the proxy lets in can use it: --token, or --no-token if the proxy asks for a password.")
    if options.proxies and not access.names:
        found.append("behind the proxy only localhost and IP addresses are served: give its public name with --allow-host.")
    if options.token is not None and len(options.token) < SHORT:
        found.append(f"the token has {len(options.token)} characters, and can be guessed: {SHORT} or more are better.")
    return [f"WARNING: {text}" for text in found]
