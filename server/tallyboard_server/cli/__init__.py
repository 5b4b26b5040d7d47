"""The command `tallyboard`: serve, look at runs, rewind them, find out why no points show, see a demo.

Only `main` is public. The commands live in modules of their own, joined in `commands`.
"""

import sys
from typing import Final

SERVER_EXTRA: Final = frozenset({"apsw", "fastapi", "pydantic", "pydantic_settings", "rich", "typer", "uvicorn"})
"""Packages whose absence means that only the client was installed."""


def main() -> None:
    """Entry point of the console script. Says what to install if the server's parts are missing."""
    try:
        from tallyboard_server.cli.commands import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in SERVER_EXTRA:
            raise
        sys.exit(f"tallyboard: {error.name} is not installed; pip install 'tallyboard[server]'")
    run()
