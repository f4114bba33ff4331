"""The page's files, read once and served from memory, each with its type and a digest by which browsers see a change."""

from collections.abc import Mapping
from pathlib import Path

from inkfold.serve.messages import Request, Response
from inkfold.storage.hashing import digest

SITE = Path(__file__).parent / "site"
INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/vnd.microsoft.icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}


class StaticFiles:
    """The files of a directory, by their paths in URLs.

    Args:
        directory: The directory that holds the files; those of other types than `TYPES` are left out.
    """

    def __init__(self, directory: Path = SITE) -> None:
        self._files: Mapping[str, Response] = {
            "/" + path.relative_to(directory).as_posix(): _file(path)
            for path in sorted(directory.rglob("*"))
            if path.is_file() and path.suffix in TYPES
        }

    def find(self, request: Request) -> Response | None:
        """Return a file, or 304 where the client's copy is current; None where there is no such file."""
        path = "/" + INDEX if request.path == "/" else request.path
        response = self._files.get(path)
        if response is None:
            return None
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if dict(response.headers)["etag"] in known:
            return Response(304, b"", response.content_type, response.headers)
        return response


def _file(path: Path) -> Response:
    data = path.read_bytes()
    return Response(200, data, TYPES[path.suffix], (("etag", f'"{digest(data)}"'), ("cache-control", "no-cache")))
