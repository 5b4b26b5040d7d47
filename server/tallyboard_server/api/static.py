"""The dashboard's files as they were built: index.html at the root, hashed assets, whatever else stands beside them."""

import re
import stat
from pathlib import Path
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC: Final = Path(__file__).parents[1] / "static"
"""Where the build puts them; not there in a source tree that was never built."""
INDEX: Final = "index.html"
ASSETS: Final = "assets"

PAGE_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_ALWAYS_ASK: Final = "no-cache"
_ENCODINGS: Final = (("br", ".br"), ("gzip", ".gz"))
"""Compressed when they were built; the first one that the browser takes, and that is there, is sent."""
_NOT_TAKEN: Final = re.compile(r";\s*q=0(\.0*)?\s*$", re.ASCII)
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
"""By us: what the system's table of types says differs from machine to machine."""


class BuiltFiles(StaticFiles):
    """The files of one folder. immutable: their names change with their content."""

    def __init__(self, folder: Path, *, immutable: bool) -> None:
        super().__init__(directory=folder, check_dir=False)
        self.config_checked = True  # whether it is there is seen when it is asked for
        self._folder = folder
        self._caching = _FOR_EVER if immutable else _ALWAYS_ASK

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self._folder / name).is_file()

    async def get_response(self, path: str, scope: Scope) -> Response:
        """As StaticFiles, compressed if it was so built; raises HTTPException."""
        response = await self._compressed(path, scope) or await super().get_response(path, scope)
        response.headers["Cache-Control"] = self._caching
        response.headers["Vary"] = "Accept-Encoding"
        response.headers["Content-Security-Policy"] = PAGE_CSP
        response.headers["Referrer-Policy"] = "same-origin"  # with none, browsers send `Origin: null` with a form
        if response.status_code < 300 and (media_type := _TYPES.get(Path(path).suffix)):
            response.headers["Content-Type"] = media_type
        return response

    async def _compressed(self, path: str, scope: Scope) -> Response | None:
        header = Headers(scope=scope).get("accept-encoding", "")
        accepted = {part.partition(";")[0].strip() for part in header.split(",") if not _NOT_TAKEN.search(part)}
        for encoding, ending in _ENCODINGS:
            if encoding in accepted and scope["method"] in ("GET", "HEAD"):
                full_path, found = await run_in_threadpool(self.lookup_path, path + ending)
                if found is not None and stat.S_ISREG(found.st_mode):
                    response = self.file_response(full_path, found, scope)
                    response.headers["Content-Encoding"] = encoding
                    return response
        return None


def routes(page: BuiltFiles, folder: Path) -> list[BaseRoute]:
    """What an app needs besides `/` for the page to be there: its assets, and the files beside index.html."""

    async def beside(request: Request) -> Response:
        return await page.get_response(request.url.path.rpartition("/")[2], request.scope)

    names = sorted(path.name for path in folder.glob("*.*") if path.name != INDEX and path.suffix in _TYPES)
    return [
        *(Route(f"/{name}", beside, include_in_schema=False) for name in names),
        Mount(f"/{ASSETS}", BuiltFiles(folder / ASSETS, immutable=True)),
    ]
