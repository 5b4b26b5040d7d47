"""The page at /docs: Swagger UI from this service's own files, under a policy that lets nothing else run."""

import base64
import hashlib
import re
from typing import Final

from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

PATH: Final = "/docs"
ASSETS: Final = "/docs-assets"
_INLINE: Final = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_CSP: Final = (
    "default-src 'none'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Swagger UI writes styles into its elements."""


def routes(title: str, openapi_path: str) -> list[BaseRoute]:
    """What an app has to have besides the files below ASSETS for the page to be there."""

    async def page(request: Request) -> Response:
        root = request.scope.get("root_path", "")
        shown = get_swagger_ui_html(
            openapi_url=f"{root}{openapi_path}",
            title=title,
            swagger_js_url=f"{root}{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{root}{ASSETS}/favicon.png",
        )
        html = bytes(shown.body).decode()
        hashes = " ".join(_hash(script) for script in _INLINE.findall(html))
        return HTMLResponse(html, headers={"Content-Security-Policy": _CSP.format(hashes=hashes)})

    return [Route(PATH, page, include_in_schema=False)]


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
