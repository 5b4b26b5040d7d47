"""The command `tallyboard`: serve, look at runs, rewind them, find out why no points show, see a demo.

Only `main` is public. The commands live in modules of their own, joined in `commands`.
"""

import sys
from typing import Final

SERVER_EXTRA: Final = frozenset({"apsw", "fastapi", "pydantic", "pydantic_settings", "rich", "typer", "uvicorn"})
"""Packages whose absence means that only the client was installed."""
CLIENT_COMMANDS: Final = frozenset({"sync", "import", "watch"})
"""Which need nothing but the client."""


def main() -> None:
    """Entry point of the console script. Without the server's parts, what needs the client only works all the same."""
    try:
        from tallyboard_server.cli.commands import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in SERVER_EXTRA:
            raise
        if sys.argv[1:2] and sys.argv[1] in CLIENT_COMMANDS:
            from tallyboard.__main__ import main as client_main

            sys.exit(client_main())
        sys.exit(f"tallyboard: {error.name} is not installed; pip install 'tallyboard[server]'")
    run()
