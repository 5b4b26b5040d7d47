"""Writes what the page uses of the service's own OpenAPI document to standard output: its types are made of that."""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from tallyboard_server.app import create_app
from tallyboard_server.settings import Settings

USED: Final = (
    "/api/v1/runs", "/api/v1/runs/{run}", "/api/v1/query", "/api/v1/refused/{run}", "/api/v1/live", "/api/v1/tags",
    "/api/v1/columns",
)  # fmt: skip


def used(document: dict[str, Any]) -> dict[str, Any]:
    """All schemas, and of the paths that are used what is sent and answered; errors are problems everywhere."""
    paths = {path: document["paths"][path] for path in USED if path in document["paths"]}
    for path in paths.values():
        for operation in path.values():
            answers = operation["responses"]
            operation["responses"] = {status: answers[status] for status in answers if status.startswith("2")}
    return document | {"paths": paths}


def main() -> None:
    """The document of an app that is never served."""
    with TemporaryDirectory() as folder:
        app = create_app(Settings(data_dir=Path(folder)))
    json.dump(used(app.fastapi.openapi()), sys.stdout)


if __name__ == "__main__":
    main()
